"""Robot features kept for comparison: a bounded sample, as many frames from each robot set.

bank.safetensors    vectors float16 [n, dim] as stored; rows int64 [n];
                    weight float32 [n], which sums to 1 / sets for each set
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.batches import bounded
from emt_core.proximity.metrics.diversity import l2_normalize
from emt_core.proximity.split import training_rows
from emt_core.recipe.proximity import DistanceMeasure

FILE = "bank.safetensors"
BLOCK_ROWS = 1024
"""Pool rows compared at once."""

TILE_ROWS = 2048
"""Bank rows compared at once; 1024 x 2048 float32 products are 8 MB a thread."""


def fit_bank(config: DistanceMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Draw the bank from the training episodes: held-out ones stay unseen, to test the measure."""
    from safetensors.numpy import save_file

    _, robots = training_rows(config, inputs.index, inputs.features)
    drawn = bounded(robots, config.robot_rows, config.seed)
    rows = np.concatenate(drawn)
    weights = [np.full(len(part), 1 / (len(drawn) * len(part)), np.float32) for part in drawn]
    save_file(
        {
            "vectors": inputs.features.take(rows),
            "weight": np.concatenate(weights),
            "rows": rows,
        },
        out / FILE,
    )
    return {"bank_rows": len(rows), "bank_total": sum(map(len, robots))}


@dataclass(frozen=True)
class Bank:
    """The bank ready for products, cut into tiles of TILE_ROWS rows.

    It is centered at its own mean: distances stay the same, and the expanded square
    |x|^2 + |y|^2 - 2 x.y keeps its digits in float32.
    """

    tiles: tuple[np.ndarray, ...]
    """float32 [dim, rows of the tile], transposed."""

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
        width = stored["vectors"].shape[1]
        if width != dim:
            raise EmtError(
                f"the measure was fitted on features of {width} dimensions, these have {dim}",
                where=folder,
                remedy="give measure and score the same embed instance",
            )
        return cls.of(stored["vectors"], stored["weight"], normalize=normalize)

    @classmethod
    def of(cls, vectors: np.ndarray, weight: np.ndarray, *, normalize: bool) -> Bank:
        """vectors: float [n, dim]; weight: float32 [n], sums to 1."""
        y = vectors.astype(np.float32)
        if normalize:
            y = l2_normalize(y)
        center = y.mean(axis=0, dtype=np.float64).astype(np.float32)
        y -= center
        cuts = range(0, len(y), TILE_ROWS)
        parts = [y[at : at + TILE_ROWS] for at in cuts]
        squared = [np.einsum("nd,nd->n", part, part, dtype=np.float64) for part in parts]
        return cls(
            tiles=tuple(np.ascontiguousarray(part.T) for part in parts),
            squared=tuple(lengths.astype(np.float32) for lengths in squared),
            weight=tuple(weight[at : at + TILE_ROWS].astype(np.float32) for at in cuts),
            center=center,
            rows=len(y),
            normalize=normalize,
        )

    def centered(self, x: np.ndarray) -> np.ndarray:
        """float32 [n, dim], scaled and shifted as the bank is."""
        return (l2_normalize(x) if self.normalize else x) - self.center
