"""Robot features kept for comparison: a bounded sample, the same number of frames from each robot set.

bank.safetensors    vectors float16 [n, dim] as stored; weight float32 [n], each set's sum to 1 / sets; rows int64 [n]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs, training_rows
from emt_core.proximity.batches import bounded
from emt_core.recipe.proximity import DistanceMeasure

FILE = "bank.safetensors"
TILE_ROWS = 2048
"""Bank rows multiplied at once; 1024 x 2048 float32 products are 8 MB a thread."""

BLOCK_ROWS = 1024


def fit_bank(config: DistanceMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Draw the bank from the training episodes: the held-out ones stay unseen, so that the measure can be tested."""
    from safetensors.numpy import save_file

    _, robots = training_rows(config, inputs)
    drawn = bounded(robots, config.robot_rows, config.seed)
    rows = np.concatenate(drawn)
    weight = np.concatenate(
        [np.full(len(part), 1 / (len(drawn) * len(part)), np.float32) for part in drawn]
    )
    save_file({"vectors": inputs.features.take(rows), "weight": weight, "rows": rows}, out / FILE)
    return {"bank_rows": len(rows), "bank_total": sum(map(len, robots))}


@dataclass(frozen=True)
class Bank:
    """The bank ready for products: centred at its own mean (distances stay, the expanded square keeps its digits)."""

    tiles: tuple[np.ndarray, ...]
    """float32 [dim, TILE_ROWS] each, transposed; the last one is narrower."""

    squared: tuple[np.ndarray, ...]
    """float32 [rows of the tile]: squared lengths."""

    weight: tuple[np.ndarray, ...]
    center: np.ndarray
    rows: int
    normalize: bool

    @classmethod
    def read(cls, folder: Path, *, dim: int, normalize: bool) -> Bank:
        """Raises EmtError where the bank belongs to features of another width."""
        from safetensors.numpy import load_file

        stored = load_file(folder / FILE)
        if stored["vectors"].shape[1] != dim:
            raise EmtError(
                f"the measure was fitted on features of {stored['vectors'].shape[1]} dimensions, these have {dim}",
                where=folder,
                remedy="give measure and score the same embed instance",
            )
        return cls.of(stored["vectors"], stored["weight"], normalize=normalize)

    @classmethod
    def of(cls, vectors: np.ndarray, weight: np.ndarray, *, normalize: bool) -> Bank:
        """vectors: float [n, dim]; weight: float32 [n], sums to 1."""
        y = unit_rows(vectors.astype(np.float32)) if normalize else vectors.astype(np.float32)
        center = y.mean(axis=0, dtype=np.float64).astype(np.float32)
        y -= center
        cuts = range(0, len(y), TILE_ROWS)
        parts = [y[at : at + TILE_ROWS] for at in cuts]
        return cls(
            tiles=tuple(np.ascontiguousarray(part.T) for part in parts),
            squared=tuple(
                np.einsum("nd,nd->n", part, part, dtype=np.float64).astype(np.float32)
                for part in parts
            ),
            weight=tuple(weight[at : at + TILE_ROWS].astype(np.float32) for at in cuts),
            center=center,
            rows=len(y),
            normalize=normalize,
        )

    def centerd(self, x: np.ndarray) -> np.ndarray:
        """float32 [n, dim] in the bank's frame."""
        return (unit_rows(x) if self.normalize else x) - self.center


def unit_rows(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
