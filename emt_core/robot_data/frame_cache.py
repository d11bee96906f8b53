"""Frames at training size on the local disk: video is decoded once, in order; training reads frames in any order.

The stated exception to "images are never copied": a random frame of a video costs a seek and up to a second of
decoding, a training step wants hundreds. The cache is bounded (EMT_FRAME_CACHE_GB, default 64), announced before it is
filled and safe to delete at any time: a run that needs it fills it again.

<workspace>/cache/frames/<key>/frames.u8      uint8 [frames, size, size, 3], C order, episodes one after the other
                              /filled.jsonl   one line an episode done: a killed run goes on behind it
                              /cache.json     written last: a cache that has it is complete
key = hash of the set's fingerprint, camera, episodes and size.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from filelock import FileLock

from emt_core.artifact import read_json, write_json
from emt_core.errors import EmtError
from emt_core.image_handles import ImageProblem
from emt_core.images import open_image
from emt_core.progress import Progress
from emt_core.readers.lerobot import episode_frames
from emt_core.readers.lerobot_meta import Episode
from emt_core.robot_data.frames import square_frame
from emt_core.source_config import LeRobotSource

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


def frame_cache(
    caches: Path,
    key: str,
    source: LeRobotSource,
    root: Path,
    episodes: Sequence[Episode],
    size: int,
    *,
    workers: int,
    progress: Progress,
) -> FrameCache:
    """The cache of these episodes, filled where it is not there yet (a second process waits for the first).

    Raises EmtError where it does not fit in the bound or on the disk.
    """
    folder = caches / key
    first = _first_rows(episodes)
    total = sum(episode.length for episode in episodes)
    caches.mkdir(parents=True, exist_ok=True)
    with FileLock(caches / f"{key}.lock"):
        if not (folder / "cache.json").exists():
            _make_room(caches, folder, total * size * size * 3, source.name, progress)
            problems = _fill(folder, source, root, episodes, first, size, workers, progress)
            write_json(folder / "cache.json", {"set": source.name, "size": size, "frames": total, "problems": problems})
            (folder / "filled.jsonl").unlink()
        os.utime(folder / "cache.json")  # least recently used goes first when room is needed
        facts = read_json(folder / "cache.json")
    frames = np.memmap(folder / "frames.u8", np.uint8, "r", shape=(total, size, size, 3))
    problems = {int(episode): (reason, detail) for episode, (reason, detail) in facts["problems"].items()}
    return FrameCache(folder=folder, frames=frames, first=first, problems=problems)


def _first_rows(episodes: Sequence[Episode]) -> dict[int, int]:
    lengths = np.array([episode.length for episode in episodes], np.int64)
    starts = np.concatenate([[0], lengths.cumsum()[:-1]]) if len(lengths) else lengths
    return {episode.index: int(start) for episode, start in zip(episodes, starts, strict=True)}


def _make_room(caches: Path, folder: Path, need: int, name: str, progress: Progress) -> None:
    """Announce the need; drop the least recently used caches until it fits."""
    limit = int(float(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT_GB)) * 1e9)
    progress.say(f"frame cache of {name}: {need / 1e9:,.2f} GB in {caches} (bound {limit / 1e9:g} GB, safe to delete)")
    if need > limit:
        raise EmtError(
            f"the frame cache of {name!r} needs {need / 1e9:,.1f} GB, its bound is {limit / 1e9:g} GB",
            where=caches,
            remedy=f"raise {LIMIT_VARIABLE}, or set a smaller image_size or a limit of episodes",
        )
    others = sorted((p for p in caches.iterdir() if p.is_dir() and p != folder), key=_last_use)
    sizes = {other: sum(file.stat().st_size for file in other.iterdir()) for other in others}
    free = shutil.disk_usage(caches).free + (_allocated(folder / "frames.u8"))
    for other in others:
        if sum(sizes.values()) + need <= limit and need <= free:
            break
        progress.say(f"frame cache: dropping {other.name} ({sizes[other] / 1e9:,.2f} GB), the least recently used")
        free += sizes.pop(other)
        shutil.rmtree(other, ignore_errors=True)  # a run that has it mapped keeps its pages
    if need > free:
        raise EmtError(
            f"the frame cache of {name!r} needs {need / 1e9:,.1f} GB, the disk has {free / 1e9:,.1f} GB free",
            where=caches,
            remedy="free some space, or set a smaller image_size or a limit of episodes",
        )


def _last_use(folder: Path) -> float:
    mark = folder / "cache.json"
    return (mark if mark.exists() else folder).stat().st_mtime


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


def _fill(
    folder: Path,
    source: LeRobotSource,
    root: Path,
    episodes: Sequence[Episode],
    first: dict[int, int],
    size: int,
    workers: int,
    progress: Progress,
) -> dict[int, tuple[str, str]]:
    folder.mkdir(exist_ok=True)
    done = {int(line["episode"]): line for line in _whole_lines(folder / "filled.jsonl")}
    left = [episode for episode in episodes if episode.index not in done]
    total = sum(episode.length for episode in episodes)
    file = os.open(folder / "frames.u8", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # a mapped file that runs into a full disk kills the process; reserved room and plain writes say so instead
        if total:
            os.posix_fallocate(file, 0, total * size * size * 3)
        started = total - sum(episode.length for episode in left)
        with (
            (folder / "filled.jsonl").open("a", encoding="utf-8") as filled,
            progress.track(f"decoding {source.name}", total, done=started, unit="frames") as tracker,
            ThreadPoolExecutor(max(workers, 1)) as threads,  # PyAV decodes without holding the interpreter
        ):
            log = _Log(filled)
            job = partial(_fill_episode, file=file, source=source, root=root, first=first, size=size, log=log)
            for length in threads.map(job, left):
                tracker.advance(length)
    finally:
        os.close(file)
    lines = _whole_lines(folder / "filled.jsonl")
    return {int(line["episode"]): tuple(line["problem"]) for line in lines if line.get("problem")}


class _Log:
    """Lines of filled.jsonl from several threads."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.lock = file, Lock()

    def add(self, line: dict[str, Any]) -> None:
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


def _fill_episode(
    episode: Episode, *, file: int, source: LeRobotSource, root: Path, first: dict[int, int], size: int, log: _Log
) -> int:
    problem = None
    try:
        for number, ref in enumerate(episode_frames(source, root, episode.index)):
            frame = square_frame(open_image(ref, root, source.max_pixels), size)
            os.pwrite(file, frame.tobytes(), (first[episode.index] + number) * frame.nbytes)
    except ImageProblem as found:
        problem = (found.reason, found.detail)
    log.add({"episode": episode.index, "problem": problem})
    return episode.length


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Lines that were written whole; a kill may have cut the last one."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
