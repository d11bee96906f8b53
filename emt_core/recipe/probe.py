"""What a recipe says about probing a VLM: what its frozen features tell of robot data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emt_core.recipe.kept_weights import KeptWeights
from emt_core.recipe.sources import RobotData


class ProbeConfig(KeptWeights):
    """Asks the weights that `finetune` would start from, in minutes and without training them."""

    ADDED = frozenset({"midtrain_step"})

    start: Literal["midtrain", "backbone"] = "midtrain"
    """`midtrain`: the mid-trained VLM. `backbone`: `model` as it is, the reference (arm `none`)."""

    model: str = ""
    """The origin: hub name or folder of the VLM. Default: the recipe's `backbone`."""

    revision: str | None = None
    """Hub revision of `model`."""

    data: tuple[RobotData, ...] = ()
    """Robot sets whose episodes the probes learn from and are tested on: those of fine-tuning. ():
    the `demos` stage."""

    unseen: tuple[RobotData, ...] = ()
    """Robot sets of other tasks, with the same actions: no probe learns from them, all are tested
    on them."""

    columns: tuple[str, ...] = Field(default=("action",), min_length=1)
    """Columns that make up an action, side by side."""

    hand: tuple[str, ...] = ("observation.state",)
    """Columns with the robot's own position. (): not asked."""

    objects: tuple[str, ...] = ("observation.environment_state",)
    """Columns with positions of objects, as simulators write them. Not asked where the first of
    `data` has none of them."""

    chunk: int = Field(default=10, ge=1)
    """Actions from a frame on that are predicted at once, as in `finetune`."""

    system: str = "You are a helpful assistant."
    """System message, as in `finetune`."""

    prompt: str = "What action should the robotic arm take to {instruction}"
    """User message after the image, as in `finetune`; {instruction} is the frame's."""

    cutoff: int = Field(default=1024, ge=16)
    """Longest prompt in tokens, as in `finetune`."""

    image_size: int = Field(default=224, ge=16, le=1024)
    """Frames become a square of this size, as in `finetune`."""

    episodes: int = Field(default=200, ge=10)
    """Episodes of `data` that are asked at the most, and as many of `unseen`; drawn by `seed`."""

    frames_per_episode: int = Field(default=8, ge=1)
    """Frames of an episode, evenly spaced; the last ones have to leave room for a chunk."""

    folds: int = Field(default=5, ge=2)
    """Each episode of `data` is tested once, by a probe that learned from the other folds."""

    hidden: tuple[int, ...] = (128,)
    """Hidden layers of the MLP probe."""

    seeds: int = Field(default=3, ge=1)
    """Trainings of each MLP probe. A linear probe has one solution."""

    most_tasks: int = Field(default=50, ge=2)
    """Tasks that are told apart: the most frequent ones."""

    drift_samples: int = Field(default=256, ge=0, le=4_096)
    """start midtrain: samples each of robot, selected and general pictures that origin and
    mid-trained model are shown. 0: no drift is measured."""

    neighbors: int = Field(default=10, ge=1)
    """Nearest others of a sample that both models should agree on."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights and arithmetic of the VLM. auto: bfloat16 on a GPU that has it, else float32."""

    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> ProbeConfig:
        if "{instruction}" not in self.prompt:
            raise ValueError("prompt has to hold {instruction}")
        if self.names_kept_weights and self.start == "backbone":
            raise ValueError("interpolate and midtrain_step go with `start: midtrain`")
        names = [data.name for data in (*self.data, *self.unseen)]
        if len(set(names)) < len(names):
            raise ValueError("two data sets have the same name")
        return self

    def uses(self) -> tuple[str, ...]:
        parents = ("midtrain",) if self.start == "midtrain" else ()
        return parents if self.data else (*parents, "demos")
