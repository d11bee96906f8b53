"""Whether two workspaces hold the same work: every artifact, row by row and file by file.

What tells of the last run alone (seconds, rates, memory, rows it embedded itself) is left out;
everything else has to be equal to the last bit. Frames in videos, weights and archives count as
files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emt_core.flow import STAGES
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.table import Table

OF_THE_RUN = {
    *("started", "finished", "seconds", "wall_seconds", "model_seconds", "training_seconds"),
    *("samples_per_second", "tokens_per_second", "model_share"),
    *("embedded_rows", "reused", "batch_halvings", "batch_size", "workers"),
    *("memory_mb", "peak_memory_mb", "memory_added_mb", "data_wait"),
}


@dataclass(frozen=True)
class Difference:
    stage: str
    file: str
    lost: int = 0
    doubled: int = 0
    different: int = 0


def differences(whole: Path, other: Path) -> list[dict[str, Any]]:
    """How `other` departs from an uninterrupted run's workspace, as JSON; empty where equal.

    An artifact, file or row that only one of them has counts as lost, or as doubled.
    """
    found = []
    artifacts = [_artifacts(folder) for folder in (whole, other)]
    for name in sorted(artifacts[0].keys() | artifacts[1].keys()):
        stage = name.partition("/")[0]
        if name not in artifacts[1]:
            found.append(Difference(stage, name, lost=1))
        elif name not in artifacts[0]:
            found.append(Difference(stage, name, doubled=1))
        else:
            found += _of_artifact(stage, artifacts[0][name], artifacts[1][name])
    found += [Difference("left behind", leftover, doubled=1) for leftover in leftovers(other)]
    return [asdict(one) for one in found]


def leftovers(workspace: Path) -> list[str]:
    """Work in progress and files written aside that a finished run should not leave.

    In jobs/, state/ and recipes/ a kill may leave one of a few bytes that nothing reads.
    """
    suffixes = (".building", ".tmp", ".partial", ".old")
    names = (
        path.relative_to(workspace) for stage in STAGES for path in (workspace / stage).rglob("*")
    )
    return sorted(str(name) for name in names if name.suffix in suffixes)


def _artifacts(workspace: Path) -> dict[str, Path]:
    space = Workspace.open(workspace)
    return {f"{a.stage}/{a.key}": a.path for stage in STAGES for a in space.artifacts(stage)}


def _of_artifact(stage: str, whole: Path, other: Path) -> Iterable[Difference]:
    names = [_units(folder) for folder in (whole, other)]
    for name in sorted(names[0] | names[1]):
        if name not in names[1]:
            yield Difference(stage, name, lost=1)
        elif name not in names[0]:
            yield Difference(stage, name, doubled=1)
        else:
            rows = [_rows(folder / name) for folder in (whole, other)]
            if rows[0] != rows[1]:
                yield _compared(stage, name, *rows)


def _units(artifact: Path) -> set[str]:
    """Files of an artifact; a Lance table counts as one."""
    found = set()
    for path in artifact.rglob("*"):
        name = path.relative_to(artifact)
        tables = [part for part in (name, *name.parents) if part.suffix == ".lance"]
        if tables:
            found.add(str(tables[-1]))
        elif path.is_file():
            found.add(str(name))
    return found


def _rows(path: Path) -> list[str]:
    """What a file holds: rows of a table or log, the value of a JSON file, else its bytes."""
    if path.suffix == ".lance":
        batches = Table(path).scan(Table(path).schema.names)
        return [_told(row) for batch in batches for row in batch.to_pylist()]
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return [_told(row) for row in parquet.read_table(path).to_pylist()]
    if path.suffix == ".jsonl":
        return [_told(json.loads(line)) for line in path.read_bytes().split(b"\n") if line]
    if path.suffix == ".json":
        return [_told(json.loads(path.read_bytes()))]
    return [path.read_bytes().hex()]


def _told(value: Any) -> str:
    """Exact text of a value: floats to the last bit, NaN equal to itself."""
    return repr(_of_the_work(value))


def _of_the_work(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _of_the_work(v) for k, v in value.items() if k not in OF_THE_RUN}
    if isinstance(value, list):
        return [_of_the_work(part) for part in value]
    return value


def _compared(stage: str, name: str, whole: list[str], other: list[str]) -> Difference:
    """lost and doubled: by how many rows one is shorter or longer; different: rows that the
    uninterrupted run does not have, or has elsewhere."""
    here, there = Counter(whole), Counter(other)
    strange = sum((there - here).values())
    moved = sum(a != b for a, b in zip(whole, other, strict=False))
    again = sum(count - here[row] for row, count in there.items() if 0 < here[row] < count)
    return Difference(
        stage,
        name,
        lost=max(len(whole) - len(other), 0),
        doubled=again,
        different=max(strange - again, 0) or (moved if len(whole) == len(other) else 0),
    )
