"""Top-K: the K best of all scores, best first, ties by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cases import Contender, Steps, agreement, chosen

UNIT = "scores, K a tenth of them"
ROWS = 10_000_000
GROWTH = (1_000_000, 10_000_000, 50_000_000)


def prepare(folder: Path, rows: int, *, growth: bool = False) -> None:
    np.save(folder / "scores.npy", np.random.default_rng(0).standard_normal(rows, np.float32))


def ours(folder: Path, rows: int) -> Steps:
    from emt_core.data.draws import best_rows

    scores = np.load(folder / "scores.npy")
    yield
    yield chosen(best_rows(scores, rows // 10))


def floor(folder: Path, rows: int) -> Steps:
    """One partition: which K rows, in no order."""
    scores = np.load(folder / "scores.npy")
    negative = -scores
    yield
    yield chosen(np.argpartition(negative, rows // 10)[: rows // 10])


def numpy_sorted(folder: Path, rows: int) -> Steps:
    scores = np.load(folder / "scores.npy")
    yield
    near = np.argpartition(-scores, rows // 10)[: rows // 10]
    yield chosen(near[np.argsort(-scores[near], kind="stable")])


def polars_top(folder: Path, rows: int) -> Steps:
    import polars as pl

    frame = pl.DataFrame({"score": np.load(folder / "scores.npy")}).with_row_index("row")
    frame.head(10).top_k(2, by="score")
    yield
    yield chosen(
        frame.top_k(rows // 10, by="score").sort("score", descending=True)["row"].to_numpy()
    )


def pandas_top(folder: Path, rows: int) -> Steps:
    import pandas as pd

    series = pd.Series(np.load(folder / "scores.npy"))
    yield
    yield chosen(series.nlargest(rows // 10).index.to_numpy())


CONTENDERS = {
    "ours": Contender(ours),
    "floor": Contender(floor),
    "NumPy argpartition and argsort": Contender(numpy_sorted),
    "polars top_k, sorted": Contender(polars_top, peer=True),
    "pandas nlargest": Contender(pandas_top),
}


def check(found: dict[str, dict[str, float]]) -> str:
    return agreement(found, "sum", "the rows")
