"""A recipe of sources, select and midtrain alone: what ranks nothing needs no features."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from small_world import small_world
from tiny_models import save_internvl

from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Workspace

RECIPE = {
    "name": "train",
    "backbone": "tiny",
    "runtime": {"workers": 0, "batch": 3},
    "sources": [
        {"name": "web", "role": "pool", "format": "llava", "path": "web/web.json"}
        | {"image_root": "images"}
    ],
    "embed": {"encoder": "fake"},
    "category": {},
    "midtrain": {"steps": 7, "batch": 6, "cutoff": 160, "max_images": 2},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("world"), episodes=2, pool_rows=40)
    save_internvl(folder / "tiny")
    return folder


@pytest.mark.parametrize("select", ["{strategy: all}", "{strategy: random, k: 9, seed: 1}"])
def test_a_selection_by_chance_or_of_all_needs_neither_features_nor_categories(
    world: Path, select: str
):
    recipe = RECIPE | {"select": yaml.safe_load(select)}
    plain = {name: body for name, body in recipe.items() if name not in ("embed", "category")}
    (world / "plain.yaml").write_text(yaml.safe_dump(plain))
    plan = make_plan(load_recipe(world / "plain.yaml", ["midtrain.steps=1"]))
    assert [one.stage for one in plan.instances] == ["sources", "select", "midtrain"]
    trains = "all" in select
    done = run_plan(
        plan,
        Workspace.open(world / "ws", create=True),
        until="midtrain" if trains else "select",
        quiet=True,
    )
    found = done["select"].metrics
    assert found["selected"] == (found["asked"] or found["eligible"])
    assert found["reasons"]["text_only"] == 1 and found["embodied_share"]["after"] is None
    assert "midtrain" in done or not trains
    # a recipe that embeds draws among the rows with features, so that its arms are comparable
    (world / "embeds.yaml").write_text(yaml.safe_dump(recipe))
    embeds = make_plan(load_recipe(world / "embeds.yaml")).get("select")
    assert set(embeds.parents) == {"sources", "embed", "category"}
