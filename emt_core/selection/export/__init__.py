"""A selection in a trainer's format: one file a format.

An exporter is built for an empty folder, gets one row at a time and keeps memory bounded. It knows
nothing of workspaces: `emt_core.selection.export.export` feeds it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.selection.export.base import Exporter

FORMATS = (
    "llamafactory",
    "swift",
    "starvla",
    "llava",
    "openai",
    "hf",
    "parquet",
    "webdataset",
)


def exporter_class(name: str) -> type[Exporter]:
    if name not in FORMATS:
        raise EmtError(
            f"there is no export format {name!r}",
            where="export",
            remedy=f"formats: {', '.join(FORMATS)}",
        )
    return importlib.import_module(f"emt_core.selection.export.{name}").EXPORTER


def open_exporter(name: str, folder: Path, *, images: str, facts: dict[str, Any]) -> Exporter:
    """The exporter of a format. Raises EmtError where it cannot hold images as asked for."""
    kind = exporter_class(name)
    if images not in kind.modes:
        raise EmtError(
            f"format {name!r} cannot hold images by {images!r}",
            where="export",
            remedy=f"--images {' or '.join(kind.modes)}; "
            "to embed images use the formats hf, parquet, openai or webdataset",
        )
    return kind(folder, images=images, facts=facts)
