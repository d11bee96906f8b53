"""The finetune stage on a tiny random InternVL and small LeRobot sets: data, cache, curves, kill
-9, bad input."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from event_files import scalars
from finetune_runs import CAMERA, STEPS, recipe_of, run, write_world
from finetune_runs import weights_of as weights
from frame_caches import needs_of
from precision import auto_is

from emt_core.data.robot.training_frames import FrameOrder
from emt_core.errors import EmtError
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.training.policy import finetuning
from emt_core.training.policy.policy import Policy
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: Path) -> Artifact:
    raw = recipe_of(world)
    raw["runtime"]["report_to"] = ["tensorboard"]  # enters no key
    return run(raw, world / "whole")


def test_what_it_takes_on_disk_is_told_before(world: Path, whole: Artifact):
    """States are three, each thrice the weights."""
    told = {n.kind: n.bytes for n in needs_of(build_recipe(recipe_of(world))) if n.kind != "frames"}
    size = sum(p.stat().st_size for p in (whole.data / "policies").glob("*/model.safetensors"))
    assert told == pytest.approx({"result": size, "scratch": 9 * size / 2}, rel=0.05)


def test_what_a_run_leaves_behind(whole: Artifact, world: Path):
    assert (
        whole.rows == 70
        and whole.metrics["episodes"] == 7
        and whole.metrics["policies"] == [3, STEPS]
        and whole.metrics["action"]["still"] == []
    )
    assert sorted(p.name for p in (whole.data / "policies").iterdir()) == ["step-3", "step-6"]
    assert not (whole.data / "checkpoints").exists()
    steps = list(iterate_steps(whole.data / "steps.jsonl"))
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    assert steps[-1]["samples"] == STEPS * 8 and steps[-1]["tokens"] > steps[0]["tokens"] > 0
    for name in (
        "loss",
        "loss_arm",
        "loss_gripper",
        "learning_rate",
        "grad_norm",
        "seconds",
        "memory_mb",
    ):
        assert all(np.isfinite(record[name]) for record in steps), name
    assert (
        steps[0]["learning_rate"] == 0
        and steps[1]["learning_rate"] == 1e-3 > steps[-1]["learning_rate"] > 0
    )
    runs = world / "whole" / "tracking" / "tensorboard" / "finetune"
    curves = scalars(runs / f"finetune-{whole.key}")
    for name in ("loss_gripper", "learning_rate", "tokens"):
        told = [(step, pytest.approx(value)) for step, value in curves[name]]
        assert told == [(record["step"], record[name]) for record in steps], name
    policy = Policy.load(whole.data / "policies" / "step-6", device="cpu")
    assert policy.spec.step == STEPS and policy.spec.crop == 0.9
    actions = policy.act(
        np.zeros((2, 48, 48, 3), np.uint8), ["push the red block", "open the drawer"]
    )
    assert actions.shape == (2, 3, 3)
    moved = [
        name
        for name, value in weights(whole, 3).items()
        if not torch.equal(value, weights(whole)[name])
    ]
    assert any("vision_tower" in name for name in moved) and any(
        "language_model" in name for name in moved
    )
    assert {"query", "head.arm.0.weight"} <= set(moved)  # full fine-tuning


def test_it_learns_a_movement_that_an_instruction_decides(world: Path, tmp_path: Path):
    """Two instructions, two opposite movements, the same pictures: after 60 steps the policy tells
    them apart."""
    from emt_core.data.robot.lerobot_writer import LeRobotWriter

    rng = np.random.default_rng(0)
    with LeRobotWriter(
        tmp_path / "said",
        fps=10,
        cameras={CAMERA: (56, 56)},
        state_names=("s",),
        action_names=("dx", "grip"),
    ) as writer:
        for episode in range(6):
            way = 1 if episode % 2 else -1
            action = np.column_stack([way * rng.uniform(0.9, 1, 8), np.full(8, way > 0)])
            writer.add_episode(
                task="left" if way < 0 else "to the right",
                images={CAMERA: rng.integers(0, 256, (8, 56, 56, 3), dtype=np.uint8)},
                state=np.zeros((8, 1)),
                action=action,
            )
    raw = recipe_of(
        world, action={"gripper": ["grip"]}, augment={}, keep=[], steps=60, learning_rate=3e-3
    )
    raw["finetune"]["data"] = [{"name": "said", "path": str(tmp_path / "said"), "camera": CAMERA}]
    artifact = run(raw, tmp_path / "w")
    steps = list(iterate_steps(artifact.data / "steps.jsonl"))
    assert steps[-1]["loss"] < 0.2 * steps[0]["loss"]
    policy = Policy.load(artifact.data / "policies" / "step-60", device="cpu")
    left, right = policy.act(
        rng.integers(0, 256, (2, 56, 56, 3), dtype=np.uint8), ["left", "to the right"]
    )
    assert left[:, 0].max() < -0.5 < 0.5 < right[:, 0].min()
    assert left[:, 1].tolist() == [0, 0, 0] and right[:, 1].tolist() == [1, 1, 1]


def test_the_parts_of_a_batch_change_nothing_but_rounding(
    whole: Artifact, world: Path, tmp_path: Path
):
    raw = recipe_of(world, batch_size=3)
    assert make_plan(build_recipe(raw)).get("finetune").key == whole.key  # and no key
    other = run(raw, tmp_path / "w")
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=1e-2, atol=2e-4)
    first, again = (next(iterate_steps(a.data / "steps.jsonl")) for a in (whole, other))
    assert first["loss"] == pytest.approx(again["loss"], rel=1e-5)


def train_until_killed(raw: dict[str, Any], workspace: str, at: int) -> None:
    """What the killed process does: checkpoints at every step; it dies when the line of step `at`
    is written, its
    checkpoint not yet."""
    finetuning.CHECKPOINT_SECONDS = 0.0
    write = finetuning.StepsLog.write

    def dies(self, step, values):
        record = write(self, step, values)
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    finetuning.StepsLog.write = dies  # type: ignore[method-assign]
    run(raw, Path(workspace))


def test_a_killed_run_ends_with_the_same_weights(
    whole: Artifact, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = recipe_of(world)
    child = multiprocessing.get_context("spawn").Process(
        target=train_until_killed, args=(raw, str(tmp_path / "w"), 5)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    building = Workspace.open(tmp_path / "w").building("finetune", whole.key) / "data"
    assert sorted(p.name for p in (building / "checkpoints").iterdir()) == [
        "step-00000003",
        "step-00000004",
    ]
    assert len(list(iterate_steps(building / "steps.jsonl"))) == 5
    # the machine went down while the newest one was written: the one before it has to do
    broken = building / "checkpoints" / "step-00000004" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    auto_is(monkeypatch, torch.bfloat16)  # it was begun in float32
    resumed = run(raw, tmp_path / "w")
    assert [r["step"] for r in iterate_steps(resumed.data / "steps.jsonl")] == list(
        range(1, STEPS + 1)
    )
    for step in (3, STEPS):
        for name, value in weights(whole, step).items():
            assert torch.equal(value, weights(resumed, step)[name]), (step, name)


def test_a_loss_that_is_not_a_number_stops_at_its_step(
    whole: Artifact, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Long before the first checkpoint is due: the state before the bad step is kept all the
    same."""
    real, calls = finetuning.action_loss, []

    def breaks(*arguments, **options):
        calls.append(1)
        loss = real(*arguments, **options)
        return (
            loss
            if len(calls) < 4
            else type(loss)(total=loss.total * float("nan"), arm=loss.arm, gripper=loss.arm)
        )

    monkeypatch.setattr(finetuning, "action_loss", breaks)
    raw = recipe_of(world)
    with pytest.raises(EmtError, match="the loss became nan at step 4") as caught:
        run(raw, tmp_path / "w")
    assert "the state after step 3 is kept" in caught.value.remedy
    named = re.findall(r"(arm|hand) episode (\d) frame (\d)", caught.value.where)
    assert len(named) == 8
    order, lengths = FrameOrder(70, 8, seed=0).rows(3), {"arm": 0, "hand": 40}
    assert [
        lengths[name] + 10 * int(episode) + int(frame) for name, episode, frame in named
    ] == order.tolist()
    monkeypatch.setattr(finetuning, "action_loss", real)
    begun = []
    step = finetuning.Finetuner._step
    monkeypatch.setattr(
        finetuning.Finetuner,
        "_step",
        lambda self, n, *rest: begun.append(n) or step(self, n, *rest),
    )
    done = run(raw, tmp_path / "w")
    assert begun == [4, 5, 6] and done.metrics["policies"] == [
        3,
        STEPS,
    ]  # goes on from the good one
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(done)[name]), name


