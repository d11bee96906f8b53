"""Millions of points as a grid of cells, and the rows in a drawn region.

A browser cannot hold 1M points (scattergl: 16 s, 930 MB of heap), so the page draws a raster and a
sparse grid of invisible markers, which make box and lasso selections fire. The browser sends back
the polygon alone, and the points inside are found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

PROJECTIONS = {"umap": "UMAP", "pacmap": "PaCMAP", "tsne": "t-SNE"}
"""A recipe's word for the map's method -> the method's name."""


@dataclass(frozen=True)
class Bounds:
    x0: float
    x1: float
    y0: float
    y1: float

    def text(self) -> str:
        """`x0,x1,y0,y1` for a link."""
        return ",".join(f"{value:.4g}" for value in (self.x0, self.x1, self.y0, self.y1))

    @classmethod
    def parse(cls, text: str) -> Bounds | None:
        """The reverse of `text`; None where these are not four ordered finite numbers."""
        try:
            x0, x1, y0, y1 = (float(part) for part in text.split(","))
        except ValueError:
            return None
        ordered = np.isfinite([x0, x1, y0, y1]).all() and x0 < x1 and y0 < y1
        return cls(x0, x1, y0, y1) if ordered else None


@dataclass(frozen=True)
class Region:
    """A drawn box (two corners) or lasso (at least three), in map coordinates."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    @property
    def is_box(self) -> bool:
        return len(self.xs) == 2

    @property
    def bounds(self) -> Bounds:
        return Bounds(min(self.xs), max(self.xs), min(self.ys), max(self.ys))

    def text(self) -> str:
        """`x,y;x,y;...` for a link."""
        return ";".join(f"{x:.4g},{y:.4g}" for x, y in zip(self.xs, self.ys, strict=True))

    @classmethod
    def parse(cls, text: str) -> Region | None:
        """The reverse of `text`; None where these are not two or more finite points."""
        try:
            points = [tuple(float(part) for part in pair.split(",")) for pair in text.split(";")]
        except ValueError:
            return None
        finite = all(len(point) == 2 and np.isfinite(point).all() for point in points)
        if len(points) < 2 or not finite:
            return None
        return cls(tuple(p[0] for p in points), tuple(p[1] for p in points))

    @classmethod
    def drawn(cls, xs: Sequence[float], ys: Sequence[float], *, corners: int = 48) -> Region | None:
        """A region from a drawn shape, thinned to at most `corners` (a lasso has hundreds)."""
        if len(xs) != len(ys) or len(xs) < 2:
            return None
        step = max(1, -(-len(xs) // corners))
        return cls(tuple(float(x) for x in xs[::step]), tuple(float(y) for y in ys[::step]))


def bounds_of(x: np.ndarray, y: np.ndarray, *, pad: float = 0.04) -> Bounds:
    """The finite points' extent with a margin."""
    ok = np.isfinite(x) & np.isfinite(y)
    if not ok.any():
        return Bounds(0.0, 1.0, 0.0, 1.0)
    x0, x1, y0, y1 = (float(v) for v in (x[ok].min(), x[ok].max(), y[ok].min(), y[ok].max()))
    pad_x = pad * (x1 - x0) or 0.5
    pad_y = pad * (y1 - y0) or 0.5
    return Bounds(x0 - pad_x, x1 + pad_x, y0 - pad_y, y1 + pad_y)


def cells(x: np.ndarray, y: np.ndarray, bounds: Bounds, width: int, height: int) -> np.ndarray:
    """int32 [n]: cell of each point, row-major from the lower left; -1 outside the bounds."""
    with np.errstate(invalid="ignore"):
        column = np.floor((x - bounds.x0) / (bounds.x1 - bounds.x0) * width)
        row = np.floor((y - bounds.y0) / (bounds.y1 - bounds.y0) * height)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell = np.full(len(x), -1, np.int32)
    cell[inside] = row[inside].astype(np.int32) * width + column[inside].astype(np.int32)
    return cell


def count_grid(cell: np.ndarray, width: int, height: int) -> np.ndarray:
    """int64 [height, width]: points per cell."""
    return np.bincount(cell[cell >= 0], minlength=width * height).reshape(height, width)


def mean_grid(cell: np.ndarray, value: np.ndarray, width: int, height: int) -> np.ndarray:
    """float64 [height, width]: mean of the finite values in each cell; NaN where there is none."""
    ok = (cell >= 0) & np.isfinite(value)
    total = np.bincount(cell[ok], weights=value[ok].astype(np.float64), minlength=width * height)
    count = np.bincount(cell[ok], minlength=width * height)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count).reshape(height, width)


def leading_grid(
    cell: np.ndarray, code: np.ndarray, n_codes: int, width: int, height: int
) -> np.ndarray:
    """int16 [height, width]: the most frequent code in each cell; -1 where the cell is empty."""
    ok = (cell >= 0) & (code >= 0)
    joint = np.bincount(
        cell[ok].astype(np.int64) * n_codes + code[ok], minlength=width * height * n_codes
    )
    joint = joint.reshape(height, width, n_codes)
    leader = joint.argmax(axis=2).astype(np.int16)
    leader[joint.sum(axis=2) == 0] = -1
    return leader


def rows_in(region: Region, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """int64: rows whose point lies in the region (even-odd rule for a lasso)."""
    box = region.bounds
    with np.errstate(invalid="ignore"):
        near = np.flatnonzero((x >= box.x0) & (x <= box.x1) & (y >= box.y0) & (y <= box.y1))
    if region.is_box or not len(near):
        return near
    px = x[near].astype(np.float64)
    py = y[near].astype(np.float64)
    inside = np.zeros(len(near), bool)
    corners = list(zip(region.xs, region.ys, strict=True))
    # even-odd rule: a point is inside if a ray from it to the right crosses an odd number of edges
    for (xa, ya), (xb, yb) in pairwise([*corners, corners[0]]):
        if ya == yb:
            continue
        crosses = (ya > py) != (yb > py)
        inside ^= crosses & (px < (xb - xa) * (py - ya) / (yb - ya) + xa)
    return near[inside]


def spread_sample(rows: np.ndarray, group: np.ndarray, size: int, *, seed: int = 0) -> np.ndarray:
    """About `size` of `rows`, seeded and sorted: of each group its share, but at least a few.

    group: [len(rows)].
    """
    if len(rows) <= size:
        return rows
    rng = np.random.default_rng(seed)
    kept = []
    names, counts = np.unique(group, return_counts=True)
    for name, count in zip(names, counts, strict=True):
        want = max(round(size * count / len(rows)), size // (4 * len(names)))
        kept.append(rng.choice(rows[group == name], min(want, int(count)), replace=False))
    return np.sort(np.concatenate(kept))
