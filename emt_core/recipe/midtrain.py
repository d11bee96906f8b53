"""What a recipe says about mid-training the VLM (method section 8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from emt_core.errors import EmtError
from emt_core.recipe.base import MAX_IMAGE_PIXELS
from emt_core.recipe.update import Part, UpdateConfig

Beta = Annotated[float, Field(ge=0, lt=1)]


class MidtrainConfig(UpdateConfig):
    """Trains on a selection. The arms `random` and `all` are selections (select.strategy); the arm
    `none` has no mid-training at all: its finetune says `start: backbone`."""

    ADDED = frozenset(
        {"warmup_steps", "rate_factors", "min_rate", "betas", "update", "lora_alpha"}
        | {"vision_share", "language_share", "interpolate", "replay", "replay_from", "l2_sp"}
        | {"attn_implementation", "packing"}
    )

    model: str = ""
    """Hub name or folder of the VLM. Default: the recipe's `backbone`."""

    revision: str | None = None
    """Hub revision of `model`; None takes the newest and records which commit that was."""

    steps: int = Field(default=5_000, ge=1)
    """Optimiser steps (paper)."""

    batch: int = Field(default=256, ge=1)
    """Samples a step, on all devices, in all passes (paper: 32 a device, accumulation 2)."""

    cutoff: int = Field(default=1024, ge=16)
    """Longest sequence, tokens (paper). Text beyond it is cut at the end, image tokens never."""

    packing: bool = False
    """Samples share rows of up to `cutoff` tokens, each as if it were alone: the same losses with
    less padding. `runtime.batch` then counts rows. InternVL and Qwen3-VL models."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """AdamW's peak rate (paper)."""

    rate_factors: dict[Part, Annotated[float, Field(gt=0)]] = {}
    """Learning rates of parts as multiples of `learning_rate`: `{vision: 0.1, projector: 2}`. 1 for
    parts not named (paper: all alike)."""

    min_rate: float = Field(default=0.0, ge=0)
    """Where the cosine ends, at most `learning_rate`; 0: at zero (paper)."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's; transformers' and LLaMA-Factory's defaults, the paper gives none."""

    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a linear warm-up; then half a cosine to zero (paper)
    or `min_rate`."""

    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps of warm-up, instead of `warmup_ratio`."""

    weight_decay: float = Field(default=0.0, ge=0)
    """On matrices only. LLaMA-Factory's default; the paper gives none."""

    clip_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm (LLaMA-Factory's default)."""

    max_images: int = Field(default=4, ge=1)
    """Samples with more images are rejected as `too_many_images`."""

    max_tiles: int = Field(default=1, ge=1)
    """Tiles an image is cut into at the most by processors that tile (InternVL)."""

    max_image_pixels: int = Field(default=MAX_IMAGE_PIXELS, ge=1024)
    """Larger images are scaled down to this by processors that keep an image's own size (Qwen)."""

    replay: float = Field(default=0.0, ge=0, lt=1)
    """Share of each batch that is general samples instead of the selection's. 0: none (paper)."""

    replay_from: str = ""
    """Which samples `replay` takes: those of `select.NAME`. Empty: a uniform draw of the pool rows
    that this selection leaves out and could have taken."""

    l2_sp: float = Field(default=0.0, ge=0)
    """Pull toward the origin: this / 2 times the squared distance of the trained weights from it is
    added to the loss (L2-SP, arXiv 1802.01483). 0: none (paper). Not with `update: lora`."""

    interpolate: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Weights kept beside the result, each a plain VLM: (1 - alpha) origin + alpha result for each
    alpha (WiSE-FT, arXiv 2109.01903). `finetune.interpolate: 0.5` starts from one of them."""

    seed: int = 0

    @model_validator(mode="after")
    def _consistent_rates(self) -> MidtrainConfig:
        if self.min_rate > self.learning_rate:
            raise ValueError(
                f"min_rate {self.min_rate} is above learning_rate {self.learning_rate}"
            )
        if unused := sorted(set(self.rate_factors) - self.trained_parts):
            raise ValueError(f"rate_factors names a frozen part: {', '.join(unused)}")
        return self

    @model_validator(mode="after")
    def _consistent_ties(self) -> MidtrainConfig:
        if self.replay_from and not self.replay:
            raise ValueError("replay_from goes with a `replay` above 0")
        if self.l2_sp and self.update == "lora":
            raise ValueError("l2_sp holds the VLM's own weights near: LoRA's additions have none")
        return self

    def further(self) -> tuple[str, ...]:
        return (f"select.{self.replay_from}",) if self.replay_from else ()

    def model_folder(self, alpha: float, *, stage: str) -> str:
        """Folder, in the artifact's data, of the weights that `stage.interpolate` names.

        Raises EmtError where they are not kept.
        """
        if alpha != 1 and alpha not in self.interpolate:
            kept = ", ".join(f"{one:g}" for one in self.interpolate) or "none"
            raise EmtError(
                f"mid-training keeps no weights at {alpha:g} of the way (kept: {kept})",
                where=f"{stage}.interpolate",
                remedy=f"add {alpha:g} to midtrain.interpolate, or take 1, the result",
            )
        return interpolated_folder(alpha)


def interpolated_folder(alpha: float) -> str:
    """Folder of these weights in a midtrain artifact's data; 1 is the result of training."""
    return "model" if alpha == 1 else f"interpolated/{alpha:g}"
