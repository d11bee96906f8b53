"""What planning can know is told before the first stage: by `emt run`, its dry run, sources."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_world import write_robot
from source_files import llava_row, save_pictures, write_json

from emt_core.cli.__main__ import main
from emt_core.recipe.recipe import build_recipe, load_recipe
from emt_core.recipe.shipped import ROOT
from emt_core.run import checks, requirements
from emt_core.run.checks import forecast
from emt_core.run.plan import make_plan
from emt_core.workspace.artifact import Workspace

CAMERA = "observation.images.front"
TINY = str(ROOT / "assets" / "tiny_vlm")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_pictures(folder / "images", [f"{n}.png" for n in range(12)])
    write_json(folder / "web.json", [llava_row(f"{n}.png") for n in range(12)])
    write_robot(folder / "arm", episodes=4, seed=0)
    write_robot(folder / "few", episodes=2, seed=0)
    return folder


def settings(base: Path) -> dict[str, Any]:
    """A whole recipe without a mistake."""
    web = {"name": "web", "role": "pool", "format": "llava", "path": "web.json"}
    arm = {"name": "arm", "path": "arm", "camera": CAMERA}
    return {
        "name": "told",
        "base": str(base),
        "backbone": TINY,
        "sources": [
            {**web, "image_root": "images"},
            {**arm, "role": "robot", "format": "lerobot", "frames_per_episode": 4},
        ],
        "embed": {"encoder": "fake"},
        "category": {},
        "estimator": {},
        "score": {},
        "select": {"fraction": 0.5},
        "midtrain": {"steps": 2, "batch": 2},
        "finetune": {
            "data": [arm],
            "action": {"gripper": ["grip"], "gripper_threshold": 0.0},
            "image_size": 56,
            "steps": 4,
            "batch": 2,
            "keep": [2],
        },
        "evaluate": {"benchmark": {"name": "rehearsal"}, "episodes": 1},
    }


def changed(base: Path, dotted: str, value: Any) -> dict[str, Any]:
    raw = settings(base)
    *names, last = dotted.split(".")
    holder: Any = raw
    for name in names:
        holder = holder[int(name) if isinstance(holder, list) else name]
    if value is None:
        del holder[int(last) if isinstance(holder, list) else last]
    else:
        holder[int(last) if isinstance(holder, list) else last] = value
    return raw


def told(raw: dict[str, Any]) -> list[str]:
    recipe = build_recipe(raw)
    plan = make_plan(recipe, whole=False)
    return [problem.message() for problem in forecast(plan.instances, recipe, None).problems]


def test_a_recipe_without_a_mistake_has_no_problem(base: Path):
    assert told(settings(base)) == []


METAWORLD = {"name": "metaworld", "tasks": ["push-v3"]}
MISTAKES = {
    "a gripper": ("finetune.action.gripper", ["gripper"], "no dimension 'gripper'"),
    "a dimension nobody takes": ("finetune.action.arm", ["dx"], "what to do with"),
    "a camera": ("finetune.data.0.camera", "front", "no camera 'front'"),
    "a column": ("finetune.action.columns", ["move"], "no numeric feature 'move'"),
    "a missing robot set": ("sources.1.path", "gone", "no such file or folder"),
    "no robot source": ("sources.1", None, "no source has role 'robot'"),
    "no pool source": ("sources.0", None, "no source has role 'pool'"),
    "too few episodes": ("sources.1.path", "few", "has 2 episodes; it takes at least 3"),
    "too few by limit": ("sources.1.limit", 1, "has 1 episode; it takes at least 3"),
    "a capped source": ("select.caps", {"source": {"wep": 3}}, "caps.source names 'wep'"),
    "an excluded source": ("select.exclude", ["wep:3"], "exclude names 'wep'"),
    "a kept step": ("evaluate.checkpoints", [3], "no checkpoint at step 3"),
    "a task": (
        "evaluate.benchmark",
        METAWORLD | {"tasks": ["reach-v2"], "instructions": {"reach-v2": ["reach"]}},
        "no task 'reach-v2' (did you mean reach-v3?)",
    ),
    "an instruction's task": (
        "evaluate.benchmark",
        METAWORLD | {"instructions": {"pusch-v3": ["push"]}},
        "no task 'pusch-v3'",
    ),
    "too many layouts": (
        "evaluate",
        {"benchmark": {"name": "libero", "tasks": [0]}, "episodes": 60},
        "50 layouts a task",
    ),
    "an interpreter": (
        "evaluate",
        {"benchmark": METAWORLD, "python": "venvs/none/bin/python"},
        "interpreter cannot be started",
    ),
    "a simulator": (
        "evaluate",
        {"benchmark": {"name": "simpler_bridge"}},
        "has no module 'simpler_env'",
    ),
    "the frames' bound": ("runtime", {"frame_cache_gb": 1e-6}, "the bound of the frame cache"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_by_its_name(mistake: str, base: Path):
    dotted, value, words = MISTAKES[mistake]
    problems = told(changed(base, dotted, value))
    assert len(problems) == 1 and words in problems[0], problems


@pytest.mark.parametrize(
    "scored", [{"estimator": {"seeds": 1}}, {"estimator": None, "measure": {"kind": "knn"}}]
)
def test_a_penalty_on_a_spread_that_is_not_there_is_told(base: Path, scored: dict[str, Any]):
    raw = settings(base) | scored | {"select": {"fraction": 0.5, "spread_penalty": 1}}
    (problem,) = told({name: value for name, value in raw.items() if value is not None})
    assert "no spread over seeds" in problem
    assert told(settings(base) | {"select": raw["select"]}) == []


@pytest.mark.parametrize("device", ["cuda:7", "cudda"])
def test_a_device_that_is_not_there_is_told_where_models_need_it(base: Path, device: str):
    raw = settings(base) | {"runtime": {"device": device}}
    (problem,) = told(raw)
    assert f"device {device!r}" in problem
    assert "where:  embed and 3 more, runtime.device" in problem
    for stage in ("midtrain", "finetune", "evaluate", "embed", "estimator", "score", "select"):
        del raw[stage]
    assert told(raw) == []


def test_a_tracker_that_is_not_installed_is_told_where_stages_need_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checks, "find_spec", lambda name: name == "tensorboard" or None)
    raw = settings(base) | {"runtime": {"report_to": ["trackio", "tensorboard", "wandb"]}}
    (problem,) = told(raw)
    assert "trackio and wandb are not installed" in problem
    assert 'pip install "embodied-midtrain[tracking]"' in problem
    assert told(settings(base) | {"runtime": {"report_to": ["tensorboard"]}}) == []
    for stage in ("midtrain", "finetune", "evaluate"):
        del raw[stage]
    assert told(raw) == []


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("midtrain.optimizer", "adamw_8bit", ("bitsandbytes, which is", "adam8bit", "midtrain, o")),
        ("finetune.optimizer", "adamw_8bit", ("a CUDA GPU", "set optimizer: adamw", "finetune, o")),
        ("finetune.attn_implementation", "flash_attention_2", ("flash_attn, which", "a CUDA GPU")),
        ("finetune.update", "lora", ("LoRA needs peft", "[lora]")),
        ("runtime", {"sharding": "zero2"}, ("deepspeed, which is not", "a CUDA GPU", "set runt")),
        ("runtime", {"sharding": "fsdp"}, ("nothing to shard", "runtime.training_processes")),
    ],
)
def test_what_a_training_needs_is_told_before(
    base: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: Any, said: tuple[str, ...]
):
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    raw = settings(base)
    stage, _, field = setting.partition(".")
    raw[stage] = raw.get(stage, {}) | ({field: value} if field else value)
    (problem,) = told(raw)
    assert all(words in problem for words in said), problem


def test_nothing_is_lacking_where_it_is_there(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(requirements, "find_spec", lambda name: name)
    raw = settings(base)
    raw["midtrain"] |= {"optimizer": "adamw_8bit", "update": "lora"}
    raw["runtime"] = {"sharding": "zero3"}
    zero, problem = sorted(told(raw), key=lambda one: "8-bit" in one)
    assert "loops that let it take a step" in zero and "sharding: fsdp" in zero
    assert "8-bit AdamW needs a CUDA GPU, and training has none here" in problem
    assert "pip install" not in problem
    raw["runtime"] = {"engine": "slurm", "sharding": "fsdp", "slurm": {"gpus": 2}}
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(raw))
    recipe = load_recipe(tmp_path / "slurm.yaml")
    assert forecast(make_plan(recipe, whole=False).instances, recipe, None).problems == []


def test_a_recorded_sets_dimensions_are_known_before_it_is_recorded(base: Path):
    raw = settings(base) | {"demos": {"tasks": ["push-v3"]}}
    raw["finetune"] |= {"data": [], "start": "backbone"}
    (problem,) = told(raw)
    assert "no dimension 'grip'" in problem and "gripper_closing" in problem
    raw["demos"]["tasks"] = ["push-v2"]
    assert any("no task 'push-v2'" in problem for problem in told(raw))


def test_everything_is_told_at_once_and_nothing_is_run(base: Path, tmp_path: Path, capfd):
    raw = settings(base)
    raw["sources"][0]["path"] = "nowhere.json"
    raw["sources"].append({**raw["sources"][0], "name": "more", "path": "gone.json"})
    raw["finetune"]["action"]["gripper"] = ["gripper"]
    raw["backbone"] = "nobody/nothing-at-all"
    recipe = tmp_path / "told.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    for command in (["--dry-run"], ["--workspace", str(tmp_path / "w")]):
        assert main(["run", str(recipe), *command]) == 2
        error = capfd.readouterr().err
        for words in ("nowhere.json", "gone.json", "no dimension 'gripper'", "nothing-at-all"):
            assert error.count(words) >= 1, words
        assert "4 problems:" in error
    assert not list((tmp_path / "w").glob("sources/*"))


def test_what_a_later_stage_lacks_does_not_stop_an_earlier_one(base: Path, tmp_path: Path, capfd):
    raw = changed(base, "finetune.action.gripper", ["gripper"]) | {"backbone": "nobody/nothing"}
    recipe = tmp_path / "told.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    assert main(["run", str(recipe), "-w", str(tmp_path / "w"), "--until", "sources"]) == 0
    assert main(["status", "-w", str(tmp_path / "w"), str(recipe)]) == 0
    out = capfd.readouterr().out
    assert "done" in out and "nobody" in out
    assert main(["run", str(recipe), "--dry-run", "--until", "score"]) == 0
    out = capfd.readouterr().out
    assert "4 of 4 to make" in out and "nothing stands in the way" in out
    assert main(["sources", str(recipe)]) == 0
    out = capfd.readouterr().out
    assert "a later stage will stop" in out and "no dimension" in out
    recipe.write_text(yaml.safe_dump(settings(base)))
    assert main(["sources", str(recipe)]) == 0
    out = capfd.readouterr().out
    assert "finetune will take: 40 frames of arm" in out and "will stop" not in out


def test_a_full_disk_is_told_before(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)
    recipe = build_recipe(settings(base))
    plan = make_plan(recipe)
    workspace = Workspace(tmp_path / "w")
    assert forecast(plan.instances, recipe, workspace).problems == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10**6))
    (problem,) = forecast(plan.instances, recipe, workspace).problems
    assert "the disk has 0.0 GB free" in problem.what and "are kept" in problem.what
    # what an interrupted stage wrote makes room for no other
    (embed,) = plan.of_stage("embed")
    begun = workspace.building("embed", embed.key)
    begun.mkdir(parents=True)
    with (begun / "features").open("wb") as file:
        file.truncate(10**12)
    (problem,) = forecast(plan.instances, recipe, workspace).problems
    assert "the disk has 0.0 GB free" in problem.what
    # a disk of its own for frames is asked on its own
    monkeypatch.setattr("emt_core.run.checks._disk", lambda path: 1 if "frames" in str(path) else 2)
    (problem,) = forecast(plan.instances, recipe, workspace).problems
    assert problem.what.startswith("the results of this run take")


def test_a_file_that_goes_while_room_is_counted_is_no_error(tmp_path: Path, monkeypatch: Any):
    (tmp_path / "stays").write_bytes(b"12345")
    walked = list(os.walk(tmp_path))
    gone = [(root, folders, [*names, "gone"]) for root, folders, names in walked]
    monkeypatch.setattr(checks.os, "walk", lambda folder: iter(gone))
    assert checks._size(tmp_path) == 5