def test_a_loss_that_is_bad_from_the_start_loses_nothing(world: Path, tmp_path: Path):
    with pytest.raises(EmtError, match="step 1") as caught:
        run(
            recipe_of(world, head={"latent": 16, "widths": [16]}, gripper_weight=1e38),
            tmp_path / "w",
        )
    assert "no step was taken before it" in caught.value.remedy


def test_two_ranks_train_the_policy_of_one(whole: Artifact, world: Path, tmp_path: Path):
    recipe = tmp_path / "vla.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(world)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
    ]
    command += ["emt_core.cli", "run", str(recipe), "--workspace", str(tmp_path / "w")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    both = Workspace.open(tmp_path / "w").find("finetune", whole.key)
    assert both is not None
    one, two = (list(iterate_steps(artifact.data / "steps.jsonl")) for artifact in (whole, both))
    assert [record["tokens"] for record in two] == [record["tokens"] for record in one]
    assert [record["loss"] for record in two[:2]] == pytest.approx(
        [record["loss"] for record in one[:2]], rel=1e-4
    )
    # Adam hides a gradient of the wrong scale, its norm does not
    norms = [[record["grad_norm"] for record in records] for records in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(both)[name], rtol=1e-2, atol=2e-4)


# ---- configuration


def test_bad_configurations_say_so(world: Path, tmp_path: Path):
    for changes, message in (
        ({"keep": [STEPS + 1]}, "keep names steps"),
        ({"prompt": "go"}, "has to hold"),
        ({"action": {"gripper": ["claw"]}}, "no dimension 'claw'"),
        ({"data": [{"name": "arm", "path": "arm", "camera": "wrist"}]}, "no camera 'wrist'"),
        ({"data": [{"name": "gone", "path": "gone", "camera": CAMERA}]}, "no such file or folder"),
    ):
        with pytest.raises(EmtError, match=message):
            run(recipe_of(world, **changes), tmp_path / "w")
    with pytest.raises(EmtError, match="finetune has no model"):
        run({**recipe_of(world), "backbone": ""}, tmp_path / "w")


def test_the_key_knows_what_the_model_is_not_where(whole: Artifact, world: Path, tmp_path: Path):
    shutil.copytree(world / "vlm", tmp_path / "moved")
    raw = recipe_of(world, model=str(tmp_path / "moved"))
    assert make_plan(build_recipe(raw)).get("finetune").key == whole.key
    facts = read_json(whole.path / "manifest.json")["identity"]
    assert str(world) not in json.dumps(facts) and set(facts) == {"arm", "hand", "model"}
