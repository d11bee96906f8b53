"""An experiment's evaluate artifacts, made by hand to the contract (docs/architecture.md), with
videos that play."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from emt_core.evaluation.benchmarks.base import Episode
from emt_core.evaluation.closed_loop.episodes import EpisodeLog, episode_row
from emt_core.evaluation.closed_loop.results import summarize
from emt_core.evaluation.closed_loop.rollout import Played
from emt_core.evaluation.seeds import EVAL_SEEDS
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_json

TASKS = ("door-open-v3", "drawer-open-v3", "reach-v3")
WORDS = {
    "door-open-v3": "open the door",
    "drawer-open-v3": "open the drawer",
    "reach-v3": "reach the red ball",
}
SKILL = {"none": 0.35, "random": 0.45, "learned": 0.7}
STEPS = (100, 200, 300)


def experiment(
    folder: Path,
    *,
    arms: dict[str, float] = SKILL,
    seeds: tuple[int, ...] = (0, 1),
    episodes: int = 12,
    checkpoints: tuple[int, ...] = STEPS,
    videos: int = 2,
    recipe: str = "arms",
) -> Workspace:
    """A workspace whose recipe `arms` has evaluate.metaworld@ARM/SEED artifacts."""
    workspace = Workspace.open(folder, create=True)
    state = {}
    for arm, skill in arms.items():
        for seed in seeds:
            key = f"{arm}{seed}"
            evaluated(
                workspace,
                key,
                skill,
                seed=seed,
                episodes=episodes,
                checkpoints=checkpoints,
                videos=videos,
            )
            state[f"evaluate.metaworld@{arm}/{seed}"] = key
    body = f"base: {folder}\nsources: [{{name: w, role: pool, format: llava, path: w.json}}]\n"
    recorded(workspace, state, recipe, body)
    return workspace


def recorded(
    workspace: Workspace, state: dict[str, str], name: str = "r", body: str = "sources: []\n"
) -> None:
    """What a run of the recipe `name` leaves beside the artifacts: their keys by label, and the
    recipe (body: all but
    its name)."""
    write_json(workspace.path / "state" / f"{name}.json", state)
    path = workspace.path / "recipes" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"name: {name}\n{body}")


def evaluated(
    workspace: Workspace,
    key: str,
    skill: float,
    *,
    seed: int = 0,
    episodes: int = 12,
    checkpoints: tuple[int, ...] = STEPS,
    videos: int = 2,
    benchmark: str = "metaworld",
    goals: int = 1,
    tasks: tuple[str, ...] = TASKS,
    parents: dict[str, str] | None = None,
    broken: tuple[str, ...] = (),
) -> None:
    """One evaluate artifact. skill: success at the last checkpoint; earlier ones have less.

    broken: tasks whose simulator crashes in every episode.
    """
    data = workspace.building("evaluate", key) / "data"
    data.mkdir(parents=True)
    rng, log = np.random.default_rng(int.from_bytes(key.encode()) % 2**32), EpisodeLog(data)
    for place, step in enumerate(checkpoints, start=1):
        for task in tasks:
            for number in range(episodes):
                played = _played(
                    rng,
                    task,
                    number,
                    skill * place / len(checkpoints),
                    benchmark,
                    goals,
                    videos,
                    crashes=task in broken,
                )
                log.add(episode_row(data, played, step, goals, 8))
    rows = log.finish().to_pylist()
    results = summarize(rows, benchmark=benchmark, rule="last")
    write_json(
        data / "results.json",
        {**results, "simulator": {"python": "3.11", "versions": {"hand": "made"}}},
    )
    chosen = results["checkpoints"][-1]["mean"]
    manifest = {
        "stage": "evaluate",
        "key": key,
        "version": 1,
        "labels": [f"evaluate.{benchmark}"],
        "config": {"benchmark": {"name": benchmark}, "seed": seed},
        "parents": parents or {},
        "finished": time.time(),
        "started": time.time(),
        "seconds": 1.0,
        "peak_memory_mb": 1,
        "rows": len(rows),
        "metrics": {
            "success": chosen["rate"],
            "low": chosen["low"],
            "high": chosen["high"],
            "benchmark": benchmark,
        },
    }
    workspace.commit("evaluate", key, manifest)


def _played(
    rng: np.random.Generator,
    task: str,
    number: int,
    skill: float,
    benchmark: str,
    goals: int,
    videos: int,
    crashes: bool,
) -> Played:
    completed = int((rng.random(goals) < skill).cumprod().sum())
    success = completed == goals
    failure = "" if success else ("bad_action" if rng.random() < 0.05 else "step_cap")
    if crashes:
        completed = 0
        success = False
        failure = "crashed"
    frames = []
    if number < videos:
        ground = rng.integers(40, 200, 3)
        for at in range(6):
            frame = np.full((64, 64, 3), ground, np.uint8)
            frame[20:44, 4 + 8 * at : 16 + 8 * at] = (220, 60, 40) if not success else (60, 200, 90)
            frames.append(frame)
    return Played(
        episode=Episode(
            benchmark=benchmark, task=task, number=number, seed=EVAL_SEEDS.start + number, begin={}
        ),
        instruction=WORDS.get(task, task),
        success=success,
        steps=int(rng.integers(20, 60)) if success else 150,
        completed=completed,
        seconds=float(rng.uniform(1, 4)),
        failure=failure,
        detail="Segmentation fault" if failure == "crashed" else "",
        frames=frames,
    )


if __name__ == "__main__":  # a workspace to look at: python tests/worlds/evaluate_world.py FOLDER
    import sys

    experiment(Path(sys.argv[1]), seeds=(0, 1, 2), episodes=50, videos=4)
