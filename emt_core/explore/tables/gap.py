"""What gap.json says, arranged for a reader: clustered order, who is nearest to whom, the matrix as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emt_core.workspace.words import and_list

PAPER_DIVERSITY = {
    "VLM pool": 1.85,
    "general part": 1.96,
    "embodied-oriented part": 1.62,
    "VLA data": 1.26,
    "selected": 1.93,
}
"""arXiv 2604.20012, InternVL3.5-1B features of the paper's own data: a reference, not a target."""

ALL_ROBOTS = "all robot data"
NAMED = 4
"""Sources that a sentence names at the most."""


def cluster_order(distances: np.ndarray) -> list[int]:
    """Places of a symmetric distance matrix [n, n] so that near ones stand together.

    Average linkage, leaves ordered for least distance between neighbours. Unbiased estimates may be below 0: they count
    as 0.
    """
    count = len(distances)
    if count < 3:
        return list(range(count))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    clean = np.clip((distances + distances.T) / 2, 0, None)
    np.fill_diagonal(clean, 0)
    condensed = squareform(clean, checks=False)
    return [
        int(place)
        for place in leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    ]


def matrix_table(
    facts: Mapping[str, Any], order: Sequence[int], *, normalized: bool
) -> pd.DataFrame:
    """The MMD matrix with names, rows and columns in the given order."""
    values = np.asarray(facts["mmd2_normalized" if normalized else "mmd2"], float)[
        np.ix_(order, order)
    ]
    names = [facts["sources"][place] for place in order]
    return pd.DataFrame(values, index=pd.Index(names, name="source"), columns=names)


def nearest_sources(facts: Mapping[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """Robot set -> [(pool source, squared MMD)], nearest first; all robot data as one mixture come first."""
    roles, names = facts["roles"], facts["sources"]
    pool = [place for place, role in enumerate(roles) if role == "pool"]
    robots = [place for place, role in enumerate(roles) if role == "robot"]
    if not pool or not robots:
        return {}
    together = facts["groups"].get("to_robot") or {}
    found = {
        ALL_ROBOTS: [(names[p], float(together[names[p]])) for p in pool if names[p] in together]
    }
    for robot in robots:
        found[names[robot]] = [(names[p], float(facts["mmd2"][p][robot])) for p in pool]
    return {name: sorted(pairs, key=lambda pair: pair[1]) for name, pairs in found.items()}


def reading(facts: Mapping[str, Any]) -> str:
    """One sentence: do pool and robot data lie apart, as the paper finds?"""
    groups = facts["groups"]
    across, within = groups.get("across"), [groups.get("within_pool"), groups.get("within_robot")]
    known = [value for value in within if value is not None]
    if across is None or not known:
        return "There are too few sources to compare distances inside the groups with distances across."
    if across <= min(known):
        return (
            "Pool and robot sources do not lie apart: across the groups is as near as inside them."
        )
    if across > max(known):
        ratio = across / max(known) if max(known) > 0 else float("inf")
        return (
            f"Pool and robot sources lie apart: on average {ratio:.1f} times as far across the groups as inside the "
            f"looser one, as the paper finds for its data.{_exceptions(facts)}"
        )
    if groups.get("within_robot") == max(known):
        return "Some robot sets lie further from one another than from the pool: robot data is no single cloud."
    return (
        "Some pool sources lie further from one another than from the robot data: the pool is no single cloud."
        f"{_exceptions(facts)}"
    )


def _exceptions(facts: Mapping[str, Any]) -> str:
    """Pool sources nearer to the robot sets than these are to one another, both on average; "" without any."""
    within = facts["groups"].get("within_robot")
    if within is None:
        return ""
    robots = [place for place, role in enumerate(facts["roles"]) if role == "robot"]
    means = {
        name: float(np.mean([facts["mmd2"][place][robot] for robot in robots]))
        for place, (name, role) in enumerate(zip(facts["sources"], facts["roles"], strict=True))
        if role == "pool"
    }
    near = sorted((name for name in means if means[name] < within), key=means.__getitem__)
    if not near:
        return ""
    if len(near) == 1:
        return f" But {near[0]} lies nearer to the robot sets than these lie to one another."
    more = len(near) - NAMED
    listed = [*near[:NAMED], f"{more} more"] if more > 0 else near
    return f" But {and_list(listed)} lie nearer to the robot sets than these lie to one another."
