"""A frame cache of the small world's robot set, and a progress that remembers what it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emt_core.data.readers.lerobot import robot_set
from emt_core.data.robot.frame_cache import CacheNeed, frame_caches
from emt_core.recipe.recipe import Recipe
from emt_core.recipe.sources import LeRobotSource
from emt_core.run.checks import forecast
from emt_core.run.plan import make_plan
from emt_core.run.stage import DiskNeed

CAMERA = "observation.images.front"


def cache_of(
    world: Path,
    caches: Path,
    progress: Any,
    *,
    size: int = 32,
    key: str = "k",
    workers: int = 2,
    bound_gb: float = 1.0,
):
    source = LeRobotSource(name="arm", role="robot", format="lerobot", path="arm", camera=CAMERA)
    robot = robot_set(source, world / "arm")
    need = CacheNeed(key=key, robot=robot, episodes=list(robot.episodes()), size=size)
    return robot, frame_caches(
        caches, [need], bound_gb=bound_gb, workers=workers, progress=progress
    )[0]


def needs_of(recipe: Recipe) -> list[DiskNeed]:
    """What its fine-tuning says it takes on disk."""
    return forecast(make_plan(recipe).instances, recipe, None).needs["finetune"]


class Said:
    """A progress that remembers what was announced."""

    def __init__(self) -> None:
        from emt_core.workspace.progress import Progress

        self.lines: list[str] = []
        self.quiet = Progress(label="x", quiet=True)
        self.track = self.quiet.track

    def say(self, text: str) -> None:
        self.lines.append(text)
