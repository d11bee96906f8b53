"""Frames at training size on the local disk: decoded once, in order; read in any order.

The one exception to "images are never copied": a random frame of a video costs a seek and up to
a second of decoding, a training step wants hundreds. All caches together are bounded
(EMT_FRAME_CACHE_GB, default 64). What a run needs is announced before anything is filled. Safe to
delete at any time: a run that needs a cache fills it again.

<workspace>/cache/frames/<key>/frames.u8      uint8 [frames, size, size, 3], episode after episode
                              /filled.jsonl   a line an episode done: a killed run goes on there
                              /cache.json     written last: a cache that has it is complete
key = hash of the set's fingerprint, camera, episodes and size.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from emt_core.data.images.decode import open_image
from emt_core.data.images.handles import ImageProblem
from emt_core.data.readers.lerobot import episode_frames
from emt_core.data.readers.lerobot_meta import Episode
from emt_core.data.robot.frames import square_frame
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.lines import whole_lines
from emt_core.workspace.progress import Progress

LIMIT_VARIABLE = "EMT_FRAME_CACHE_GB"
DEFAULT_LIMIT_GB = 64.0


@dataclass(frozen=True, kw_only=True)
class FrameCache:
    """A complete cache."""

    folder: Path
    frames: np.ndarray
    """uint8 [frames, size, size, 3], memory-mapped."""
    first: dict[int, int]
    """Episode -> row of its first frame."""
    problems: dict[int, tuple[str, str]]
    """Episode -> (reason, detail) where a frame could not be decoded; its rows hold nothing."""


@dataclass(frozen=True, kw_only=True)
class CacheNeed:
    """One data set's cache, there or not."""

    key: str
    source: LeRobotSource
    root: Path
    episodes: Sequence[Episode]
    size: int
    """Side of a frame, pixels."""

    @property
    def frames(self) -> int:
        return sum(episode.length for episode in self.episodes)

    @property
    def bytes(self) -> int:
        return self.frames * self.size * self.size * 3


def frame_caches(
    caches: Path, needs: Sequence[CacheNeed], *, workers: int, progress: Progress
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
                _make_room(caches, needs, progress)
        return [_opened(caches / need.key, need, workers, progress) for need in needs]


def _opened(folder: Path, need: CacheNeed, workers: int, progress: Progress) -> FrameCache:
    first = _first_rows(need.episodes)
    if not _is_complete(folder):
        problems = _fill(folder, need, first, workers, progress)
        facts = {
            "set": need.source.name,
            "size": need.size,
            "frames": need.frames,
            "problems": problems,
        }
        write_json(folder / "cache.json", facts)
        (folder / "filled.jsonl").unlink()
    os.utime(folder / "cache.json")  # least recently used goes first when room is needed
    facts = read_json(folder / "cache.json")
    frames = np.memmap(
        folder / "frames.u8", np.uint8, "r", shape=(need.frames, need.size, need.size, 3)
    )
    problems = {
        int(episode): (reason, detail) for episode, (reason, detail) in facts["problems"].items()
    }
    return FrameCache(folder=folder, frames=frames, first=first, problems=problems)


def _lock_file(caches: Path, key: str) -> Path:
    return caches / f"{key}.lock"


def _is_complete(folder: Path) -> bool:
    return (folder / "cache.json").exists()


def _first_rows(episodes: Sequence[Episode]) -> dict[int, int]:
    lengths = np.array([episode.length for episode in episodes], np.int64)
    starts = np.concatenate([[0], lengths.cumsum()[:-1]]) if len(lengths) else lengths
    return {episode.index: int(start) for episode, start in zip(episodes, starts, strict=True)}


def _make_room(caches: Path, needs: Sequence[CacheNeed], progress: Progress) -> None:
    """Announce what all sets need; drop least recently used caches until it fits; take the room.

    Under the lock `room.lock`: two runs cannot count on the same room.
    """
    limit = int(float(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT_GB)) * 1e9)
    own = {need.key: need for need in needs}
    names = ", ".join(repr(need.source.name) for need in needs)
    need = sum(one.bytes for one in own.values())
    progress.say(
        f"frame cache of {names}: {need / 1e9:,.2f} GB in {caches} (bound {limit / 1e9:g} GB, safe "
        "to delete)"
    )
    smaller = "set a smaller image_size or a limit of episodes"
    if need > limit:
        raise EmtError(
            f"the frame cache of {names} needs {need / 1e9:,.1f} GB, its bound is {limit / 1e9:g} "
            "GB",
            where=caches,
            remedy=f"raise {LIMIT_VARIABLE}, or {smaller}",
        )
    others = sorted(
        (p for p in caches.iterdir() if p.is_dir() and p.name not in own), key=_last_use
    )
    sizes = {other: _length(other / "frames.u8") for other in others}
    lacking = need - sum(_allocated(caches / key / "frames.u8") for key in own)
    for other in others:
        if sum(sizes.values()) + need <= limit and lacking <= shutil.disk_usage(caches).free:
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
            remedy=f"wait for the other run, raise {LIMIT_VARIABLE}, or {smaller}",
        )
    free = shutil.disk_usage(caches).free
    if lacking > free:
        raise EmtError(
            f"the frame cache of {names} needs {lacking / 1e9:,.1f} GB more, the disk has "
            f"{free / 1e9:,.1f} GB free",
            where=caches,
            remedy=f"free some space, or {smaller}",
        )
    for one in own.values():
        _reserve(caches / one.key, one.bytes)


