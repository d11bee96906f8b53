"""A fine-tuning of the tiny VLM on two small robot sets, and one call that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_world import write_robot
from tiny_models import save_internvl

from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.policy import finetuning
from emt_core.workspace.artifact import Artifact, Workspace

CAMERA = "observation.images.front"
STEPS = 6


def recipe_of(base: Path, *, batch_size: int = 8, **changes: Any) -> dict[str, Any]:
    finetune = {
        "start": "backbone",
        "data": [{"name": name, "path": name, "camera": CAMERA} for name in ("arm", "hand")],
        "action": {"gripper": ["grip"], "gripper_threshold": 0.0},
        "chunk": 3,
        "image_size": 56,
        "head": {"latent": 16, "widths": [16]},
        "augment": {"shift": 2, "crop": 0.9, "brightness": 0.1},
        "steps": STEPS,
        "batch": 8,
        "warmup_steps": 1,
        "learning_rate": 1e-3,
        "keep": [3],
    }
    return {
        "name": "vla",
        "base": str(base),
        "backbone": "vlm",
        "runtime": {"workers": 0, "batch": batch_size, "device": "cpu"},
        "finetune": finetune | changes,
    }


def run(raw: dict[str, Any], workspace: Path) -> Artifact:
    torch.set_num_threads(1)  # how a product is split decides its rounding
    return run_plan(
        make_plan(build_recipe(raw)), Workspace.open(workspace, create=True), quiet=True
    )["finetune"]


def weights_of(artifact: Artifact, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Of the policy of a step, by name."""
    folder = artifact.data / "policies" / f"step-{step}"
    return load_file(folder / "model.safetensors") | load_file(folder / "head.safetensors")


def write_world(folder: Path) -> Path:
    """The VLM and both robot sets that `recipe_of` names."""
    save_internvl(folder / "vlm")
    write_robot(folder / "arm", episodes=4, seed=0)
    write_robot(folder / "hand", episodes=3, seed=1)
    return folder


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Fine-tuning that keeps a checkpoint each step and is interrupted as this step begins."""
    taken = finetuning.Finetuner._step

    def interrupted(self: finetuning.Finetuner, number: int, *rest: Any) -> Any:
        if number == step:
            raise KeyboardInterrupt
        return taken(self, number, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(finetuning, "CHECKPOINT_SECONDS", 0.0)
        patched.setattr(finetuning.Finetuner, "_step", interrupted)
        yield
