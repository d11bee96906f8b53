"""All probes of one model: what is asked from which feature, and the tables that come of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.evaluation.probe_scores import score_of
from emt_core.recipe.probe import ProbeConfig
from emt_core.training.probe.fits import HEADS, Errors, Task, errors_of, folds_of
from emt_core.training.probe.frames import Asked
from emt_core.workspace.files import read_json_if_there, write_json
from emt_core.workspace.progress import Progress

TASK = "task"
QUERY, IMAGE = 0, 1
"""Places of the two features."""


def probe_all(
    asked: Asked, features: np.ndarray, config: ProbeConfig, kept: Path, progress: Progress
) -> pa.Table:
    """The table of episodes.parquet. kept: folder of finished probes, which are not fitted again.

    features: float32 [N, 2, H], NaN for frames that are not asked about.
    """
    kept.mkdir(exist_ok=True)
    fold = _folds(asked, config)
    wanted = [
        (probe, head, seed)
        for probe in (*asked.names, TASK)
        for head in HEADS
        for seed in range(config.seeds if head == "mlp" else 1)
    ]
    rows: list[dict[str, Any]] = []
    each = int(fold.max()) + 2  # a fit for each fold, one for what is unseen
    with progress.track("probing", len(wanted) * each, unit="fits") as tracker:
        for probe, head, seed in wanted:
            file = kept / f"{probe}-{head}-{seed}.json"
            found = read_json_if_there(file)
            if found is None:
                found = _rows(asked, features, fold, config, probe, head, seed, tracker.advance)
                write_json(file, found)
            else:
                tracker.advance(each)
            rows += found
    return pa.Table.from_pylist(rows, schema=SCHEMA)


SCHEMA = pa.schema(
    [
        ("probe", pa.string()),
        ("head", pa.string()),
        ("seed", pa.int64()),
        ("seen", pa.bool_()),
        ("set", pa.string()),
        ("episode", pa.int64()),
        ("task", pa.string()),
        ("frames", pa.int64()),
        ("error", pa.float64()),
        ("base", pa.float64()),
    ]
)


def _folds(asked: Asked, config: ProbeConfig) -> np.ndarray:
    """int64 [E]: fold of each episode; -1 where it is unseen."""
    seen = np.array([episode.seen for episode in asked.episodes])
    tasks = [episode.task for episode in asked.episodes if episode.seen]
    fold = np.full(len(seen), -1)
    count = min(config.folds, int(seen.sum()))
    fold[seen] = folds_of(np.flatnonzero(seen), tasks, count, config.seed)
    return fold


def _rows(
    asked: Asked,
    features: np.ndarray,
    fold: np.ndarray,
    config: ProbeConfig,
    probe: str,
    head: str,
    seed: int,
    advance: Any,
) -> list[dict[str, Any]]:
    episode = asked.episode_of
    seen = np.array([entry.seen for entry in asked.episodes])[episode]
    there = np.isfinite(features[:, QUERY]).all(1)
    if probe == TASK:
        place, target, known = IMAGE, *_classes(asked, config)
        # a class of its own needs episodes on both sides of a fold
        there &= known[episode] & seen
        target = target[episode]
    else:
        place, target = QUERY, asked.target(probe)
    task = Task(
        features=features[there, place],
        target=target[there],
        episode=episode[there],
        seen=seen[there],
    )
    if not there.any() or (task.classes and len(np.unique(task.target)) < 2):
        return []
    errors = errors_of(
        task,
        head,
        fold[episode][there],
        hidden=config.hidden,
        seed=config.seed + seed,
        advance=advance,
    )
    facts = {"probe": probe, "head": head, "seed": seed}
    return [facts | row for row in _by_episode(asked, task.episode, errors)]


def _classes(asked: Asked, config: ProbeConfig) -> tuple[np.ndarray, np.ndarray]:
    """(class int64 [E], whether it is asked bool [E]): tasks with at least two seen episodes."""
    counts = Counter(episode.task for episode in asked.episodes if episode.seen)
    named = [task for task, n in counts.most_common(config.most_tasks) if n >= 2]
    place = {task: number for number, task in enumerate(sorted(named))}
    classes = np.array([place.get(episode.task, -1) for episode in asked.episodes])
    return classes, classes >= 0


def _by_episode(asked: Asked, episode: np.ndarray, errors: Errors) -> list[dict[str, Any]]:
    rows = []
    for number in np.unique(episode):
        mine = episode == number
        entry = asked.episodes[number]
        rows.append(
            {
                "seen": entry.seen,
                "set": entry.set.source.name,
                "episode": entry.index,
                "task": entry.task,
                "frames": int(mine.sum()),
                "error": float(errors.error[mine].sum()),
                "base": float(errors.base[mine].sum()),
            }
        )
    return rows


def write_results(out: Path, table: pa.Table, drift: list[dict[str, Any]]) -> dict[str, Any]:
    """Write episodes.parquet and results.json; returns what the latter holds.

    drift: rows of drift.py.
    """
    parquet.write_table(table, out / "episodes.parquet")
    rows = table.to_pylist()
    groups: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["probe"], row["head"], row["seen"]), []).append(row)
    tasks = Counter(row["task"] for row in rows if row["probe"] == TASK and row["head"] == HEADS[0])
    results = {
        "probes": [
            {"probe": probe, "head": head, "seen": seen, **_scored(mine)}
            for (probe, head, seen), mine in groups.items()
        ],
        "drift": drift,
        "tasks": dict(tasks.most_common()),
        "most_frequent": max(tasks.values()) / tasks.total() if tasks else None,
    }
    write_json(out / "results.json", results)
    return results


def _scored(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors of an episode are the mean over seeds; beside it each seed's own score."""
    seeds = sorted({row["seed"] for row in rows})
    error = np.array([[row["error"] for row in rows if row["seed"] == seed] for seed in seeds])
    mine = [row for row in rows if row["seed"] == seeds[0]]
    base = np.array([row["base"] for row in mine])
    score = score_of(error.mean(0), base)
    return {
        "score": score.score,
        "low": score.low if score.episodes > 1 else None,
        "high": score.high if score.episodes > 1 else None,
        "episodes": score.episodes,
        "frames": sum(row["frames"] for row in mine),
        "by_seed": [score_of(one, base).score for one in error],
    }
