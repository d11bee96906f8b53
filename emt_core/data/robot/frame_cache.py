"""Frames at training size, encoded as JPEG: decoded from video once, in order; read in any order.

The one exception to "images are never copied": a random frame of a video costs a seek and up to
a second of decoding, a training step wants hundreds. As JPEG (quality 95, colors at full
resolution) a frame of 224 pixels takes 12 to 17 % of its raw size and differs by about one level
of 255 on average; 1,800 are decoded a CPU second (speed/results/frame_cache.md). All caches
together are bounded (`runtime.frame_cache_gb`); what a run needs is estimated from a few frames and
said before anything is filled. Safe to delete at any time: a run that needs a cache fills it again.

<runtime.frame_cache>/<key>/frames.jpeg    the frames' JPEG files, one after another
                           /filled.jsonl   a line an episode: {"episode", "at", "sizes", "problem"}
                           /room.json      {"bytes"}: the room that a cache being filled counts on
                           /cache.json     written last: a cache that has it is complete
key = hash of the set's fingerprint, camera, episodes and size. Episodes lie in the order in which
they were decoded; a killed run goes on behind the last whole line of filled.jsonl.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from emt_core.data.images.decode import check_folder, open_image
from emt_core.data.images.handles import ImageProblem
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.robot_set import Episode, RobotSet
from emt_core.data.robot.frames import square_frame
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError
from emt_core.workspace.files import read_json_if_there, write_json
from emt_core.workspace.lines import whole_lines
from emt_core.workspace.progress import Progress

FRAMES = "frames.jpeg"
FILLED = "filled.jsonl"
QUALITY = 95
SAMPLE = 16
"""Frames that a set's size is estimated from."""

MARGIN = 1.1
"""Of the estimate: frames of one set differ."""


