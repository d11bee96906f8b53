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
from emt_core.run.shards import SHARDS, Shard, mark_done, read_shard
from emt_core.workspace.files import write_text
from emt_core.workspace.lines import whole_lines
from emt_core.workspace.table import CommitClock, Table

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_PX = 160
THUMBS_SCHEMA = pa.schema([("row", pa.int64()), ("webp", pa.binary())])


class Writer:
    """Gathers rows in index order, and what there is to say of them."""

    def __init__(self, out: Path, first: int) -> None:
        """first: the index row that comes first."""
        self.out = out
        self.features = Table(out / "features.lance")
        self.rows = first
        """The index row that comes next."""

        self._clear()

    def add(
        self,
        vectors: np.ndarray,
        status: Sequence[str],
        *,
        problems: Sequence[Mapping[str, Any]] = (),
        thumbs: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """The next rows: float16 [n, dim] and n statuses."""
        self._vectors.append(vectors)
        self._status.extend(status)
        self._problems.extend(problems)
        self._thumbs.extend(thumbs)
        self.rows += len(status)

    def _gathered(self) -> pa.Table:
        return feature_table(np.concatenate(self._vectors), self._status)

    def _clear(self) -> None:
        self._vectors: list[np.ndarray] = []
        self._status: list[str] = []
        self._problems: list[Mapping[str, Any]] = []
        self._thumbs: list[tuple[int, bytes]] = []


class FeatureWriter(Writer):
    """Commits rows to the store when it is due. Begins where an interrupted run left off."""

    def __init__(self, out: Path, *, commit_rows: int, commit_seconds: float) -> None:
        super().__init__(out, Table(out / "features.lance").rows)
        self.clock = CommitClock(commit_rows, commit_seconds)
        self.thumbs = Table(out / "thumbs.lance")
        self.problems = out / "problems.jsonl"
        last = [self.thumbs.rows - 1]
        self._thumbs_until = (
            self.thumbs.take(last, ["row"])["row"][0].as_py() if last[0] >= 0 else -1
        )
        if self.problems.exists():
            kept = [problem for problem in whole_lines(self.problems) if problem["row"] < self.rows]
            write_text(self.problems, "".join(map(_line, kept)))

    def add(self, vectors: np.ndarray, status: Sequence[str], **said: Any) -> None:
        """As Writer.add. Commits when due."""
        super().add(vectors, status, **said)
        if self.clock.due(len(self._status)):
            self.commit()

    def commit(self) -> None:
        if not self._status:
            return
        if thumbs := [thumb for thumb in self._thumbs if thumb[0] > self._thumbs_until]:
            rows, images = zip(*thumbs, strict=True)
            self.thumbs.append(pa.table({"row": rows, "webp": images}, schema=THUMBS_SCHEMA))
            self._thumbs_until = rows[-1]
        self._write_problems()
        self.features.append(self._gathered())
        self._clear()
        self.clock.restart()

    def take_over(self, shards: Sequence[Shard]) -> None:
        """The next rows, from shards that workers made (ShardWriter), in one commit."""
        self.commit()
        parts = [read_shard(self.out, shard) for shard in shards]
        self._problems.extend(problem for part in parts for problem in part["problems"])
        self._write_problems()
        fragments = [fragment for part in parts for fragment in part["fragments"]]
        self.features.commit_fragments(fragments, feature_schema(parts[0]["dim"]))
        self.rows = shards[-1].stop
        self._clear()
        self.clock.restart()

    def discard(self) -> None:
        """Throw everything away, so that the next run begins anew."""
        for folder in (self.features.path, self.thumbs.path, self.out / SHARDS):
            shutil.rmtree(folder, ignore_errors=True)
        self.problems.unlink(missing_ok=True)

    def _write_problems(self) -> None:
        if not self._problems:
            return
        with self.problems.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, self._problems))
            file.flush()
            os.fsync(file.fileno())


class ShardWriter(Writer):
    """Holds the rows of one shard in memory, and writes them beside the store."""

    def __init__(self, out: Path, shard: Shard) -> None:
        super().__init__(out, shard.start)
        self._shard = shard

    def finish(self) -> None:
        """The shard is done: its files, then the mark."""
        assert self.rows == self._shard.stop
        assert not self._thumbs  # only streams have them, and streams have no shards
        content = {
            "dim": self._vectors[0].shape[1],
            "fragments": self.features.write_fragments(self._gathered()),
            "problems": list(self._problems),
        }
        mark_done(self.out, self._shard, content)


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
