"""estimator: train the proximity estimator, robot against pool, and test it on held-out rows.

weights.safetensors   weight float32 [dim], bias float32 [1]: logit = weight . phi + bias; members
                      float32 [seeds, dim], member_bias float32 [seeds]: those it is the mean of
steps.parquet         step loss train_accuracy val_loss val_accuracy agreement (the last three NaN
                      where not measured)
heldout.parquet       row label logit: the test split (bounded, equal for every robot set)
curves.json           roc, precision_recall, calibration of the test split

Held-out figures give the robots (each set equally) and the pool half of the weight each, as the
training does, so they do not change with the size of the pool. Training takes seconds: an
interrupted run starts again.
"""

from __future__ import annotations

from pathlib import Path

from emt_core.proximity.base import Inputs, measure_of
from emt_core.proximity.split import check_sources
from emt_core.recipe.proximity import EstimatorConfig
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome

VERSION = 3


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError where pool or robot data are missing, or a robot set is too small."""
    check_sources(instance.sources, base)


def run(context: Context) -> Outcome:
    """Raises EmtError where a robot set has too few episodes for the split."""
    config = context.config
    assert isinstance(config, EstimatorConfig)
    metrics = measure_of(config.kind).fit(config, Inputs.of(context), context.out)
    return Outcome(rows=sum(metrics["test_rows"].values()), metrics=metrics)
