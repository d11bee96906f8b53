"""How alike two representations of the same n things are, whatever their axes are."""

from __future__ import annotations

import numpy as np


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """1 for the same up to rotation and scale, near 0 for unrelated ones (Kornblith et al. 2019,
    arXiv 1905.00414). float [n, d1], [n, d2].

    By Gram matrices: memory n^2, whatever the widths. With n below the widths, unrelated ones are
    above 0. NaN where one does not vary at all.
    """
    a, b = _gram(first), _gram(second)
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / norm) if norm > 0 else float("nan")


def _gram(values: np.ndarray) -> np.ndarray:
    centered = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    return centered @ centered.T


def neighbor_overlap(first: np.ndarray, second: np.ndarray, neighbors: int) -> np.ndarray:
    """float64 [n]: share of each thing's nearest others (by cosine) that both agree on."""
    a, b = _nearest(first, neighbors), _nearest(second, neighbors)
    both = (a[:, :, None] == b[:, None, :]).any(2)
    return both.mean(1)


def _nearest(values: np.ndarray, neighbors: int) -> np.ndarray:
    """int64 [n, neighbors]; with fewer others, all of them."""
    rows = values.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -np.inf)
    count = min(neighbors, len(rows) - 1)
    return np.argsort(-likeness, axis=1, kind="stable")[:, :count]
