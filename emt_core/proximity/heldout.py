"""How a classifier does on the test split, in files that the pages read (estimator and MLP alike).

steps.parquet         step loss train_accuracy val_loss val_accuracy agreement (the last three
                      NaN where not measured)
heldout.parquet       row label logit: the test split (bounded, equal for every robot set)
curves.json           roc, precision_recall, calibration of the test split
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.index import Index
from emt_core.proximity.classifier import Examples, History
from emt_core.proximity.metrics import calibration, ranking
from emt_core.workspace.files import write_json


def write_heldout(
    out: Path, logits: np.ndarray, test: Examples, history: History, stopped: str, index: Index
) -> dict[str, Any]:
    """Writes the three files; returns the figures for the manifest. logits: float32 [test rows]."""
    from pyarrow import parquet

    probability = calibration.sigmoid(logits)
    weights = test.weights
    bins = calibration.reliability(test.robot, probability, weights)
    parquet.write_table(pa.table(history.columns()), out / "steps.parquet")
    heldout = {"row": test.rows, "label": test.robot.astype(np.int8), "logit": logits}
    parquet.write_table(pa.table(heldout), out / "heldout.parquet")
    write_json(
        out / "curves.json",
        {
            "roc": ranking.roc_curve(test.robot, logits, weights),
            "precision_recall": ranking.precision_recall_curve(test.robot, logits, weights),
            "calibration": bins.as_dict(),
        },
    )
    measured = np.array(history.val_accuracy)
    by_robot = {}
    for place, source in enumerate(index.of_role("robot"), start=1):
        against = (test.stratum == 0) | (test.stratum == place)
        by_robot[source.name] = ranking.auroc(test.robot[against], logits[against])
    in_pool = ~test.robot
    kept = history.kept or history.step[-1]
    return {
        "steps": history.step[-1],
        "stopped": stopped,
        "kept_step": kept,
        "train_loss": history.loss[-1],
        "val_accuracy": float(measured[history.step.index(kept)]),
        "first_look_accuracy": float(measured[~np.isnan(measured)][0]),
        "test_accuracy": float(((logits > 0) == test.robot) @ weights),
        "auroc": ranking.auroc(test.robot, logits, weights),
        "average_precision": ranking.average_precision(test.robot, logits, weights),
        "calibration_error": bins.expected_error,
        "brier": calibration.brier(test.robot, probability, weights),
        "auroc_by_robot": by_robot,
        "graded_share": float(
            np.mean((probability[in_pool] > 0.01) & (probability[in_pool] < 0.99))
        ),
        "test_rows": {"pool": int(in_pool.sum()), "robot": int(test.robot.sum())},
    }
