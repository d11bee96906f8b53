"""Fine-tuning on two real CPU ranks with the policy spread over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finetune_runs import STEPS, recipe_of, run, weights_of, write_world
from two_ranks import torchrun

from emt_core.training.checkpoints import Checkpoints
from emt_core.training.policy.policy import Policy
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace

pytestmark = pytest.mark.slow

LORA = {"update": "lora", "lora_rank": 2, "vision_share": 0.5, "ema": 0.5}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def sharded(world: Path, workspace: Path, stop_at: int, **changes: object) -> tuple[int, str]:
    """(exit code, what it printed as errors) of two ranks; they end before step `stop_at`."""
    raw = recipe_of(world, batch_size=3, **changes)
    raw["runtime"]["sharding"] = "fsdp"
    recipe = workspace / "vla.yaml"
    recipe.parent.mkdir(exist_ok=True)
    recipe.write_text(yaml.safe_dump(raw))
    command = ("-m", "sharded_ranks", "run", str(recipe), "-w", str(workspace))
    done = torchrun(*command, STOP_AT=str(stop_at))
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", [{}, LORA], ids=["full", "lora and average"])
def test_two_sharded_ranks_stopped_and_resumed_end_with_the_policy_of_one(
    world: Path, tmp_path: Path, options: dict[str, Any]
):
    """Every parameter is spread, an odd batch leaves one rank a frame short, a checkpoint resumes.

    Rounding: losses and norms to 1 in 1,000, what each weight moved to 5 %.
    """
    gently = {"batch": 7, "learning_rate": 1e-4, **options}
    one = run(recipe_of(world, **gently), tmp_path / "one")
    shared = tmp_path / "two"
    code, said = sharded(world, shared, 5, **gently)
    assert code and "exitcode  : 9" in said, said[-3000:]
    (building,) = (shared / "finetune").rglob("checkpoints")
    assert [item.step for item in Checkpoints(building).all()] == [3, 4]
    code, said = sharded(world, shared, 0, **gently)
    assert code == 0, said[-3000:]
    two = Workspace.open(shared).find("finetune", one.key)
    assert two is not None
    same_training(one, two)
    start = weights_of(
        run(recipe_of(world, **gently | {"steps": 1, "keep": []}), tmp_path / "s"), 1
    )
    for step in (3, STEPS):
        expected = weights_of(one, step)
        for name, value in weights_of(two, step).items():
            moved = (expected[name] - start[name]).norm()
            assert (value - expected[name]).norm() <= 0.05 * moved + 1e-7, (step, name)
    policy = Policy.load(two.data / "policies" / f"step-{STEPS}", device="cpu")
    assert all(torch.isfinite(p).all() for p in policy.vla.parameters())


def same_training(one: Artifact, two: Artifact) -> None:
    ours, theirs = (list(iterate_steps(made.data / "steps.jsonl")) for made in (two, one))
    assert [r["tokens"] for r in ours] == [r["tokens"] for r in theirs]
    for name in ("loss", "loss_arm", "loss_gripper", "grad_norm"):
        assert [r[name] for r in ours] == pytest.approx([r[name] for r in theirs], rel=1e-3), name
