"""Robot sets in LeRobot's layouts, and damage to each of their files."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import pyarrow.parquet as pq
from source_files import lerobot_folder, ordinary_priority

from mutation import files, tables
from mutation.images import bad_image
from mutation.values import dumps, mutated
from mutation.variant import Mutant, Variant, chosen

EPISODES = 3
FRAMES = 4
"""Read of each episode."""

SOURCE = {
    "format": "lerobot",
    "name": "m",
    "role": "robot",
    "path": "set",
    "camera": "observation.images.front",
    "frames_per_episode": FRAMES,
}


@cache
def _written(version: str, storage: str) -> Path:
    """Encoding a video takes a second: once a process."""
    folder = Path(mkdtemp(prefix="emt-mutants-")) / "set"
    with ordinary_priority():
        lerobot_folder(folder, version=version, storage=storage, episodes=EPISODES, length=8)
    return folder


def lerobot_variant(version: str, storage: str) -> Variant:
    def write(folder: Path) -> None:
        shutil.copytree(_written(version, storage), folder / "set")

    def of_json(folder: Path, rng: Random) -> Mutant:
        """info.json, stats.json, or a line of the tables of v2."""
        path = rng.choice(_files(folder, ".json", ".jsonl"))
        if rng.random() < 0.6:
            path = folder / "set" / "meta" / "info.json"
        did = path.relative_to(folder).as_posix()
        if rng.random() < 0.2:
            return Mutant(files.damage(path, rng))
        if path.suffix == ".json":
            path.write_text(dumps(mutated(json.loads(path.read_text()), rng)))
            return Mutant(did, EPISODES * FRAMES if path.name == "stats.json" else None)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[rng.randrange(len(lines))] = mutated(rng.choice(lines), rng)
        path.write_text("".join(dumps(line) + "\n" for line in lines))
        return Mutant(did, None if path.name == "episodes.jsonl" else EPISODES * FRAMES)

    def of_table(folder: Path, rng: Random) -> Mutant:
        """A parquet file: of v3's metadata, or of the frames."""
        path = rng.choice(_files(folder, ".parquet"))
        table = pq.read_table(path)
        change = tables.changed(table, rng)
        tables.write_parquet(change.table, path, rng)
        did = f"{path.relative_to(folder).as_posix()}: {change.did}"
        meta = "meta" in path.parts and path.name != "tasks.parquet"
        return Mutant(did, None if meta else EPISODES * FRAMES)

    def of_bytes(folder: Path, rng: Random) -> Mutant:
        path = rng.choice(_files(folder, ".parquet", ".mp4"))
        did = files.damage(path, rng) if rng.random() < 0.9 else files.misplace(path, rng)
        return Mutant(did, None if "episodes" in path.parts else EPISODES * FRAMES)

    def of_video(folder: Path, rng: Random) -> Mutant:
        """A video file costs rows of its episodes, never the set."""
        path = rng.choice(_files(folder, ".mp4"))
        what = rng.random()
        if what < 0.6:
            did = files.damage(path, rng)
        elif what < 0.8:
            did = files.misplace(path, rng)
        else:
            path.write_bytes(bad_image(rng))
            did = f"{path.name}: an image"
        return Mutant(did, EPISODES * FRAMES, None, "never")

    parts: list[tuple[float, Any]] = [(0.35, of_json), (0.4, of_table), (0.1, of_bytes)]
    return Variant(SOURCE, write, chosen(*parts, *[(0.15, of_video)] * (storage == "video")))


def _files(folder: Path, *suffixes: str) -> list[Path]:
    found = (path for path in (folder / "set").rglob("*") if path.suffix in suffixes)
    return sorted(path for path in found if path.is_file())


LEROBOT_V3 = (lerobot_variant("v3.0", "video"), lerobot_variant("v3.0", "image"))
LEROBOT_V2 = (lerobot_variant("v2.1", "video"), lerobot_variant("v2.1", "image"))
