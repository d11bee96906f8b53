"""To which split of a data set a file belongs, by its name and its folders' names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from emt_core.errors import EmtError

SPLITS = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Words in names of files and folders that mean a split of another name."""

NUMBERED = re.compile(r"(.+?)-\d{5}-of-\d{5}")


def split_of(path: Path, wanted: str = "") -> str:
    """path: below the data set's folder. A folder named as the split that is wanted decides, else
    the rules of `datasets`: `NAME-00000-of-00001`, or a word in a folder's or its own name.
    "" is none."""
    if wanted and wanted in path.parts[:-1]:
        return SPLITS.get(wanted, wanted)
    numbered = NUMBERED.match(path.name)
    if numbered and numbered[1] not in ("data", "part", "shard"):
        return SPLITS.get(numbered[1], numbered[1])
    for part in (*path.parts[:-1], path.stem):
        for word in re.split(r"[-_. ]", part.lower()):
            if word in SPLITS or word in SPLITS.values():
                return SPLITS.get(word, word)
    return path.parts[0] if numbered and len(path.parts) > 1 else ""


def check_one_split(files: Sequence[Path], folder: Path) -> None:
    """Raises EmtError where files (or folders) of several splits would be read as one: test files
    must not enter a pool unseen."""
    found: dict[str, Path] = {}
    for path in files:
        name = split_of(path.relative_to(folder))
        found.setdefault(name if name in SPLITS.values() else "", path)
    if len(found) > 1 and found.keys() & {"validation", "test"}:
        examples = ", ".join(
            f"{name or 'no split'} ({path.relative_to(folder)})"
            for name, path in sorted(found.items())
        )
        raise EmtError(
            f"the folder holds files of several splits: {examples}",
            where=folder,
            remedy="name in `path` those that are wanted: their folder or file, of tars and "
            "Parquet also a pattern such as train-*; several of them are several sources",
        )
