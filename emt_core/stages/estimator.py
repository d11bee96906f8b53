"""estimator: train the proximity estimator, robot against pool, and measure it on episodes it never saw.

weights.safetensors   weight float32 [dim], bias float32 [1]: logit = weight . phi + bias on the raw feature
steps.parquet         step loss train_accuracy val_loss val_accuracy (NaN where not measured)
heldout.parquet       row label logit: the test split (bounded, equal for every robot set)
curves.json           roc, precision_recall, calibration of the test split

All held-out figures weigh robots (each set equally) and pool by halves, as the training does: they do not change with
the size of the pool. Training takes seconds, so an interrupted run starts again.
"""

from __future__ import annotations

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.proximity.heldout import write_heldout
from emt_core.proximity.measures.linear import train
from emt_core.proximity.prepared import prepare, training_progress
from emt_core.recipe.proximity import EstimatorConfig
from emt_core.run.stage import Context, Outcome

VERSION = 1


def run(context: Context) -> Outcome:
    from safetensors.numpy import save_file

    config = context.config
    assert isinstance(config, EstimatorConfig)
    index = Index(context.parents["sources"])
    features = Features.at(context.parents["embed"].data / "features.lance")
    data = prepare(index, features, config)
    batches = data.draws.batches(config.batch, config.steps)
    with training_progress(context.progress, config) as report:
        estimator = train(
            config, batches, data.validation, mean=data.mean, scale=data.scale, on_step=report
        )
    save_file(
        {"weight": estimator.weight, "bias": estimator.bias},
        context.out / "weights.safetensors",
        metadata={"formula": "logit = weight . phi + bias on the raw feature"},
    )
    test = data.test()
    metrics = write_heldout(
        context.out, estimator.logits(test.x), test, estimator.history, estimator.stopped, index
    )
    return Outcome(rows=len(test.x), metrics={**metrics, **data.facts()})
