"""Selection with caps: the K best, at most a cap of each of twelve sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cases import Contender, Steps, agreement, chosen

UNIT = "scores, K a tenth of them, a cap on each of 12 sources"
ROWS = 10_000_000
GROWTH = (1_000_000, 10_000_000, 50_000_000)
SOURCES = 12


def prepare(folder: Path, rows: int, *, growth: bool = False) -> None:
    rng = np.random.default_rng(0)
    source = np.sort(rng.integers(0, SOURCES, rows).astype(np.int16))
    score = rng.standard_normal(rows, np.float32) + 0.2 * source.astype(np.float32)
    np.save(folder / "scores.npy", score)
    np.save(folder / "source.npy", source)


def sizes(rows: int) -> tuple[int, int]:
    return rows // 10, rows // 60


def ours(folder: Path, rows: int) -> Steps:
    from emt_core.recipe.selection import SelectConfig
    from emt_core.selection import Candidates, decide

    k, cap = sizes(rows)
    names = tuple(f"s{number}" for number in range(SOURCES))
    candidates = Candidates(
        source=np.load(folder / "source.npy"),
        sources=names,
        pool=np.ones(SOURCES, bool),
        category=np.zeros(rows, np.int16),
        categories=("one",),
        logit=np.load(folder / "scores.npy"),
        status=np.zeros(rows, np.int16),
    )
    config = SelectConfig(k=k, caps={"source": dict.fromkeys(names, cap)})
    yield
    yield chosen(decide(candidates, config).rows)


def floor(folder: Path, rows: int) -> Steps:
    """One sort of the scores of the best rows alone, which every way needs."""
    scores = np.load(folder / "scores.npy")
    k, _ = sizes(rows)
    yield
    near = np.argpartition(-scores, 2 * k)[: 2 * k]
    near[np.argsort(-scores[near])]
    yield {}


def pandas_caps(folder: Path, rows: int) -> Steps:
    import pandas as pd

    k, cap = sizes(rows)
    frame = pd.DataFrame(
        {"score": np.load(folder / "scores.npy"), "source": np.load(folder / "source.npy")}
    )
    yield
    best = frame.sort_values("score", ascending=False, kind="stable")
    within = best.groupby("source").cumcount() < cap
    yield chosen(best[within].head(k).index.to_numpy())


def polars_caps(folder: Path, rows: int) -> Steps:
    import polars as pl

    k, cap = sizes(rows)
    frame = pl.DataFrame(
        {"score": np.load(folder / "scores.npy"), "source": np.load(folder / "source.npy")}
    ).with_row_index("row")
    yield
    best = frame.sort("score", descending=True, maintain_order=True)
    within = best.filter(pl.int_range(pl.len()).over("source") < cap)
    yield chosen(within.head(k)["row"].to_numpy())


CONTENDERS = {
    "ours": Contender(ours),
    "floor": Contender(floor),
    "pandas sort and cumcount": Contender(pandas_caps, repeats=2),
    "polars sort and over": Contender(polars_caps, peer=True),
}


def check(found: dict[str, dict[str, float]]) -> str:
    return agreement(found, "sum", "the rows")
