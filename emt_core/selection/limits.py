"""Caps and quotas: at most so many rows of a group, applied greedily in rank order.

The definition is a loop over rows, best first: a row is taken unless a limit of one of its groups
is used up; the first such limit, in the order quota, source cap, category cap, cluster cap, is its
reason. `apply` gives exactly that (a property test compares) without the loop: a group fills once
at most, so there are no more passes than groups.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emt_core.recipe.selection import SelectConfig
from emt_core.selection.candidates import Candidates, named_codes

QUOTA = "quota"
SOURCE_CAP = "source_cap"
CATEGORY_CAP = "category_cap"
CLUSTER_CAP = "cluster_cap"
FEW_GROUPS = 16
"""With at most this many groups, one scan for each beats one sort of all rows."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """At most `most[g]` rows of each group g; groups that are not named are free."""

    by: str
    """`source`, `category` or `cell`: which codes name the groups."""
    most: dict[int, int]
    reason: str


def limits_of(config: SelectConfig, candidates: Candidates, size: int | None) -> list[Limit]:
    """The limits of a configuration, in the order in which they are asked.

    size: rows that quotas share out. Raises EmtError for a name that the pool does not have.
    """
    limits = []
    known = {
        "source": (candidates.sources, candidates.pool_sources),
        "category": (candidates.categories, list(candidates.categories)),
    }
    for by, (names, allowed) in known.items():
        shares: dict[str, float] = getattr(config.quotas, by)
        if shares:
            assert size is not None  # SelectConfig refuses quotas without k or fraction
            codes = named_codes(shares, names, allowed, f"quotas.{by}")
            counts = largest_remainder(list(shares.values()), size)
            most = dict.fromkeys(range(len(names)), 0)  # a group without a quota gets none
            most.update(zip(codes, counts, strict=True))
            limits.append(Limit(by=by, most=most, reason=QUOTA))
    for by, reason in (("source", SOURCE_CAP), ("category", CATEGORY_CAP)):
        caps: dict[str, int] = getattr(config.caps, by)
        if caps:
            codes = named_codes(caps, *known[by], f"caps.{by}")
            most = dict(zip(codes, caps.values(), strict=True))
            limits.append(Limit(by=by, most=most, reason=reason))
    if config.clusters is not None and config.clusters.most is not None and size is not None:
        cells = config.clusters.cells
        most = dict.fromkeys(range(cells), math.ceil(config.clusters.most * size / cells))
        limits.append(Limit(by="cell", most=most, reason=CLUSTER_CAP))
    return limits


def what_is_left(limits: list[Limit], candidates: Candidates, rows: np.ndarray) -> list[Limit]:
    """The same limits after these rows have been taken."""
    left = []
    for limit in limits:
        taken = np.bincount(getattr(candidates, limit.by)[rows], minlength=max(limit.most) + 1)
        most = {group: room - int(taken[group]) for group, room in limit.most.items()}
        left.append(replace(limit, most=most))
    return left


def largest_remainder(shares: list[float], total: int) -> list[int]:
    """Whole numbers that sum to `total` and follow the shares (Hamilton's method).

    Equal remainders go to the earlier share.
    """
    exact = [share * total for share in shares]
    counts = [int(np.floor(value + 1e-9)) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (-(exact[i] - counts[i]), i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def members_of(code: np.ndarray, groups: Sequence[int]) -> list[np.ndarray]:
    """int64 places of each group's rows, rising.

    code: integer [n] below 2^15; groups: some of the codes.
    """
    if len(groups) <= FEW_GROUPS:
        return [np.flatnonzero(code == group) for group in groups]
    code = code.astype(np.int16)  # numpy sorts these by radix
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], [edge for group in groups for edge in (group, group + 1)])
    return [order[start:stop] for start, stop in bounds.reshape(-1, 2)]


def apply(limits: list[Limit], codes: dict[str, np.ndarray]) -> np.ndarray:
    """int8 [n] of rows, best first: 0 = taken, i + 1 = refused by limits[i].

    codes: the group of each row, by `Limit.by`.
    """
    rows = len(next(iter(codes.values()))) if codes else 0
    verdict = np.zeros(rows, np.int8)
    # the groups that can fill: limit, room, places of the members in rank order
    groups: list[tuple[int, int, np.ndarray]] = []
    for which, limit in enumerate(limits):
        by_group = members_of(codes[limit.by], list(limit.most))
        for most, members in zip(limit.most.values(), by_group, strict=True):
            if len(members) >= most and len(members):
                groups.append((which, most, members))

    def fills_at(room: int, members: np.ndarray) -> int | None:
        """Place of the row that fills the group, as things stand; -1 where it has no room."""
        if room == 0:
            return -1
        taken = members[verdict[members] == 0]
        return int(taken[room - 1]) if len(taken) >= room else None

    # closing a group takes members away from others: they fill later than thought, never earlier
    waiting = [
        (at, place)
        for place, (_, room, members) in enumerate(groups)
        if (at := fills_at(room, members)) is not None
    ]
    heapq.heapify(waiting)
    while waiting:
        at, place = heapq.heappop(waiting)
        which, room, members = groups[place]
        now = fills_at(room, members)
        if now != at:
            if now is not None:
                heapq.heappush(waiting, (now, place))
            continue
        after = members[np.searchsorted(members, at, side="right") :]
        # the limit asked first names the reason, even if a later one has refused the row already
        after = after[(verdict[after] == 0) | (verdict[after] > which + 1)]
        verdict[after] = which + 1
    return verdict


def fill(
    limits: list[Limit], codes: dict[str, np.ndarray], size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(places of the first `size` taken rows, verdicts up to the last of them), as `apply` says.

    Caps seldom refuse most rows, so a prefix is tried first and made longer while it does not fill
    the size.
    """
    rows = len(next(iter(codes.values())))
    end = rows if size is None else min(rows, 2 * size)
    while True:
        verdict = apply(limits, {by: values[:end] for by, values in codes.items()})
        taken = np.flatnonzero(verdict == 0)
        if size is None or end == rows or len(taken) >= size:
            break
        end = min(rows, 4 * end)
    if size is not None and len(taken) >= size:
        taken = taken[:size]
        verdict = verdict[: taken[-1] + 1]
    return taken, verdict
