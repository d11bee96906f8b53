"""Flags and notes on samples, kept in the workspace beside the artifacts.

    <workspace>/curation/<key of sources>/journal.jsonl     append-only; one JSON object a line:
        {"n": 1, "at": 1763840000.0, "what": "region", "flag": "exclude", "rows": [4, 9]}
        {"n": 2, "at": ..., "what": "one sample", "note": "the arrow is missing", "rows": [9]}
        {"n": 3, "at": ..., "undo": 1}
    An empty flag or note removes one. Many rows are stored as "packed": base64 of zlib of their
    differences (uint32); a million rows take about a megabyte.

Rows are index rows of the artifact named by the key, so a row is the same sample for good. An
append holds the lock, first cuts off what a killed writer left, and is on disk when it returns;
readers skip an incomplete last line. The current flags are found by replaying the journal.
"""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Artifact, Workspace

FLAGS = ("", "keep", "doubtful", "wrong", "exclude")
"""Place 0 is no flag. A selection can leave out `exclude`; the others sort opinions."""
NOTE_CHARS = 2000
PLAIN_ROWS = 64
"""More rows than these are packed."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the journal, without undos."""

    n: int
    at: float
    what: str
    flag: str | None
    """None for a note."""
    rows: int
    undone: bool


@dataclass(frozen=True, kw_only=True)
class Flags:
    codes: np.ndarray
    """int8 [index rows]: place in FLAGS."""
    notes: dict[int, str]
    """Index row -> note."""
    entries: tuple[Entry, ...]
    """Oldest first."""

    def rows(self, flags: Sequence[str]) -> np.ndarray:
        """int64: rows that carry one of these flags, rising."""
        return np.flatnonzero(np.isin(self.codes, [FLAGS.index(flag) for flag in flags]))

    def counts(self) -> dict[str, int]:
        """Flag -> rows, without the unflagged."""
        found = np.bincount(self.codes, minlength=len(FLAGS))
        return {flag: int(found[place]) for place, flag in enumerate(FLAGS) if flag}


@dataclass(frozen=True)
class FlagBook:
    """The journal of one index."""

    workspace: Workspace
    sources: Artifact

    @property
    def path(self) -> Path:
        return self.workspace.path / "curation" / self.sources.key / "journal.jsonl"

    @property
    def version(self) -> tuple[int, int]:
        """Changes with every append; caches of `read` are keyed by it."""
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            return (0, 0)
        return (facts.st_size, facts.st_mtime_ns)

    def read(self) -> Flags:
        """The current flags. Raises EmtError where a line cannot be read."""
        lines = self._lines()
        undone = {line["undo"] for line in lines if "undo" in line}
        codes = np.zeros(self.sources.rows, np.int8)
        notes = {}
        entries = []
        for line in lines:
            if "undo" in line:
                continue
            rows = _rows_of(line)
            flag = line.get("flag")
            past = line["n"] in undone
            if not past and flag is not None:
                codes[rows] = FLAGS.index(flag)
            elif not past:
                notes[int(rows[0])] = line["note"]
            entries.append(
                Entry(
                    n=line["n"],
                    at=line["at"],
                    what=line["what"],
                    flag=flag,
                    rows=len(rows),
                    undone=past,
                )
            )
        return Flags(
            codes=codes,
            notes={row: note for row, note in notes.items() if note},
            entries=tuple(entries),
        )

    def set(self, rows: Sequence[int] | np.ndarray, flag: str, *, what: str = "") -> int:
        """Put a flag on rows ("" removes it); returns the entry's number, for `undo`.

        Raises EmtError for viewers, for an unknown flag, and for rows outside the index.
        """
        if flag not in FLAGS:
            raise EmtError(f"there is no flag {flag!r}", remedy=f"flags: {', '.join(FLAGS[1:])}")
        wanted = self._checked(rows)
        return self._append({"what": what, "flag": flag, **_rows_field(wanted)})

    def note(self, row: int, text: str) -> int:
        """Write a note on one row ("" removes it); returns the entry's number."""
        if len(text) > NOTE_CHARS:
            raise EmtError(
                f"the note has {len(text):,} characters", remedy=f"at most {NOTE_CHARS:,}"
            )
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate has no place in a file
        return self._append(
            {"what": "note", "note": text.strip(), **_rows_field(self._checked([row]))}
        )

    def undo(self, n: int) -> int:
        """Undo one entry: what earlier and later entries set holds."""
        return self._append({"undo": n})

    def _checked(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        wanted = np.unique(np.asarray(rows, np.int64))
        if not len(wanted):
            raise EmtError("no sample is named", where="flags")
        if wanted[0] < 0 or wanted[-1] >= self.sources.rows:
            raise EmtError("a row lies outside the index", where=self.sources.path)
        return wanted

    def _lines(self) -> list[dict[str, Any]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]  # a tail without its end was never acknowledged
        found = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise EmtError(
                    f"line {number} of the flags' journal cannot be read",
                    where=self.path,
                    remedy="remove that line: all others stay as they are",
                ) from error
        return found

    def _append(self, entry: dict[str, Any]) -> int:
        with self.workspace.lock("curation", self.sources.key):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                file.seek(0)
                content = file.read()
                whole = content[: content.rfind(b"\n") + 1]
                file.truncate(len(whole))
                number = _last_number(whole) + 1
                line = (
                    json.dumps({"n": number, "at": time.time(), **entry}, ensure_ascii=False) + "\n"
                )
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        return number


def _last_number(whole: bytes) -> int:
    last = whole[whole[:-1].rfind(b"\n") + 1 :]
    return json.loads(last)["n"] if last else 0


def _rows_field(rows: np.ndarray) -> dict[str, Any]:
    if len(rows) <= PLAIN_ROWS:
        return {"rows": rows.tolist()}
    steps = np.diff(rows, prepend=0).astype("<u4")
    return {"packed": base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode()}


def _rows_of(line: dict[str, Any]) -> np.ndarray:
    if "rows" in line:
        return np.array(line["rows"], np.int64)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(line["packed"])), "<u4")
    return np.cumsum(steps, dtype=np.int64)