def _drop(caches: Path, folder: Path) -> bool:
    """Delete a cache unless another process fills it. A run that has it mapped keeps its pages."""
    try:
        with FileLock(_lock_file(caches, folder.name), timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except Timeout:
        return False


def _reserve(folder: Path, size: int) -> None:
    """Reserve the file's room: a mapped file that runs into a full disk would kill the process."""
    folder.mkdir(exist_ok=True)
    file = os.open(folder / "frames.u8", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if size:
            os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)


def _last_use(folder: Path) -> float:
    mark = folder / "cache.json"
    return (mark if mark.exists() else folder).stat().st_mtime


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


def _fill(
    folder: Path, need: CacheNeed, first: dict[int, int], workers: int, progress: Progress
) -> dict[int, tuple[str, str]]:
    done = {int(line["episode"]): line for line in whole_lines(folder / "filled.jsonl")}
    left = [episode for episode in need.episodes if episode.index not in done]
    started = need.frames - sum(episode.length for episode in left)
    file = os.open(folder / "frames.u8", os.O_RDWR)
    try:
        with (
            (folder / "filled.jsonl").open("a", encoding="utf-8") as filled,
            progress.track(
                f"decoding {need.source.name}", need.frames, done=started, unit="frames"
            ) as tracker,
            ThreadPoolExecutor(
                max(workers, 1)
            ) as threads,  # PyAV decodes without holding the interpreter
        ):
            job = partial(_fill_episode, file=file, need=need, first=first, log=_Log(filled))
            for length in threads.map(job, left):
                tracker.advance(length)
    finally:
        os.close(file)
    lines = whole_lines(folder / "filled.jsonl")
    return {int(line["episode"]): tuple(line["problem"]) for line in lines if line.get("problem")}


class _Log:
    """Lines of filled.jsonl from several threads."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.lock = Lock()

    def add(self, line: dict[str, Any]) -> None:
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


def _fill_episode(
    episode: Episode, *, file: int, need: CacheNeed, first: dict[int, int], log: _Log
) -> int:
    problem = None
    try:
        for number, ref in enumerate(episode_frames(need.source, need.root, episode.index)):
            frame = square_frame(open_image(ref, need.root, need.source.max_pixels), need.size)
            os.pwrite(file, frame.tobytes(), (first[episode.index] + number) * frame.nbytes)
    except ImageProblem as found:
        problem = (found.reason, found.detail)
    log.add({"episode": episode.index, "problem": problem})
    return episode.length
