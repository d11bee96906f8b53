"""What a recipe says about the VLA: mapping actions, the head, fine-tuning (method section 9).

Where a default departs from the paper or from VLM4VLA's public configurations, the field says so;
docs/vla.md has the two beside each other.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import Frozen
from emt_core.recipe.sources import RobotData
from emt_core.recipe.update import UpdateConfig

Dimension = str | int


class ActionConfig(Frozen):
    """Which recorded dimensions the heads predict, in which scale; saved with the policy."""

    columns: tuple[str, ...] = Field(default=("action",), min_length=1)
    """Features of the data set that make up its action, side by side. A dimension is called by its
    name in the set's files, by `column/name` where two columns share one, or by its number."""

    arm: tuple[Dimension, ...] = ()
    """Dimensions of the continuous branch, any number (paper: 6). () takes all that neither
    `gripper` nor `unused` names."""

    gripper: tuple[Dimension, ...] = ()
    """Dimensions of the gripper branch, none or more."""

    unused: tuple[Dimension, ...] = ()
    """Dimensions that nothing predicts: an executed action has their mean. A dimension left out of
    all three lists is an error."""

    kind: Literal["recorded", "delta"] = "recorded"
    """`recorded`: arm actions as the data set has them, absolute or relative. `delta`: arm actions
    minus `reference` at the chunk's first frame; the caller of the policy then has to give that
    reference."""

    reference: tuple[Dimension, ...] = ()
    """kind delta: for each arm dimension, one of `reference_column` to measure it from."""

    reference_column: str = "observation.state"
    """kind delta: feature that the reference is taken from."""

    scale: Literal["q01_q99", "min_max", "clip"] = "q01_q99"
    """What becomes [-1, 1]: 1st to 99th percentile (VLM4VLA on Bridge and LIBERO), the range, or
    +-`clip` (VLM4VLA on CALVIN: 0.65). Values beyond are clipped."""

    clip: float = Field(default=0.65, gt=0)
    """Half the range of scale `clip`, in the data set's unit."""

    gripper_kind: Literal["binary", "continuous"] = "binary"
    """`binary`: by threshold, cross-entropy (paper). `continuous`: scaled as the arm, Huber."""

    gripper_threshold: float = 0.5
    """kind binary: recorded values above this are class 1. What is executed for a class is the mean
    of its values."""

    @model_validator(mode="after")
    def _reference(self) -> ActionConfig:
        if self.kind == "delta" and (not self.arm or len(self.reference) != len(self.arm)):
            raise ValueError(
                "kind 'delta' needs `arm` and, for each of its dimensions, one of `reference`"
            )
        return self


class HeadConfig(Frozen):
    """Widths of the action head (VLM4VLA); smaller only for tiny models."""

    latent: int = Field(default=1024, ge=1)
    """Width of the control feature: trunk H -> H/2 -> ReLU -> latent."""

    widths: tuple[int, ...] = (1024, 512, 256)
    """Hidden layers of the arm branch and of the gripper branch."""


class AugmentConfig(Frozen):
    """Changes of training images. When the policy acts, `crop` takes the centre."""

    shift: int = Field(default=0, ge=0)
    """Random shift by up to so many pixels of image_size, edges repeated (VLM4VLA, CALVIN: 10)."""

    crop: float = Field(default=1.0, gt=0.2, le=1)
    """Area share of a random square crop, scaled back; acting: the center (Bridge, LIBERO: 0.9)."""

    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Colour jitter: random factor within 1 +- this (Bridge, LIBERO: 0.2)."""

    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Colour jitter: the same for contrast (0.2)."""

    saturation: float = Field(default=0.0, ge=0, lt=1)
    """Colour jitter: the same for saturation (0.2)."""


