"""The writing side of an embed artifact: rows gather, one commit makes them durable.

Order inside a commit: thumbnails, problems, then features. Features decide what counts as done;
after a kill between two of them, thumbnails and problem lines beyond the last feature row are
passed over or dropped.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from emt_core.data.features import feature_schema, feature_table
from emt_core.run.shards import Shard, mark_done, read_shard
from emt_core.workspace.files import write_text
from emt_core.workspace.lines import whole_lines
from emt_core.workspace.table import CommitClock, Table

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_PX = 160
THUMBS_SCHEMA = pa.schema([("row", pa.int64()), ("webp", pa.binary())])


class FeatureWriter:
    def __init__(self, out: Path, *, commit_rows: int, commit_seconds: float) -> None:
        self.clock = CommitClock(commit_rows, commit_seconds)
        self.features = Table(out / "features.lance")
        self.thumbs = Table(out / "thumbs.lance")
        self.problems = out / "problems.jsonl"
        self.rows = self.features.rows
        """Rows handed over, committed or not. At first: where an interrupted run left off."""

        last = [self.thumbs.rows - 1]
        self._thumbs_until = (
            self.thumbs.take(last, ["row"])["row"][0].as_py() if last[0] >= 0 else -1
        )
        if self.problems.exists():
            kept = [problem for problem in whole_lines(self.problems) if problem["row"] < self.rows]
            write_text(self.problems, "".join(map(_line, kept)))
        self._clear()

    def add(
        self,
        vectors: np.ndarray,
        status: Sequence[str],
        *,
        problems: Sequence[Mapping[str, Any]] = (),
        thumbs: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """The next rows in index order: float16 [n, dim] and n statuses. Commits when due."""
        self._vectors.append(vectors)
        self._status.extend(status)
        self._problems.extend(problems)
        self._thumbs.extend(thumb for thumb in thumbs if thumb[0] > self._thumbs_until)
        self.rows += len(status)
        if self.clock.due(len(self._status)):
            self.commit()

    def commit(self) -> None:
        if not self._status:
            return
        if self._thumbs:
            rows, images = zip(*self._thumbs, strict=True)
            self.thumbs.append(pa.table({"row": rows, "webp": images}, schema=THUMBS_SCHEMA))
            self._thumbs_until = rows[-1]
        self._write_problems()
        self.features.append(feature_table(np.concatenate(self._vectors), self._status))
        self._clear()

    def take_over(self, out: Path, shards: Sequence[Shard]) -> None:
        """The next rows, from shards that workers made (ShardWriter), in one commit."""
        self.commit()
        parts = [read_shard(out, shard) for shard in shards]
        self._problems.extend(problem for part in parts for problem in part["problems"])
        self._write_problems()
        fragments = [fragment for part in parts for fragment in part["fragments"]]
        self.features.commit_fragments(fragments, feature_schema(parts[0]["dim"]))
        self.rows = shards[-1].stop
        self._clear()

    def discard(self) -> None:
        """Throw everything away, so that the next run begins anew."""
        for table in (self.features, self.thumbs):
            shutil.rmtree(table.path, ignore_errors=True)
        self.problems.unlink(missing_ok=True)

    def _write_problems(self) -> None:
        if not self._problems:
            return
        with self.problems.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, self._problems))
            file.flush()
            os.fsync(file.fileno())

    def _clear(self) -> None:
        self._vectors: list[np.ndarray] = []
        self._status: list[str] = []
        self._problems: list[Mapping[str, Any]] = []
        self._thumbs: list[tuple[int, bytes]] = []
        self.clock.restart()


class ShardWriter:
    """Gathers the rows of one shard in memory, and writes them beside the table."""

    def __init__(self, out: Path, shard: Shard) -> None:
        self._out = out
        self._shard = shard
        self.rows = shard.start
        self._vectors: list[np.ndarray] = []
        self._status: list[str] = []
        self._problems: list[Mapping[str, Any]] = []

    def add(
        self,
        vectors: np.ndarray,
        status: Sequence[str],
        *,
        problems: Sequence[Mapping[str, Any]] = (),
        thumbs: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """As FeatureWriter.add. Streams have no shards, so that there are no thumbnails."""
        assert not thumbs
        self._vectors.append(vectors)
        self._status.extend(status)
        self._problems.extend(problems)
        self.rows += len(status)

    def finish(self) -> None:
        """The shard is done: its files, then the mark."""
        assert self.rows == self._shard.stop
        vectors = np.concatenate(self._vectors)
        table = Table(self._out / "features.lance")
        fragments = table.write_fragments(feature_table(vectors, self._status))
        content = {
            "dim": vectors.shape[1],
            "fragments": fragments,
            "problems": list(self._problems),
        }
        mark_done(self._out, self._shard, content)


def read_problems(path: Path, start: int, stop: int) -> list[dict[str, Any]]:
    """Problems of index rows [start, stop)."""
    return [problem for problem in whole_lines(path) if start <= problem["row"] < stop]


def _line(problem: Mapping[str, Any]) -> str:
    return json.dumps(problem, ensure_ascii=False) + "\n"


def webp_thumbnail(image: Image.Image) -> bytes:
    """At most THUMBNAIL_PX a side."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=80)
    return encoded.getvalue()
