"""Readers: one file a format. Each has

read(source, data) -> Iterator[Sample | Reject]   in the file's row order; decodes no image
files(source, data) -> FileSet                    what its fingerprint is made of
image_root(source, data) -> Path                  folder that image references are relative to
count(source, data) -> int | None                 rows, where a header says so
loose_images(source, data) -> bool                images are files beside the table, fingerprinted
LIMIT_COUNTS = "episodes"                         optional: the reader itself applies `limit`
robot_set(source, data) -> RobotSet               optional: robot episodes (robot_set.py)

`data` is the place that the source's `path` names (`locate`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from emt_core.data.fingerprint import REFERENCED_IMAGES, fingerprint_files
from emt_core.data.paths import PathLeavesRoot, existing, inside
from emt_core.data.readers.robot_set import RobotSet
from emt_core.data.sample import Reject, Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import SourceConfig

__all__ = [
    "count",
    "fingerprint",
    "image_root",
    "images_from",
    "locate",
    "read",
    "reader_of",
    "robot_set",
]


def reader_of(source: SourceConfig) -> ModuleType:
    return importlib.import_module(f"emt_core.data.readers.{source.format}")


def locate(source: SourceConfig, base: Path) -> Path:
    """The file or folder that the source's path names. Raises EmtError where there is none.

    A reader may answer for other names (brace patterns, hub names) with its own `locate`.
    """
    module = reader_of(source)
    if hasattr(module, "locate"):
        return module.locate(source, base)
    return existing(base / Path(source.path).expanduser(), source.name)


def read(source: SourceConfig, data: Path) -> Iterator[Sample | Reject]:
    """All rows in order, up to `limit`. A robot row of a format without episodes is an episode."""
    module = reader_of(source)
    rows = module.read(source, data)
    if source.limit is not None and not hasattr(module, "LIMIT_COUNTS"):
        rows = islice(rows, source.limit)
    for row in rows:
        if isinstance(row, Sample) and row.role == "robot" and row.episode < 0:
            row = replace(row, episode=row.row, frame=0)
        yield row


def robot_set(source: SourceConfig, data: Path) -> RobotSet:
    """The episodes of a robot source. Raises EmtError where its format has none."""
    module = reader_of(source)
    if not hasattr(module, "robot_set"):
        raise EmtError(
            f"source {source.name!r} is {source.format}, a format without robot episodes: actions "
            "are not known",
            where=data,
            remedy="lerobot, hdf5 and rlds have them",
        )
    return module.robot_set(source, data)


def image_root(source: SourceConfig, data: Path) -> Path:
    return reader_of(source).image_root(source, data)


def images_from(source: SourceConfig, data: Path) -> str:
    """Where image paths are taken from and the option that says so; "" for a format without one."""
    option = next((name for name in ("image_root", "media_dir") if hasattr(source, name)), "")
    if not option:
        return ""
    return (
        f"image paths are taken from {image_root(source, data)}; `{option}: FOLDER` says otherwise "
        f"(relative to the folder of the data)"
    )


def count(source: SourceConfig, data: Path) -> int | None:
    """Rows to come (`limit` applied), or None where only reading tells."""
    module = reader_of(source)
    rows = module.count(source, data)
    if rows is None or source.limit is None or hasattr(module, "LIMIT_COUNTS"):
        return rows
    return min(rows, source.limit)


def fingerprint(source: SourceConfig, data: Path) -> dict[str, Any]:
    """What identifies the source's content, in bounded work (data/fingerprint.py)."""
    module = reader_of(source)
    loose = _first_images(source, data) if module.loose_images(source, data) else ()
    return fingerprint_files(module.files(source, data), loose)


def _first_images(source: SourceConfig, data: Path) -> Iterator[Path]:
    root = image_root(source, data)
    found = 0
    for row in islice(read(source, data), REFERENCED_IMAGES):
        for ref in row.images if isinstance(row, Sample) else ():
            if ref.kind == "file" and found < REFERENCED_IMAGES:
                found += 1
                try:
                    yield inside(root, ref.path)
                except PathLeavesRoot:
                    continue
