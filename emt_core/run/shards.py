"""Ranges of a stage's rows that several processes make at once, and the files that say which are
done.

data/shards/000000000000-000000008192.json   rows [0, 8192) are done: what the stage keeps of them

A shard's file is written last and at once: whatever a killed worker left before it is not looked
at. `run` of the stage takes the shards over, in row order, before it goes on by itself; the commit
of the artifact removes the folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_core.workspace.files import read_json, write_json

SHARDS = "shards"
"""Folder below a stage's data. Scratch: name it in the stage's Outcome."""


@dataclass(frozen=True)
class Shard:
    """Rows [start, stop). Cut by settings and data alone, never by who makes them."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def name(self) -> str:
        """Of its file; sorts by row."""
        return f"{self.start:012d}-{self.stop:012d}.json"


def cut(start: int, stop: int, rows: int) -> Iterator[Shard]:
    """Shards of `rows` rows each; the last may be shorter."""
    for at in range(start, stop, rows):
        yield Shard(at, min(at + rows, stop))


def mark_done(out: Path, shard: Shard, content: Mapping[str, Any]) -> None:
    """The shard's rows are on disk. content: JSON; what `run` needs to take them over."""
    (out / SHARDS).mkdir(exist_ok=True)
    write_json(out / SHARDS / shard.name, dict(content))


def done_shards(out: Path, *, start: int = 0) -> list[Shard]:
    """Done shards from row `start` on, in row order; those of other cuts among them."""
    names = sorted(path.stem for path in (out / SHARDS).glob("[0-9]*.json"))
    found = [Shard(*map(int, name.split("-"))) for name in names]
    return [shard for shard in found if shard.start >= start]


def pieces(
    done: Sequence[Shard], start: int, stop: int
) -> Iterator[tuple[Shard, tuple[Shard, ...]]]:
    """Rows [start, stop) in order: (range, the done shards that fill it), none for a range that is
    still to be made.

    A shard that overlaps the one before it was cut by a run of other settings and is passed over.
    """
    waiting = deque(shard for shard in done if start <= shard.start and shard.stop <= stop)
    at = start
    while at < stop:
        found: list[Shard] = []
        while waiting and waiting[0].start <= at:
            shard = waiting.popleft()
            if shard.start == at:
                found.append(shard)
                at = shard.stop
        if found:
            yield Shard(found[0].start, at), tuple(found)
        until = waiting[0].start if waiting else stop
        if until > at:
            yield Shard(at, until), ()
            at = until


def read_shard(out: Path, shard: Shard) -> dict[str, Any]:
    """What `mark_done` wrote."""
    return read_json(out / SHARDS / shard.name)


def left(out: Path, shards: Iterable[Shard]) -> list[Shard]:
    """Those that are not done. One look at the folder, however many they are."""
    done = set(done_shards(out))
    return [shard for shard in shards if shard not in done]
