"""What the stages `measure`, `score` and `trust` give a measure, for tests that call the measure
itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.proximity.base import Inputs
from emt_core.recipe.base import Runtime
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.progress import Progress


def measure_inputs(made: Mapping[str, Artifact], base: Path, **more: Any) -> Inputs:
    """made: the artifacts by label, with `sources` and `embed`; more: Inputs' further fields."""
    return Inputs(
        index=Index(made["sources"]),
        features=Features.at(made["embed"].data / "features.lance"),
        embed=made["embed"],
        base=base,
        runtime=Runtime(workers=0, batch=2),
        progress=Progress(label="test", quiet=True),
        **more,
    )
