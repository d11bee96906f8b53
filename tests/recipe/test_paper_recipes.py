"""The paper's recipes and the one for data of one's own: they load, and plan over stand-ins for the
data they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from published import publish
from small_world import write_robot
from source_files import write_json

from emt_core.recipe.recipe import SHIPPED, load_recipe
from emt_core.recipe.shipped import ROOT
from emt_core.run.plan import Plan, make_plan

PAPER = ("paper_internvl35_1b", "paper_qwen3vl_2b")
ARMS = ("none", "random", "learned")
TINY = ROOT / "assets" / "tiny_vlm"
BENCHMARKS = ("calvin", "bridge", "libero")


def planned(path: str | Path, base: Path) -> Plan:
    """The plan of a recipe over small files in the published layouts, with the tiny VLM."""
    return make_plan(load_recipe(path, [f"base={base}", f"embed.model={TINY}", f"backbone={TINY}"]))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=PAPER)
def plan(request, base: Path) -> Plan:
    return planned(request.param, base)


def test_three_arms_differ_in_what_fine_tuning_starts_from(plan: Plan):
    learned, chance = plan.get("midtrain.learned"), plan.get("midtrain.random")
    assert learned.parents["select"] is plan.get("select.learned")
    assert chance.parents["select"] is plan.get("select.random")
    assert (
        len(plan.of_stage("finetune"))
        == len(plan.of_stage("evaluate"))
        == len(ARMS) * len(BENCHMARKS)
    )
    for name in BENCHMARKS:
        starts = {arm: plan.get(f"finetune.{name}@{arm}/0") for arm in ARMS}
        assert starts["none"].config.start == "backbone" and not starts["none"].parents  # type: ignore[attr-defined]
        assert starts["random"].parents["midtrain"] is chance
        assert starts["learned"].parents["midtrain"] is learned
        for arm in ARMS:
            assert plan.get(f"evaluate.{name}@{arm}/0").parents["finetune"] is starts[arm]


def test_each_benchmark_has_the_settings_of_the_method(plan: Plan):
    """docs/method.md, sections 8 and 9; actions and augmentation are VLM4VLA's."""
    midtrain = plan.get("midtrain.learned").config.model_dump()
    expected = {
        "steps": 5000,
        "batch": 256,
        "cutoff": 1024,
        "learning_rate": 5e-5,
        "warmup_ratio": 0.1,
        "freeze": (),
    }
    assert {name: midtrain[name] for name in expected} == expected
    jitter = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
    plain = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    own = {
        "calvin": (10, "clip", {"shift": 10, "crop": 1.0, **plain}),
        "bridge": (4, "q01_q99", {"shift": 0, "crop": 0.9, **jitter}),
        "libero": (4, "q01_q99", {"shift": 0, "crop": 0.9, **jitter}),
    }
    for name, (chunk, scale, augment) in own.items():
        found = plan.get(f"finetune.{name}@learned/0").config.model_dump()
        assert (found["chunk"], found["action"]["scale"], found["augment"]) == (
            chunk,
            scale,
            augment,
        )
        assert (found["steps"], found["batch"], found["warmup_steps"]) == (16000, 256, 500)
        assert found["learning_rate"] == 5e-5
        assert (found["image_size"], found["gripper_weight"], found["action"]["clip"]) == (
            224,
            0.01,
            0.65,
        )
    episodes = [plan.get(f"evaluate.{name}@none/0").config.episodes for name in BENCHMARKS]  # type: ignore[attr-defined]
    assert episodes == [1000, 24, 50]


def test_one_benchmarks_settings_are_changed_alone():
    """The three share their common settings by a YAML anchor: a shared mapping would change for all
    at once."""
    changes = ["finetune.calvin.steps=4000", "finetune.calvin.keep=[]", "midtrain.random.steps=7"]
    changed = load_recipe(PAPER[0], changes)
    steps = {i.label: i.config.steps for i in changed.instances if i.stage == "midtrain"}  # type: ignore[attr-defined]
    assert steps == {"midtrain.learned": 5000, "midtrain.random": 7}
    steps = [i.config.steps for i in changed.instances if i.stage == "finetune"]  # type: ignore[attr-defined]
    assert steps == [4000, 16000, 16000]


def test_both_backbones_share_the_selection():
    def shared(name: str) -> list[tuple]:
        stages = ("sources", "embed", "category", "gap", "estimator", "score", "select")
        return [(i.label, i.config) for i in load_recipe(name).instances if i.stage in stages]

    assert shared(PAPER[0]) == shared(PAPER[1]) == shared("paper_selection")
    assert load_recipe(PAPER[1]).backbone.startswith("Qwen/")


def test_data_of_ones_own_go_all_the_way_once_the_comments_are_taken_away(tmp_path: Path):
    first, marker, second = (SHIPPED / "own_data.yaml").read_text().partition("# trust: {}\n")
    assert marker
    lines = [line.removeprefix("# ") for line in (marker + second).splitlines()]
    recipe = tmp_path / "own.yaml"
    recipe.write_text(first + "\n".join(lines))
    write_json(tmp_path / "web" / "web.json", [])
    write_robot(tmp_path / "arm", episodes=1, seed=0, frames=2)
    plan = planned(recipe, tmp_path)
    assert [i.stage for i in plan.get("evaluate").parents.values()] == ["finetune"]
    finetune = plan.get("finetune")
    assert finetune.parents["midtrain"].parents["select"] is plan.get("select.quarter")
    assert plan.get("trust").parents["score"] is plan.get("score")
