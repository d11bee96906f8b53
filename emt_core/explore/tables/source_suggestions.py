"""Values that a source's files offer for a setting: cameras, data sets, columns."""

from __future__ import annotations

from pathlib import Path

from emt_core.data.readers import robot_set
from emt_core.errors import EmtError
from emt_core.recipe.form import formats, parse_source
from emt_core.recipe.sources import EpisodeSource
from emt_core.workspace.files import read_json

COLUMN_FIELDS = ("conversations", "question", "answer", "text", "images", "own_id")


def suggestions(format_: str, data: Path) -> dict[str, list[str]]:
    """Field -> values found in the files at `data`; nothing where they are missing or broken."""
    try:
        model = formats()[format_]
        if issubclass(model, EpisodeSource):
            entry = {"name": "x", "role": "robot", "path": "x", "format": format_, "camera": "x"}
            cameras = robot_set(parse_source(entry), data).cameras
            return {"camera": cameras, "cameras": cameras}
        if format_ == "sharegpt":
            found = read_json(data / "dataset_info.json")
            return {"dataset": [str(name) for name in found] if isinstance(found, dict) else []}
        if format_ == "parquet":
            return dict.fromkeys(COLUMN_FIELDS, _columns(data))
    except (EmtError, OSError, ValueError):
        pass
    return {}


def _columns(data: Path) -> list[str]:
    from pyarrow import parquet

    path = next(iter(sorted(data.glob("*.parquet"))), None) if data.is_dir() else data
    return list(parquet.read_schema(path).names) if path is not None else []
