"""dataset_info.json and features.json of a tensorflow_datasets folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from emt_core.data.file_kind import is_copy, mistaken
from emt_core.data.paths import PathLeavesRoot, relative_path
from emt_core.data.readers.lerobot_kinds import RLDS, other_kind
from emt_core.errors import EmtError
from emt_core.workspace.files import read_json, read_json_if_there

TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
CONVERT = (
    "write it again as TFRecord: tfds convert_format --dataset_version_dir=FOLDER "
    "--out_file_format=tfrecord --out_path=NEW"
)
MAX_SHARDS = 1_000_000
MAX_WIDTH = 10_000
"""Numbers a step; a feature with more is no state and no action."""

NUMERIC = ("float", "int", "uint", "bool")


@dataclass(frozen=True)
class Shard:
    name: str
    episodes: int
    """As dataset_info.json promises."""


def version_folder(data: Path) -> Path:
    """The folder of dataset_info.json: `data`, or the one version below it.

    Raises EmtError where there is none or several.
    """
    if (data / "dataset_info.json").is_file():
        return data
    found = sorted(
        path.parent
        for pattern in ("*/dataset_info.json", "*/*/dataset_info.json")
        for path in data.glob(pattern)
        if not is_copy(path.relative_to(data).as_posix())
    )
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.relative_to(data).as_posix() for path in found)
        raise EmtError("the folder has several versions", where=data, remedy=f"name one: {names}")
    here = "`path` is the folder that has dataset_info.json, such as bridge/1.0.0"
    what, remedy = other_kind(data) or ("no folder of tensorflow_datasets", here)
    if what == RLDS:
        remedy = f"complete the download; {here}"
    raise EmtError(f"this is {what}: dataset_info.json is missing", where=data, remedy=remedy)


@dataclass(frozen=True, eq=False)
class RLDSMeta:
    """Raises EmtError, naming the file, wherever the two files are not what they should be."""

    root: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        path = self.root / "dataset_info.json"
        found = read_json(path)
        if not isinstance(found, dict):
            raise EmtError("dataset_info.json is no object", where=path)
        kind = found.get("fileFormat") or "tfrecord"
        if kind != "tfrecord":
            raise EmtError(f"file format {kind!r} is not read", where=path, remedy=CONVERT)
        return found

    def shards(self, split: str) -> list[Shard]:
        """The shards of a split, in order."""
        path = self.root / "dataset_info.json"
        splits = {
            s["name"]: s
            for s in _list(self.info.get("splits"))
            if isinstance(s, dict) and isinstance(s.get("name"), str)
        }
        if split not in splits:
            raise EmtError(
                f"there is no split {split!r}",
                where=path,
                remedy=f"its splits are: {', '.join(splits) or 'none'}",
            )
        lengths = splits[split].get("shardLengths")
        try:
            counts = [int(length) for length in _list(lengths)]
        except (TypeError, ValueError):
            counts = []
        if not counts or min(counts) < 0 or len(counts) > MAX_SHARDS:
            raise EmtError(f"shardLengths of split {split!r} is {lengths!r}"[:200], where=path)
        template = splits[split].get("filepathTemplate") or TEMPLATE
        return [
            Shard(self._file(template, split, place, len(counts)), episodes)
            for place, episodes in enumerate(counts)
        ]

    def _file(self, template: Any, split: str, place: int, count: int) -> str:
        parts = {
            "DATASET": self.info.get("name", ""),
            "SPLIT": split,
            "FILEFORMAT": "tfrecord",
            "SHARD_INDEX": f"{place:05d}",
            "NUM_SHARDS": f"{count:05d}",
            "SHARD_X_OF_Y": f"{place:05d}-of-{count:05d}",
        }
        try:
            return relative_path(str(template).format(**parts), self.root)
        except (PathLeavesRoot, KeyError, IndexError, ValueError, AttributeError) as error:
            raise EmtError(
                f"filepathTemplate is {str(template)[:80]!r}, which cannot be filled in: {error!r}",
                where=self.root / "dataset_info.json",
                remedy=f"usual is {TEMPLATE}",
            ) from error

    def other_kind(self, shard: Shard) -> str:
        """What a shard is by its first bytes, and the remedy, where it is no TFRecord; else ""."""
        try:
            with (self.root / shard.name).open("rb") as file:
                other = mistaken(file.read(32))
        except OSError:
            return ""
        return f"it is {other[0]}: {other[1]}" if other else ""

    @cached_property
    def features(self) -> dict[str, dict[str, Any]]:
        """Flat name -> description; `steps/observation/image` is of one step."""
        path = self.root / "features.json"
        found = read_json_if_there(path)
        if found is None:
            remedy = "download it to the folder of dataset_info.json"
            raise EmtError("features.json is missing", where=path, remedy=remedy)
        flat = dict(_flat(found, "")) if isinstance(found, dict) else {}
        if not any(name.startswith("steps/") for name in flat):
            what = "features.json has no `steps`: this is no set of RLDS episodes"
            if isinstance(found, dict) and "type" in found:
                what = "features.json is of tensorflow_datasets before 4.5, which is not read"
            raise EmtError(
                what, where=path, remedy=f"it has {', '.join(list(flat)[:20]) or 'nothing'}"
            )
        return flat

    @cached_property
    def cameras(self) -> dict[str, str]:
        """Name, without `steps/observation/`, -> feature that holds encoded images."""
        of_step = (name for name, f in self.features.items() if "image" in f)
        return {
            name.removeprefix("steps/").removeprefix("observation/"): name
            for name in of_step
            if name.startswith("steps/")
        }

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Name, without `steps/`, -> numbers a step, of each feature of numbers of fixed shape."""
        found = {}
        for name, feature in self.features.items():
            width = _width(feature)
            if name.startswith("steps/") and width:
                found[name.removeprefix("steps/")] = width
        return found

    @cached_property
    def texts(self) -> dict[str, int]:
        """Feature -> characters, 0 where they are not fixed: texts, and vectors of their codes."""
        found = {}
        for name, feature in self.features.items():
            tensor = _object(feature, "tensor")
            if "text" in feature or tensor.get("dtype") in ("string", "object"):
                found[name] = 0
            elif str(tensor.get("dtype", "")).startswith(("int", "uint")) and _width(feature) > 8:
                found[name] = _width(feature)
        return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _flat(feature: dict[str, Any], name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(flat name, description) of the leaves that an Example holds as one list of values."""
    if depth > 32:
        return
    if "featuresDict" in feature:
        for key, value in _object(_object(feature, "featuresDict"), "features").items():
            if isinstance(value, dict):
                yield from _flat(value, f"{name}/{key}" if name else key, depth + 1)
    elif "sequence" not in feature:
        yield name, feature
    elif name == "steps":  # others have a length of their own
        yield from _flat(_object(_object(feature, "sequence"), "feature"), name, depth + 1)


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under a name; {} where it is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _width(feature: dict[str, Any]) -> int:
    """Numbers a step; 0 where the feature is no tensor of numbers of fixed shape."""
    tensor = _object(feature, "tensor")
    known = tensor.get("encoding", "none") == "none"
    if not known or not str(tensor.get("dtype", "")).startswith(NUMERIC):
        return 0
    width = 1
    for size in _list(_object(tensor, "shape").get("dimensions")):
        width *= int(size) if str(size).isdecimal() and len(str(size)) < 10 else 0
    return width if width <= MAX_WIDTH else 0
