"""average feature distance (method section 5): mean over robot frames y of |phi(x) - phi(y)|.

    score(x) = - sum_y w_y |phi(x) - phi(y)|      w: every robot set weighs the same

All pool rows meet all robot rows (10^14 multiplications at 1M x 50k x 1024), so it is one matrix
product a tile with the squared lengths folded in, spread over the cores; the root is taken in
place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.proximity.base import Inputs, ScoreOf
from emt_core.proximity.measures.bank import BLOCK_ROWS, Bank, fit_bank
from emt_core.proximity.stream import score_blocks
from emt_core.recipe.proximity import DistanceMeasure

LOGIT = False


def fit(config: DistanceMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    return fit_bank(config, inputs, out)


def scores(
    config: DistanceMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    score = score_of(config, fitted, inputs.features.dim)
    return score_blocks(inputs.features, BLOCK_ROWS, score, start=start)


def score_of(config: DistanceMeasure, fitted: Path, dim: int) -> ScoreOf:
    bank = Bank.read(fitted, dim=dim, normalize=config.normalize)
    return lambda x: -mean_distance(x, bank)


def mean_distance(x: np.ndarray, bank: Bank) -> np.ndarray:
    """float32 [n]: weighted mean L2 distance of float32 [n, dim] to the bank.

    Memory: n x TILE_ROWS float32.
    """
    import torch

    rows = torch.from_numpy(bank.centered(x))
    squared = rows.square().sum(dim=1, keepdim=True)
    total = torch.zeros(len(rows), dtype=torch.float64)
    for tile, lengths, weight in zip(bank.tiles, bank.squared, bank.weight, strict=True):
        d2 = torch.addmm(torch.from_numpy(lengths), rows, torch.from_numpy(tile), alpha=-2)
        d2.add_(squared).clamp_(min=0).sqrt_()
        total += torch.mv(d2, torch.from_numpy(weight)).double()
    return total.float().numpy()
