"""The contents of gap.json for a page: clustered order, nearest sources, matrix, a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emt_core.explore import numbers
from emt_core.explore.tables.measured import Measured, measured
from emt_core.workspace.words import and_list

PAPER_DIVERSITY = {
    "VLM pool": 1.85,
    "general part": 1.96,
    "embodied-oriented part": 1.62,
    "VLA data": 1.26,
    "selected": 1.93,
}
"""S(D) in arXiv 2604.20012, of its own data with InternVL3.5-1B features."""

ALL_ROBOTS = "all robot data"
NAMED = 4
"""A sentence names at most this many sources."""


def cluster_order(distances: np.ndarray) -> list[int]:
    """An order of a symmetric distance matrix [n, n] that puts near items next to each other.

    Average linkage with optimal leaf order. Unbiased estimates below 0 count as 0.
    """
    count = len(distances)
    if count < 3:
        return list(range(count))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    clean = np.clip((distances + distances.T) / 2, 0, None)
    np.fill_diagonal(clean, 0)
    condensed = squareform(clean, checks=False)
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    return [int(place) for place in leaves_list(tree)]


def matrix_table(
    facts: Mapping[str, Any], order: Sequence[int], *, normalized: bool
) -> pd.DataFrame:
    """The MMD matrix with names, rows and columns in the given order."""
    values = np.asarray(facts["mmd2_normalized" if normalized else "mmd2"], float)
    names = [facts["sources"][place] for place in order]
    return pd.DataFrame(
        values[np.ix_(order, order)], index=pd.Index(names, name="source"), columns=names
    )


def nearest_sources(facts: Mapping[str, Any]) -> dict[str, list[tuple[str, Measured]]]:
    """Robot set -> [(pool source, squared MMD)], nearest first; first all robot data as one."""
    roles, names = facts["roles"], facts["sources"]
    pool = [place for place, role in enumerate(roles) if role == "pool"]
    robots = [place for place, role in enumerate(roles) if role == "robot"]
    if not pool or not robots:
        return {}
    errors = (facts.get("errors") or {}).get("mmd2")
    found = {
        ALL_ROBOTS: [(names[p], measured(facts, "groups", "to_robot", names[p])) for p in pool]
    }
    for robot in robots:
        found[names[robot]] = [
            (names[p], Measured(facts["mmd2"][p][robot], errors[p][robot] if errors else None))
            for p in pool
        ]
    return {name: sorted(pairs, key=lambda pair: pair[1]) for name, pairs in found.items()}


def group_figures(facts: Mapping[str, Any]) -> dict[str, Measured]:
    """Means over pairs of sources, and the pool as a whole against the robot data."""
    names = ("within_pool", "within_robot", "across", "pool_to_robot")
    return {name: measured(facts, "groups", name) for name in names}


def diversities(facts: Mapping[str, Any], of: str) -> dict[str, Measured]:
    """S(D) of each source (`diversity`), or of pool and robot data (`diversity_groups`)."""
    return {name: measured(facts, of, name) for name in facts[of]}


def how_measured(facts: Mapping[str, Any]) -> str:
    """On how many samples the figures were measured, and how exactly those between sources are."""
    largest = float(np.max((facts.get("errors") or {}).get("mmd2") or 0))
    each = "all its samples"
    if largest:
        most = numbers.whole(max(facts["sampled"].values(), default=0))
        error = f"{largest:.{numbers.digits_of(largest)}f}"
        each = f"up to {most} samples (standard error at most {error})"
    pool, robot = (
        numbers.whole(facts.get("measured_on", {}).get(name)) for name in ("pool", "robot")
    )
    return (
        f"Each source is measured on {each}; as wholes, the pool on {pool} samples and the robot "
        f"data on {robot} frames. Kernel width σ = {numbers.decimal(facts['sigma'], 2)}."
    )


def reading(facts: Mapping[str, Any]) -> str:
    """One sentence on whether pool and robot data are apart, as in the paper."""
    groups = facts["groups"]
    across = groups.get("across")
    within = (groups.get("within_pool"), groups.get("within_robot"))
    known = [value for value in within if value is not None]
    if across is None or not known:
        return "There are too few sources to compare distances within and across groups."
    if across <= min(known):
        return "Pool and robot sources are not apart: distances across and within groups are alike."
    if across > max(known):
        ratio = across / max(known) if max(known) > 0 else float("inf")
        return (
            f"Pool and robot data are apart, as in the paper: sources are {ratio:.1f}x farther "
            f"apart across groups than within the more spread-out group.{_exceptions(facts)}"
        )
    if groups.get("within_robot") == max(known):
        return "Some robot sets are farther from one another than from the pool."
    words = "Some pool sources are farther from one another than from the robot data."
    return f"{words}{_exceptions(facts)}"


def _exceptions(facts: Mapping[str, Any]) -> str:
    """The pool sources nearer to the robot sets than these are to one another, on average."""
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
    more = len(near) - NAMED
    listed = [*near[:NAMED], f"{more} more"] if more > 0 else near
    are = "is" if len(near) == 1 else "are"
    return f" But {and_list(listed)} {are} nearer to the robot sets than these to one another."
