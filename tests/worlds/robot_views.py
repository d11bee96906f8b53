"""One robot set read by each camera, as tiles and by its annotations, beside a pool."""

from __future__ import annotations

from pathlib import Path

from annotated_sets import FRONT, WRIST, asked, said, write_language
from small_world import write_pool
from source_files import lerobot_folder

from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace

EPISODES = 9


def run_views(base: Path) -> dict[str, Artifact]:
    """Sources, features and categories of `base`, in the workspace base/ws."""
    write_pool(base / "web", 48)
    lerobot_folder(base / "arm", episodes=EPISODES, cameras={FRONT: (32, 48), WRIST: (32, 32)})
    events = {(n, 5): asked(f"Where is cup {n}?", {"point": [n, 2]}) for n in range(EPISODES)}
    subtasks = {
        n: [said("subtask", f"reach cup {n}", timestamp=0), said("plan", "1. go", timestamp=0.6)]
        for n in range(EPISODES)
    }
    write_language(base / "arm", subtasks, events)
    arm = {"role": "robot", "format": "lerobot", "path": "arm", "frames_per_episode": 3}
    both = {"cameras": [FRONT, WRIST]}
    raw = {
        "name": "views",
        "base": str(base),
        "backbone": "none",
        "runtime": {"workers": 0, "commit_rows": 16},
        "sources": [
            {"name": "web", "role": "pool", "format": "llava", "path": "web/web.json"}
            | {"image_root": "images"},
            arm | both | {"name": "qa", "role": "pool", "annotations": ["vqa"]},
            arm | both | {"name": "each"},
            arm | both | {"name": "tile", "views": "tile", "episodes": ["2-8"]},
        ],
        "embed": {"encoder": "fake"},
    }
    plan = make_plan(build_recipe(raw))
    return run_plan(plan, Workspace.open(base / "ws", create=True), quiet=True)
