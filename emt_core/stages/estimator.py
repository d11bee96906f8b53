"""estimator: train the proximity estimator, robot against pool, and measure it on episodes it never saw.

weights.safetensors   weight float32 [dim], bias float32 [1]: logit = weight . phi + bias on the raw feature
steps.parquet         step loss train_accuracy val_loss val_accuracy (NaN where not measured)
heldout.parquet       row label logit: the test split (bounded, equal for every robot set)
curves.json           roc, precision_recall, calibration of the test split

All held-out figures weigh robots (each set equally) and pool by halves, as the training does: they do not change with
the size of the pool. Training takes seconds, so an interrupted run starts again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.artifact import write_json
from emt_core.finite import take_finite
from emt_core.index import Index
from emt_core.metrics import calibration, ranking
from emt_core.proximity.draws import Draws, bounded
from emt_core.proximity.learned import Examples, History, LinearEstimator, scaling, train
from emt_core.proximity.split import NO_VECTOR, TEST, TRAIN, VALIDATION, split_rows
from emt_core.stage_config import EstimatorConfig
from emt_core.stages import Context, Outcome
from emt_core.store import Features

VERSION = 1

VALIDATION_ROWS = 2048  # of each class at the most: accuracy is then known to +-1.3 % (95 %)
TEST_ROWS = 10_000
SCALING_ROWS = 4096


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, EstimatorConfig)
    index = Index(context.parents["sources"])
    features = Features.at(context.parents["embed"].data / "features.lance")
    part = split_rows(
        index, features.ok(), validation=config.validation_share, test=config.test_share, seed=config.seed
    )
    rows = {name: _rows_of(index, part, value) for name, value in PARTS.items()}
    training = _examples(features, rows["train"], SCALING_ROWS, config.seed)
    mean, scale = scaling(training.x, training.weights, standardize=config.standardize)
    pool, robots = rows["train"]
    draws = Draws(features, pool, robots, config.seed)
    validation = _examples(features, rows["validation"], VALIDATION_ROWS, config.seed)
    with context.progress.track("training", config.max_steps, unit="steps") as tracker:

        def report(history: History) -> None:
            if not np.isnan(history.val_accuracy[-1]):
                tracker.doing = f"training, loss {history.loss[-1]:.3f}, validation {history.val_accuracy[-1]:.1%}"
            tracker.advance()

        batches = draws.batches(config.batch_size, config.max_steps)
        estimator = train(config, batches, validation, mean=mean, scale=scale, on_step=report)
    if estimator.stopped == "max_steps":
        best = np.nanmax(estimator.history.val_accuracy)
        context.progress.say(
            f"validation accuracy never reached {config.stop_accuracy:.0%} (best {best:.1%}): stopped at max_steps"
        )
    test = _examples(features, rows["test"], TEST_ROWS, config.seed)
    metrics = _write(context, estimator, test, index)
    metrics["rows_by_part"] = {
        name: {"pool": len(pool), "robot": sum(map(len, robots))} for name, (pool, robots) in rows.items()
    }
    metrics["rows_without_vector"] = int((part == NO_VECTOR).sum())
    return Outcome(rows=len(test.x), metrics=metrics)


PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
Rows = tuple[np.ndarray, list[np.ndarray]]


def _rows_of(index: Index, part: np.ndarray, value: int) -> Rows:
    """(pool rows, rows of each robot set) of one part."""
    member = part == value
    pool = np.concatenate([np.flatnonzero(member[s.start : s.stop]) + s.start for s in index.of_role("pool")])
    robots = [np.flatnonzero(member[s.start : s.stop]) + s.start for s in index.of_role("robot")]
    return pool, robots


def _examples(features: Features, rows: Rows, most: int, seed: int) -> Examples:
    pool, robots = rows
    groups = [*bounded([pool], most, seed), *bounded(robots, most, seed)]
    numbers = np.concatenate(groups)
    stratum = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return Examples(x=take_finite(features, numbers, np.float64), robot=stratum > 0, stratum=stratum, rows=numbers)


def _write(context: Context, estimator: LinearEstimator, test: Examples, index: Index) -> dict[str, Any]:
    from safetensors.numpy import save_file

    logits = estimator.logits(test.x)
    probability = calibration.sigmoid(logits)
    weights = test.weights
    bins = calibration.reliability(test.robot, probability, weights)
    save_file(
        {"weight": estimator.weight, "bias": estimator.bias},
        context.out / "weights.safetensors",
        metadata={"formula": "logit = weight . phi + bias on the raw feature"},
    )
    parquet.write_table(pa.table(vars(estimator.history)), context.out / "steps.parquet")
    heldout = {"row": test.rows, "label": test.robot.astype(np.int8), "logit": logits}
    parquet.write_table(pa.table(heldout), context.out / "heldout.parquet")
    write_json(
        context.out / "curves.json",
        {
            "roc": ranking.roc_curve(test.robot, logits, weights),
            "precision_recall": ranking.precision_recall_curve(test.robot, logits, weights),
            "calibration": bins.as_dict(),
        },
    )
    history, measured = estimator.history, np.array(estimator.history.val_accuracy)
    by_robot = {}
    for place, source in enumerate(index.of_role("robot"), start=1):
        against = (test.stratum == 0) | (test.stratum == place)
        by_robot[source.name] = ranking.auroc(test.robot[against], logits[against])
    in_pool = ~test.robot
    return {
        "steps": history.step[-1],
        "stopped": estimator.stopped,
        "train_loss": history.loss[-1],
        "val_accuracy": float(measured[~np.isnan(measured)][-1]),
        "test_accuracy": float(((logits > 0) == test.robot) @ weights),
        "auroc": ranking.auroc(test.robot, logits, weights),
        "average_precision": ranking.average_precision(test.robot, logits, weights),
        "calibration_error": bins.expected_error,
        "brier": calibration.brier(test.robot, probability, weights),
        "auroc_by_robot": by_robot,
        "graded_share": float(np.mean((probability[in_pool] > 0.01) & (probability[in_pool] < 0.99))),
        "test_rows": {"pool": int(in_pool.sum()), "robot": int(test.robot.sum())},
    }
