"""What the stages `measure`, `score` and `trust` give a measure, for tests that call the measure itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emt_core.artifact import Artifact
from emt_core.index import Index
from emt_core.progress import Progress
from emt_core.proximity.base import Inputs
from emt_core.stage_config import Runtime
from emt_core.store import Features


def measure_inputs(made: Mapping[str, Artifact], base: Path, **more: Any) -> Inputs:
    """made: the artifacts by label, with `sources` and `embed`; more: Inputs' further fields."""
    return Inputs(
        index=Index(made["sources"]),
        features=Features.at(made["embed"].data / "features.lance"),
        embed=made["embed"],
        base=base,
        runtime=Runtime(workers=0, batch_size=2),
        progress=Progress(label="test", quiet=True),
        **more,
    )
