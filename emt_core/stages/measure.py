"""measure: fit a proximity measure; `score` then scores every sample with it.

What lies in its folder is the measure's own (see the file of its kind in emt_core/proximity/).
Measures that are classifiers leave steps.parquet, heldout.parquet and curves.json as `estimator`
does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from emt_core.proximity.base import Inputs, measure_of
from emt_core.proximity.perplexity.twin import IDENTITY_REPLACES, twin_key
from emt_core.proximity.split import check_sources
from emt_core.recipe.proximity import (
    ClipMeasure,
    ImportedMeasure,
    MeasureBase,
    MeasureConfig,
    SplitMeasure,
    VlmMeasure,
)
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome

__all__ = ["IDENTITY_REPLACES", "VERSION", "identity", "run"]

VERSION = 4


def identity(config: MeasureConfig, base: Path) -> dict[str, Any]:
    """What a model or file that the config names *is*: hashes, never paths.

    Empty where it names none.
    """
    if isinstance(config, ClipMeasure):
        from emt_core.models.encoders.clip import clip_identity

        return clip_identity(config.model, base)
    if isinstance(config, VlmMeasure) and config.model:
        from emt_core.models.identity import model_identity

        return model_identity(config.model, config.revision, base)
    if isinstance(config, ImportedMeasure) and config.path:
        from emt_core.data.fingerprint import content_hash

        return {"file": content_hash(config.file(base))}
    return {}


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError where pool or robot data are missing, or a robot set is too small."""
    if isinstance(instance.config, SplitMeasure):
        check_sources(instance.sources, base)


def run(context: Context) -> Outcome:
    assert isinstance(context.config, MeasureBase)
    config: Any = context.config
    inputs = Inputs.of(context)
    twin = twin_key(
        version=VERSION,
        config=config.model_dump(mode="json"),
        identity=context.identity,
        parents={name: parent.key for name, parent in context.parents.items()},
    )
    if twin:
        inputs = replace(inputs, twin=context.workspace.find("measure", twin))
    module = measure_of(config.kind)
    fitted = module.fit(config, inputs, context.out)
    metrics = {"kind": config.kind, "is_logit": module.LOGIT, **fitted}
    return Outcome(rows=inputs.index.rows, metrics=metrics, scratch=("checkpoints",))
