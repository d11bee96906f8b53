"""DSIR (Xie et al. 2023): how near the *words* are to the robots', without any image.

    log w(x) = sum_j c_j(x) log(p_robot_j / p_pool_j)
    c_j: how many of x's hashed word n-grams fall into bucket j

p_robot and p_pool are frequencies of n-grams in the training part, robot sets in equal parts, plus
SMOOTHING a bucket. Ranking by log w is the top-k form of DSIR; `select` with strategy gumbel and
temperature 1 is the paper's resampling. Undivided, the sum falls with the length of a text:
`per_token` divides it by the number of n-grams.

buckets.safetensors    log_ratio float32 [buckets]
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.index import Index
from emt_core.proximity.base import Inputs
from emt_core.proximity.split import training_rows
from emt_core.recipe.proximity import DsirMeasure

LOGIT = False
FILE = "buckets.safetensors"
POOL_ROWS = 200_000
"""Pool texts counted at the most (seeded): 10,000 frequencies are known well long before."""

SMOOTHING = 1e-8
WORDS = re.compile(r"\w+|[^\w\s]+")
SCAN_ROWS = 4096


def fit(config: DsirMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Count the n-grams of pool and robot texts; raises EmtError as the split does."""
    from safetensors.numpy import save_file

    pool, robots = training_rows(config, inputs.index, inputs.features)
    if len(pool) > POOL_ROWS:
        rng = np.random.default_rng([config.seed, 5])
        pool = np.sort(rng.choice(pool, POOL_ROWS, replace=False))
    # the group whose n-grams a row counts for: 0 the pool, k the k-th robot set, -1 none
    group = np.full(inputs.index.rows, -1, np.int16)
    for place, rows in enumerate([pool, *robots]):
        group[rows] = place
    counts = np.zeros((1 + len(robots), config.buckets))
    total = int((group >= 0).sum())
    with inputs.progress.track("counting n-grams", total, unit="texts") as tracker:
        for at, texts in conversations(inputs.index, config.text):
            groups = group[at : at + len(texts)]
            for row in np.flatnonzero(groups >= 0):
                hashed = buckets_of(texts[row], config.ngrams, config.buckets)
                np.add.at(counts[groups[row]], hashed, 1)
                tracker.advance()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) + SMOOTHING
    p_pool = share[0]
    p_robot = share[1:].mean(axis=0)
    ratio = np.log(p_robot / p_robot.sum()) - np.log(p_pool / p_pool.sum())
    save_file({"log_ratio": ratio.astype(np.float32)}, out / FILE)
    in_both = int(((counts[0] > 0) & (counts[1:].sum(axis=0) > 0)).sum())
    robot_texts = sum(map(len, robots))
    return {"pool_texts": len(pool), "robot_texts": robot_texts, "buckets_of_both": in_both}


def scores(
    config: DsirMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    """float32 log weights; NaN for a row without any word."""
    ratio = _log_ratio(fitted)
    for at, texts in conversations(inputs.index, config.text, start=start):
        yield at, log_weights(config, ratio, texts)


def scores_of(config: DsirMeasure, index: Index, rows: np.ndarray, fitted: Path) -> np.ndarray:
    """float32 [n]: what `scores` gives these rows (int64 [n], any order)."""
    ratio = _log_ratio(fitted)
    parts = [np.empty(0, np.float32)]
    for at in range(0, len(rows), SCAN_ROWS):
        turns = index.table.take(rows[at : at + SCAN_ROWS], ["turns"]).column(0).to_pylist()
        parts.append(log_weights(config, ratio, texts_of(turns, config.text)))
    return np.concatenate(parts)


def log_weights(config: DsirMeasure, ratio: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """float32 [n]; NaN for a text without any word. ratio: float64 [buckets]."""
    weights = np.full(len(texts), np.nan, np.float32)
    for place, text in enumerate(texts):
        hashed = buckets_of(text, config.ngrams, config.buckets)
        if len(hashed):
            total = ratio[hashed].sum()
            weights[place] = total / len(hashed) if config.per_token else total
    return weights


def buckets_of(text: str, ngrams: int, buckets: int) -> np.ndarray:
    """int64: the bucket of every n-gram of words and punctuation, 1 to `ngrams` long, lower case.

    All 1-grams in order of place, then all 2-grams, and so on.
    """
    words = WORDS.findall(text.lower())
    hashed = [
        zlib.crc32(" ".join(words[at : at + n]).encode()) % buckets
        for n in range(1, ngrams + 1)
        for at in range(len(words) - n + 1)
    ]
    return np.array(hashed, np.int64)


def conversations(index: Index, text: str, *, start: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(first row, one text a row) for rows [start, end) in order: see texts_of."""
    at = start
    for batch in index.table.scan(["turns"], start=start, batch_rows=SCAN_ROWS):
        texts = texts_of(batch.column(0).to_pylist(), text)
        yield at, texts
        at += len(texts)


def texts_of(rows: Sequence[Sequence[Mapping[str, str]]], text: str) -> list[str]:
    """One text a row: its user turns (`text` user) or all turns (full), without placeholders.

    rows: the index's column `turns`.
    """
    joined = (
        " ".join(turn["text"] for turn in turns if text == "full" or turn["role"] == "user")
        for turns in rows
    )
    return [words.replace("<image>", " ") for words in joined]


def _log_ratio(fitted: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(fitted / FILE)["log_ratio"].astype(np.float64)
