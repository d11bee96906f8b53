"""Distance to the k-th nearest robot frame (deep nearest neighbors, Sun et al. 2022).

    score(x) = - |phi(x) - phi(y_(k))|      y_(k): the k-th nearest of the bank

A density estimate without training: near to several robot frames, not to their mean. A robot frame
that is in the bank is its own first neighbor; held-out episodes are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs, ScoreOf
from emt_core.proximity.measures.bank import BLOCK_ROWS, Bank, fit_bank
from emt_core.proximity.stream import score_blocks
from emt_core.recipe.proximity import KnnMeasure

LOGIT = False


def fit(config: KnnMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    found = fit_bank(config, inputs, out)
    if found["bank_rows"] < config.neighbors:
        raise EmtError(
            f"{config.neighbors} neighbours are asked for and {found['bank_rows']} robot frames "
            "have a vector",
            where="measure.neighbors",
            remedy="ask for fewer, or add robot data",
        )
    return found


def scores(
    config: KnnMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    score = score_of(config, fitted, inputs.features.dim)
    return score_blocks(inputs.features, BLOCK_ROWS, score, start=start)


def score_of(config: KnnMeasure, fitted: Path, dim: int) -> ScoreOf:
    bank = Bank.read(fitted, dim=dim, normalize=config.normalize)
    return lambda x: -kth_distance(x, bank, config.neighbors)


def kth_distance(x: np.ndarray, bank: Bank, k: int) -> np.ndarray:
    """float32 [n]: L2 distance of float32 [n, dim] to the k-th nearest row of the bank (from 1).

    |y|^2 - 2 x.y ranks the neighbors; |x|^2 is added to the k-th alone. Memory: n x TILE_ROWS
    float32.
    """
    import torch

    rows = torch.from_numpy(bank.centered(x))
    best = torch.full((len(rows), k), float("inf"))
    for tile, lengths in zip(bank.tiles, bank.squared, strict=True):
        found = torch.addmm(torch.from_numpy(lengths), rows, torch.from_numpy(tile), alpha=-2)
        near = torch.topk(found, min(k, found.shape[1]), dim=1, largest=False, sorted=False).values
        best = torch.topk(
            torch.cat([best, near], dim=1), k, dim=1, largest=False, sorted=False
        ).values
    kth = best.amax(dim=1) + rows.square().sum(dim=1)
    return kth.clamp_(min=0).sqrt_().numpy()