@dataclass(frozen=True, kw_only=True)
class FrameCache:
    """A complete cache of F frames."""

    folder: Path
    size: int
    """Side of a frame, pixels."""
    at: np.ndarray
    """int64 [F]: byte where each frame begins."""
    sizes: np.ndarray
    """int32 [F], bytes; 0 where the frame's episode could not be decoded."""
    first: dict[int, int]
    """Episode -> row of its first frame."""
    problems: dict[int, tuple[str, str]]
    """Episode -> (reason, detail) where a frame could not be decoded; its rows hold nothing."""
    file: IO[bytes] = field(repr=False)
    """Open, so that a cache which another run drops can be read to the end."""

    def __len__(self) -> int:
        return len(self.sizes)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, size, size, 3]."""
        found = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for place, row in enumerate(rows):
            encoded = os.pread(self.file.fileno(), int(self.sizes[row]), int(self.at[row]))
            try:
                found[place] = np.asarray(Image.open(io.BytesIO(encoded)))
            except OSError as error:
                raise EmtError(
                    f"frame {row} of the frame cache is damaged: {error}",
                    where=self.folder,
                    remedy="delete this folder; the next run fills it again",
                ) from error
        return found


@dataclass(frozen=True, kw_only=True)
class CacheNeed:
    """One data set's cache, there or not."""

    key: str
    robot: RobotSet
    episodes: Sequence[Episode]
    size: int
    """Side of a frame, pixels."""

    @property
    def name(self) -> str:
        return self.robot.source.name

    @property
    def camera(self) -> str:
        """The one that the policy sees."""
        return self.robot.source.all_cameras[0]

    @property
    def frames(self) -> int:
        return sum(episode.length for episode in self.episodes)

    @cached_property
    def bytes(self) -> int:
        """Estimated from the first frames of a few episodes; raw size where none can be decoded."""
        with_frames = [episode for episode in self.episodes if episode.length]
        step = max(len(with_frames) // SAMPLE, 1)
        sizes = []
        for episode in with_frames[::step][:SAMPLE]:
            with suppress(ImageProblem, RowProblem, EmtError):
                ref = self.robot.open(episode).image(self.camera, 0)
                sizes.append(len(_encoded(ref, self)))
        each = MARGIN * float(np.mean(sizes)) if sizes else 3.0 * self.size * self.size
        return int(each * self.frames)


def _encoded(ref: ImageRef, need: CacheNeed) -> bytes:
    frame = square_frame(open_image(ref, need.robot.root, need.robot.source.max_pixels), need.size)
    encoded = io.BytesIO()
    Image.fromarray(frame).save(encoded, "JPEG", quality=QUALITY, subsampling=0)
    return encoded.getvalue()


def frame_caches(
    caches: Path, needs: Sequence[CacheNeed], *, bound_gb: float, workers: int, progress: Progress
) -> list[FrameCache]:
    """The caches of all sets of a run, filled where need be (a second process waits for the first).

    Raises EmtError where they do not fit together in the bound or on the disk, before anything is
    decoded.
    """
    caches.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        # all at once and in one order: no other run drops a cache that this one still fills, and
        # none waits in a circle
        for key in sorted({need.key for need in needs}):
            held.enter_context(FileLock(_lock_file(caches, key)))
        if not all(_is_complete(caches / need.key) for need in needs):
            with FileLock(caches / "room.lock"):
                _make_room(caches, needs, int(bound_gb * 1e9), progress)
        return [_opened(caches / need.key, need, workers, progress) for need in needs]


def _opened(folder: Path, need: CacheNeed, workers: int, progress: Progress) -> FrameCache:
    if not _is_complete(folder):
        _fill(folder, need, workers, progress)
        write_json(
            folder / "cache.json",
            {"set": need.name, "size": need.size, "frames": need.frames},
        )
    os.utime(folder / "cache.json")  # least recently used goes first when room is needed
    first = _first_rows(need.episodes)
    at = np.zeros(need.frames, np.int64)
    sizes = np.zeros(need.frames, np.int32)
    problems = {}
    for line in whole_lines(folder / FILLED):
        episode = int(line["episode"])
        if line["problem"]:
            problems[episode] = tuple(line["problem"])
            continue
        rows = slice(first[episode], first[episode] + len(line["sizes"]))
        sizes[rows] = line["sizes"]
        at[rows] = line["at"] + np.cumsum([0, *line["sizes"][:-1]])
    return FrameCache(
        folder=folder,
        size=need.size,
        at=at,
        sizes=sizes,
        first=first,
        problems=problems,
        file=(folder / FRAMES).open("rb"),
    )


def _lock_file(caches: Path, key: str) -> Path:
    return caches / f"{key}.lock"


def _is_complete(folder: Path) -> bool:
    return (folder / "cache.json").exists()


def _first_rows(episodes: Sequence[Episode]) -> dict[int, int]:
    lengths = np.array([episode.length for episode in episodes], np.int64)
    starts = np.concatenate([[0], lengths.cumsum()[:-1]]) if len(lengths) else lengths
    return {episode.index: int(start) for episode, start in zip(episodes, starts, strict=True)}


def _make_room(caches: Path, needs: Sequence[CacheNeed], limit: int, progress: Progress) -> None:
    """Announce what all sets need; drop least recently used caches until it fits; take the room.

    Under the lock `room.lock`: two runs cannot count on the same room.
    """
    own = {need.key: need for need in needs}
    names = ", ".join(repr(need.name) for need in needs)
    need = sum(one.bytes for one in own.values())
    progress.say(
        f"frame cache of {names}: about {need / 1e9:,.2f} GB in {caches} (bound {limit / 1e9:g} "
        "GB, safe to delete)"
    )
    smaller = "set a smaller image_size or a limit of episodes"
    if need > limit:
        raise EmtError(
            f"the frame cache of {names} needs {need / 1e9:,.1f} GB, its bound is {limit / 1e9:g} "
            "GB",
            where=caches,
            remedy=f"raise runtime.frame_cache_gb, or {smaller}",
        )
    others = sorted(
        (p for p in caches.iterdir() if p.is_dir() and p.name not in own), key=_last_use
    )
    sizes = {other: _room(other) for other in others}
    lacking = need - sum(_length(caches / key / FRAMES) for key in own)

    def free() -> int:
        """What no other cache takes or counts on."""
        promised = sum(max(sizes[other] - _length(other / FRAMES), 0) for other in sizes)
        return shutil.disk_usage(caches).free - promised

    for other in others:
        if sum(sizes.values()) + need <= limit and lacking <= free():
            break
        if _drop(caches, other):
            progress.say(
                f"frame cache: dropped {other.name} ({sizes.pop(other) / 1e9:,.2f} GB), not used "
                "the longest"
            )
    if sum(sizes.values()) + need > limit:
        raise EmtError(
            f"the frame cache of {names} needs {need / 1e9:,.1f} GB and other runs are filling "
            f"{sum(sizes.values()) / 1e9:,.1f} GB; the bound is {limit / 1e9:g} GB",
            where=caches,
            remedy=f"wait for the other run, raise runtime.frame_cache_gb, or {smaller}",
        )
    if lacking > free():
        raise EmtError(
            f"the frame cache of {names} needs {lacking / 1e9:,.1f} GB more, the disk has "
            f"{free() / 1e9:,.1f} GB free",
            where=caches,
            remedy=f"free some space, name another disk in runtime.frame_cache, or {smaller}",
        )
    for one in own.values():
        (caches / one.key).mkdir(exist_ok=True)
        write_json(caches / one.key / "room.json", {"bytes": one.bytes})


def _drop(caches: Path, folder: Path) -> bool:
    """Delete a cache unless another process fills it. A run that reads it keeps its open file."""
    try:
        with FileLock(_lock_file(caches, folder.name), timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except Timeout:
        return False


def _last_use(folder: Path) -> float:
    mark = folder / "cache.json"
    return (mark if mark.exists() else folder).stat().st_mtime


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _room(folder: Path) -> int:
    """Bytes of a cache; of one that is being filled at least what it was given."""
    there = sum(file.stat().st_size for file in folder.iterdir())
    if _is_complete(folder):
        return there
    given = read_json_if_there(folder / "room.json") or {}
    return max(there, given.get("bytes", 0))


def _fill(folder: Path, need: CacheNeed, workers: int, progress: Progress) -> None:
    lines = list(whole_lines(folder / FILLED))
    done = {int(line["episode"]) for line in lines}
    left = [episode for episode in need.episodes if episode.index not in done]
    started = need.frames - sum(episode.length for episode in left)
    with (
        (folder / FRAMES).open("ab") as frames,
        (folder / FILLED).open("a", encoding="utf-8") as filled,
        progress.track(
            f"decoding {need.name}", need.frames, done=started, unit="frames"
        ) as tracker,
        ThreadPoolExecutor(max(workers, 1)) as threads,  # PyAV decodes without the interpreter
    ):
        # what a killed run wrote behind its last line belongs to no episode
        frames.truncate(max((line["at"] + sum(line["sizes"]) for line in lines), default=0))
        frames.seek(0, os.SEEK_END)
        store = _Store(frames, filled)
        for length in threads.map(partial(_fill_episode, need=need, store=store), left):
            tracker.advance(length)


class _Store:
    """Frames and lines of a cache under construction, written by several threads."""

    def __init__(self, frames: IO[bytes], filled: IO[str]) -> None:
        self.frames = frames
        self.filled = filled
        self.lock = Lock()

    def add(
        self, episode: int, encoded: Sequence[bytes], problem: tuple[str, str] | None = None
    ) -> None:
        with self.lock:
            at = self.frames.tell()
            self.frames.write(b"".join(encoded))
            self.frames.flush()
            sizes = [len(one) for one in encoded]
            line = {"episode": episode, "at": at, "sizes": sizes, "problem": problem}
            self.filled.write(json.dumps(line) + "\n")
            self.filled.flush()


def _fill_episode(episode: Episode, *, need: CacheNeed, store: _Store) -> int:
    ref = None
    encoded = []
    try:
        for ref in need.robot.frames(episode, need.camera):
            encoded.append(_encoded(ref, need))
    except (ImageProblem, RowProblem) as found:
        if ref is not None and isinstance(found, ImageProblem):
            check_folder(ref, need.robot.root, found)
        store.add(episode.index, [], (found.reason, found.detail))
        return episode.length
    store.add(episode.index, encoded)
    return episode.length
