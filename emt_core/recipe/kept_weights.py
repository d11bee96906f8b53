"""Which of mid-training's weights a later stage takes: the result, or others that were kept."""

from __future__ import annotations

from pydantic import Field, model_validator

from emt_core.recipe.base import StageConfig


class KeptWeights(StageConfig):
    interpolate: float = Field(default=1.0, gt=0, le=1)
    """start midtrain: how far from the origin to the result, one of `midtrain.interpolate`; 1: the
    result."""

    midtrain_step: int | None = Field(default=None, ge=1)
    """start midtrain: the weights after this step, one of `midtrain.keep_steps`; None: the
    result."""

    @model_validator(mode="after")
    def _one_of_them(self) -> KeptWeights:
        if self.interpolate != 1 and self.midtrain_step is not None:
            raise ValueError("interpolate and midtrain_step name different weights: give one")
        return self

    @property
    def names_kept_weights(self) -> bool:
        return self.interpolate != 1 or self.midtrain_step is not None

    @property
    def weights_folder(self) -> str:
        """Folder of these weights in a midtrain artifact's data."""
        if self.midtrain_step is not None:
            return step_folder(self.midtrain_step)
        return interpolated_folder(self.interpolate)


def interpolated_folder(alpha: float) -> str:
    """Folder of these weights in a midtrain artifact's data; 1 is the result of training."""
    return "model" if alpha == 1 else f"interpolated/{alpha:g}"


def step_folder(step: int) -> str:
    """Folder of the weights after a step in a midtrain artifact's data."""
    return f"steps/{step}"
