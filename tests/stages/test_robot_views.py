"""Several cameras and annotations of one robot set, from the sources to the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from annotated_sets import FRONT, WRIST, asked, write_language
from small_world import write_pool
from source_files import lerobot_folder

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.proximity.groups import groups_of
from emt_core.proximity.split import split_rows
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table

EPISODES = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    base = tmp_path_factory.mktemp("views")
    write_pool(base / "web", 48)
    lerobot_folder(base / "arm", episodes=EPISODES, cameras={FRONT: (32, 48), WRIST: (32, 32)})
    events = {(n, 5): asked(f"Where is cup {n}?", {"point": [n, 2]}) for n in range(EPISODES)}
    write_language(base / "arm", {}, events)
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


def test_every_view_of_an_episode_is_on_one_side_of_the_split(made: dict[str, Artifact]):
    index = Index(made["sources"])
    rows = {source.name: (source.start, source.stop) for source in index.sources}
    assert [b - a for a, b in rows.values()] == [48, EPISODES, EPISODES * 6, 7 * 3]
    robot = slice(rows["qa"][0], rows["tile"][1])
    episode = index.table.column("episode")[robot]
    groups = groups_of(index)[robot]
    for number in range(EPISODES):
        assert len(np.unique(groups[episode == number])) == 1
    assert len(np.unique(groups)) == EPISODES
    part = split_rows(index, np.ones(index.rows, bool), validation=0.2, test=0.2, seed=0)[robot]
    assert all(len(np.unique(part[episode == number])) == 1 for number in range(EPISODES))
    assert len(np.unique(part)) == 3


def test_tiles_and_annotations_are_embedded(made: dict[str, Artifact]):
    assert made["embed"].rows == made["sources"].rows
    assert Features(Table(made["embed"].data / "features.lance")).ok().all()
    index = Index(made["sources"])
    qa = next(source for source in index.sources if source.name == "qa")
    assert index.is_pool()[qa.start : qa.stop].all()
