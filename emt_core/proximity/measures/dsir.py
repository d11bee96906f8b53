"""DSIR (Xie et al. 2023, data selection via importance resampling): nearness of the *words*, without any image.

    log w(x) = sum_j c_j(x) log(p_robot_j / p_pool_j)      c_j: hashed word n-grams of x that fall into bucket j

p_robot and p_pool are bag-of-n-gram frequencies of the training part, each robot set in equal parts, plus SMOOTHING a
bucket. Ranking by log w is the top-k form; `select` with strategy gumbel and temperature 1 is the paper's resampling.
Undivided the sum falls with the length of a text: `per_token` divides it by the number of n-grams.

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
from emt_core.proximity.base import Inputs, training_rows
from emt_core.recipe.proximity import DsirMeasure

LOGIT = False
FILE = "buckets.safetensors"
POOL_ROWS = 200_000
"""Pool texts counted at the most (seeded): 10,000 frequencies are known well long before."""

SMOOTHING = 1e-8
WORDS = re.compile(r"\w+|[^\w\s]+")
SCAN_ROWS = 4096


def fit(config: DsirMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    from safetensors.numpy import save_file

    pool, robots = training_rows(config, inputs)
    if len(pool) > POOL_ROWS:
        pool = np.sort(
            np.random.default_rng([config.seed, 5]).choice(pool, POOL_ROWS, replace=False)
        )
    wanted = np.zeros(inputs.index.rows, bool)
    for rows in (pool, *robots):
        wanted[rows] = True
    group = np.zeros(inputs.index.rows, np.int16)
    for place, rows in enumerate(robots, start=1):
        group[rows] = place
    counts = np.zeros((1 + len(robots), config.buckets))
    with inputs.progress.track("counting n-grams", int(wanted.sum()), unit="texts") as tracker:
        for at, texts in conversations(inputs.index, config.text):
            for row in np.flatnonzero(wanted[at : at + len(texts)]):
                np.add.at(
                    counts[group[at + row]],
                    buckets_of(texts[row], config.ngrams, config.buckets),
                    1,
                )
                tracker.advance()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) + SMOOTHING
    p_robot, p_pool = share[1:].mean(axis=0), share[0]
    ratio = np.log(p_robot / p_robot.sum()) - np.log(p_pool / p_pool.sum())
    save_file({"log_ratio": ratio.astype(np.float32)}, out / FILE)
    seen = int(((counts[0] > 0) & (counts[1:].sum(axis=0) > 0)).sum())
    return {"pool_texts": len(pool), "robot_texts": sum(map(len, robots)), "buckets_of_both": seen}


def scores(
    config: DsirMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    """float32 log weights; NaN for a row without any word."""
    ratio = _log_ratio(fitted)
    for at, texts in conversations(inputs.index, config.text, start=start):
        yield at, log_weights(config, ratio, texts)


def scores_of(config: DsirMeasure, index: Index, rows: np.ndarray, fitted: Path) -> np.ndarray:
    """float32 [n]: what `scores` gives these rows (int64 [n], any order)."""
    ratio, found = _log_ratio(fitted), np.empty(len(rows), np.float32)
    for at in range(0, len(rows), SCAN_ROWS):
        part = slice(at, at + SCAN_ROWS)
        turns = index.table.take(rows[part], ["turns"]).column(0).to_pylist()
        found[part] = log_weights(config, ratio, texts_of(turns, config.text))
    return found


def log_weights(config: DsirMeasure, ratio: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """float32 [n]; NaN for a text without any word. ratio: float64 [buckets]."""
    found = np.full(len(texts), np.nan, np.float32)
    for place, text in enumerate(texts):
        hashed = buckets_of(text, config.ngrams, config.buckets)
        if len(hashed):
            total = ratio[hashed].sum()
            found[place] = total / len(hashed) if config.per_token else total
    return found


def _log_ratio(fitted: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(fitted / FILE)["log_ratio"].astype(np.float64)


def buckets_of(text: str, ngrams: int, buckets: int) -> np.ndarray:
    """int64: the bucket of every n-gram of words and punctuation, 1 to `ngrams` long, lower case, in order of place."""
    words = WORDS.findall(text.lower())
    found = [
        zlib.crc32(" ".join(words[at : at + n]).encode()) % buckets
        for n in range(1, ngrams + 1)
        for at in range(len(words) - n + 1)
    ]
    return np.array(found, np.int64)


def conversations(index: Index, text: str, *, start: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(first row, one text a row) for rows [start, end) in order: see texts_of."""
    at = start
    for batch in index.table.scan(["turns"], start=start, batch_rows=SCAN_ROWS):
        texts = texts_of(batch.column(0).to_pylist(), text)
        yield at, texts
        at += len(texts)


def texts_of(rows: Sequence[Sequence[Mapping[str, str]]], text: str) -> list[str]:
    """One text a row of the index's `turns`: the user turns (`user`) or all (`full`), without image placeholders."""
    return [
        " ".join(t["text"] for t in turns if text == "full" or t["role"] == "user").replace(
            "<image>", " "
        )
        for turns in rows
    ]
