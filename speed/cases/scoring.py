"""Scoring: one linear score for each row of a feature store.

The target is at least 90 % of the raw scan's speed: `ours` in parts of `floor` at most 1.11.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cases import Contender, Steps, agreement
from cases.store import write_store

UNIT = "rows of 1,024 float16"
ROWS = 1_000_000
GROWTH = (1_000_000, 10_000_000, 50_000_000)
CHUNK = 16_384


def prepare(folder: Path, rows: int, *, growth: bool = False) -> None:
    write_store(folder, rows, 64 if growth else 1024, array=not growth)


def weight(dim: int) -> np.ndarray:
    drawn = np.random.default_rng(1).standard_normal(dim, np.float32)
    return drawn / np.float32(np.sqrt(dim))


def said(rows: int, total: float) -> dict[str, float]:
    return {"rows": rows, "sum": float(total)}


def ours(folder: Path, rows: int) -> Steps:
    from emt_core.data.features import Features
    from emt_core.proximity.stream import stream_logits

    features = Features.at(folder / "features.lance")
    w = weight(features.dim)
    next(iter(stream_logits(features, w, 0.0)))
    yield
    seen = 0
    total = 0.0
    for _, logits in stream_logits(features, w, 0.0):
        seen += len(logits)
        total += logits.sum(dtype=np.float64)
    yield said(seen, total)


def floor(folder: Path, rows: int) -> Steps:
    """Lance's own scan of the same column, nothing done with it."""
    import lance

    data = lance.dataset(str(folder / "features.lance"))
    next(iter(data.to_batches(columns=["vector"], batch_size=4096)))
    yield
    seen = 0
    for batch in data.to_batches(columns=["vector"], batch_size=4096):
        seen += batch.num_rows
    yield {"rows": seen}


def scikit(folder: Path, rows: int) -> Steps:
    """`decision_function` over a mapped file, a part at a time."""
    from sklearn.linear_model import SGDClassifier

    x = np.load(folder / "features.npy", mmap_mode="r")
    model = SGDClassifier()
    model.coef_ = weight(x.shape[1])[None].astype(np.float32)
    model.intercept_ = np.zeros(1, np.float32)
    model.classes_ = np.array([0, 1])
    model.n_features_in_ = x.shape[1]
    model.decision_function(x[:8].astype(np.float32))
    yield
    total = 0.0
    for at in range(0, rows, CHUNK):
        part = x[at : at + CHUNK].astype(np.float32)
        total += model.decision_function(part).sum(dtype=np.float64)
    yield said(rows, total)


def torch_loop(folder: Path, rows: int) -> Steps:
    """What one writes by hand: parts of a mapped file through torch."""
    import torch

    x = np.load(folder / "features.npy", mmap_mode="r")
    w = torch.from_numpy(weight(x.shape[1]).astype(np.float32))
    torch.mv(torch.ones(2, len(w)), w)
    yield
    total = 0.0
    for at in range(0, rows, CHUNK):
        part = torch.from_numpy(np.array(x[at : at + CHUNK])).float()
        total += torch.mv(part, w).double().sum().item()
    yield said(rows, total)


CONTENDERS = {
    "ours": Contender(ours),
    "floor": Contender(floor),
    "scikit-learn decision_function, mapped file": Contender(scikit),
    "torch, mapped file": Contender(torch_loop),
}


def check(found: dict[str, dict[str, float]]) -> str:
    return agreement(found, "sum", "the sum of all scores", within=1e-3)
