"""Named instances, parents, experiments: who shares what. Plans only: nothing is run here (see
test_runner.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.recipe.recipe import build_recipe, load_recipe
from emt_core.run.plan import Plan, make_plan


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=20, episodes=3)


def plan(world: Path, *changes: str) -> Plan:
    return make_plan(load_recipe(world / "recipe.yaml", changes))


def keys(found: Plan) -> dict[str, str]:
    return {label: i.key for i in found.instances for label in i.labels}


def test_the_same_recipe_gives_the_same_keys(world):
    assert keys(plan(world)) == keys(plan(world))


def test_runtime_changes_no_key(world):
    changed = plan(
        world,
        "runtime.workers=7",
        "runtime.batch=3",
        "runtime.commit_rows=5",
        "runtime.device=cpu",
    )
    assert keys(changed) == keys(plan(world))


def test_a_change_moves_the_keys_below_it_and_no_others(world):
    before, after = keys(plan(world)), keys(plan(world, "estimator.steps=7"))
    moved = {label for label in before if before[label] != after[label]}
    assert moved == {"estimator", "score", "select.top"}


def test_a_touched_input_moves_every_key(world, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    before = keys(plan(copy))
    index = copy / "web" / "web.json"
    index.write_text(index.read_text().replace("OPEN", "SHUT", 1))
    after = keys(plan(copy))
    assert not set(before.values()) & set(after.values())


def test_named_instances_find_parents_by_name_then_plain_then_only(world):
    found = plan(
        world,
        "estimator.short={steps: 5}",
        "score.short={}",
        "select.short={k: 5}",
        "select.first={k: 3, parents: {score: ''}}",
    )
    assert found.get("score.short").parents["estimator"].label == "estimator.short"
    assert found.get("select.short").parents["score"].label == "score.short"
    assert found.get("select.top").parents["score"].label == "score"
    assert found.get("select.first").parents["score"].label == "score"


def test_an_unclear_parent_is_asked_for(world):
    recipe = load_recipe(world / "recipe.yaml")
    raw = {k: v for k, v in recipe.raw.items() if k != "estimator"}
    raw |= {"estimator.a": {}, "estimator.b": {}}
    with pytest.raises(EmtError, match="could take any of estimator"):
        make_plan(build_recipe(raw))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("select.top.parents={score: nobody}", "nobody"),
        ("select.top.parents={gap: x}", "does not take"),
    ],
)
def test_wrong_parents_are_named(world, change, says):
    with pytest.raises(EmtError, match=says):
        plan(world, change)


@pytest.mark.parametrize(
    ("settings", "lacks"),
    [
        ({"strategy": "random", "k": 5, "clusters": {"cells": 2}}, "embed"),
        ({"strategy": "all", "caps": {"category": {"text": 3}}}, "category"),
        ({"strategy": "random", "k": 5, "quotas": {"category": {"text": 1}}}, "category"),
        ({"strategy": "top", "k": 5}, "score"),
    ],
)
def test_a_selection_asks_for_what_its_settings_use(world, settings, lacks):
    raw = load_recipe(world / "recipe.yaml").raw
    raw = {name: raw[name] for name in ("name", "base", "sources")} | {"select": settings}
    with pytest.raises(EmtError, match=f"select needs a '{lacks}' stage"):
        make_plan(build_recipe(raw, where=world / "recipe.yaml"))


def test_two_instances_with_equal_work_are_one(world):
    found = plan(world, "select.twin={k: 20}")
    assert found.get("select.twin") is found.get("select.top")
    assert len(found.of_stage("select")) == 1


def test_arms_and_seeds_expand_and_share_what_is_equal(world):
    arms = "arms={learned: {}, random: {select.top.strategy: random}, short: {estimator.steps: 5}}"
    found = plan(world, arms, "seeds=[0, 1]")
    count = {
        stage: len(found.of_stage(stage))
        for stage in ("sources", "embed", "gap", "estimator", "score", "select")
    }
    # arms share what is equal; a seed draws everything anew that the method draws (Recipe.vary)
    assert count == {"sources": 1, "embed": 1, "gap": 1, "estimator": 4, "score": 4, "select": 6}
    assert found.get("embed").labels == ["embed"]
    assert found.get("select.top@random/1").config.seed == 1
    assert found.get("select.top@random/1").config.strategy == "random"
    assert found.get("estimator@learned/1") is found.get("estimator@random/1")
    assert found.get("estimator@learned/1").config.seed == 1
    assert found.get("estimator@learned/0") is not found.get("estimator@learned/1")


def test_what_arms_share_goes_by_the_name_of_one_that_needs_it(world):
    changes = "arms={chance: {select.top.strategy: random}, short: {estimator.steps: 5}, full: {}}"
    found = plan(world, changes)
    assert [i.label for i in found.of_stage("score")] == ["score@full", "score@short"]
    assert found.get("estimator@chance") is found.get("estimator@full")
    assert found.get("estimator@chance").label == "estimator@full", (
        "a random draw hangs on no estimator"
    )
    assert found.get("select.top@chance").label == "select.top@chance"


def test_vary_names_the_stages_whose_seed_moves(world):
    found = plan(world, "arms={a: {}}", "seeds=[0, 1, 2]", "vary=[estimator]")
    assert len(found.of_stage("estimator")) == 3
    assert len(found.of_stage("select")) == 3  # it follows its estimator
    assert {i.config.seed for i in found.of_stage("select")} == {0}


def test_a_missing_input_is_named(world):
    with pytest.raises(EmtError) as caught:
        plan(world, "sources.web.path=nowhere.json")
    assert "nowhere.json" in caught.value.message()