class FinetuneConfig(UpdateConfig):
    """Of `update` and `freeze`: the query and the action head are trained in any case."""

    ADDED = frozenset(
        {"warmup_ratio", "interpolate", "update", "lora_rank", "lora_alpha", "vision_share"}
        | {"language_share", "freeze", "optimizer", "attn_implementation", "ema"}
    )
    TRAINS_A_HEAD = True

    start: Literal["midtrain", "backbone"] = "midtrain"
    """`midtrain`: the mid-trained VLM. `backbone`: `model` as it is (the arm `none`)."""

    interpolate: float = Field(default=1.0, gt=0, le=1)
    """start midtrain: how far from the origin to the result, one of `midtrain.interpolate`; 1: the
    result."""

    model: str = ""
    """start backbone: hub name or folder of the VLM. Default: the recipe's `backbone`."""

    revision: str | None = None
    """Hub revision of `model`; None takes the newest and records which commit that was."""

    data: tuple[RobotData, ...] = ()
    """Robot data sets with the same actions. (): the `demos` stage."""

    action: ActionConfig = ActionConfig()
    """How recorded actions become targets."""

    chunk: int = Field(default=10, ge=1)
    """Actions predicted at once (paper: 10 on CALVIN, 4 on Bridge and LIBERO-10)."""

    head: HeadConfig = HeadConfig()
    """Widths of the action head."""

    gripper_weight: float = Field(default=0.01, ge=0)
    """Weight of the binary gripper's cross-entropy beside the arm's Huber loss (VLM4VLA). A
    continuous gripper's Huber loss has weight 1."""

    system: str = "You are a helpful assistant."
    """System message (VLM4VLA). "": none."""

    prompt: str = "What action should the robotic arm take to {instruction}"
    """User message after the image (VLM4VLA); {instruction} is the frame's."""

    cutoff: int = Field(default=1024, ge=16)
    """Longest prompt in tokens, image included. A longer instruction is cut at the end, image
    tokens never are. An image of a VLM takes 49 (Qwen3-VL at 224 px) to 258 (InternVL) of them."""

    image_size: int = Field(default=224, ge=16, le=1024)
    """Frames become a square of this size (VLM4VLA), then the backbone's own size."""

    augment: AugmentConfig = AugmentConfig()
    """Changes of training images."""

    steps: int = Field(default=16_000, ge=1)
    """Optimiser steps (paper)."""

    batch: int = Field(default=256, ge=1)
    """Frames a step, over all devices and accumulated passes (paper)."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """AdamW's peak rate (paper)."""

    warmup_ratio: float = Field(default=500 / 16_000, ge=0, le=1)
    """Share of the steps with a linear warm-up (paper: 500 of 16,000)."""

    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps of warm-up, instead of `warmup_ratio`; then cosine to zero (paper)."""

    weight_decay: float = Field(default=0.0, ge=0)
    """VLM4VLA: 0. Norms, biases and the query never decay."""

    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of gradients (VLM4VLA); the query's apart from all others' (docs/vla.md)."""

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the exponential moving average of the trained weights, e.g. 0.999; less in the first
    steps. The policies that are kept, served and evaluated hold the average. None: the weights as
    they are (paper)."""

    keep: tuple[int, ...] = ()
    """Steps whose policy is kept, for success over training; the last one always is."""

    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> FinetuneConfig:
        if "{instruction}" not in self.prompt:
            raise ValueError("prompt has to hold {instruction}")
        beyond = [step for step in self.keep if not 1 <= step <= self.steps]
        if beyond:
            raise ValueError(f"keep names steps {beyond}, training has 1 to {self.steps}")
        if self.interpolate != 1 and self.start == "backbone":
            raise ValueError("interpolate goes with `start: midtrain`")
        names = [data.name for data in self.data]
        if len(set(names)) < len(names):
            raise ValueError("two data sets have the same name")
        return self

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Rising, the last step included."""
        return tuple(sorted({*self.keep, self.steps}))

    def uses(self) -> tuple[str, ...]:
        parents = ("midtrain",) if self.start == "midtrain" else ()
        return parents if self.data else (*parents, "demos")
