"""What a recipe says about what the VLM keeps through mid-training (Table 7 of the paper)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import MAX_IMAGE_PIXELS, Frozen, StageConfig
from emt_core.recipe.shipped import ROOT


class QuestionFile(Frozen):
    """A file of questions: a benchmark's own, as it is distributed, or one in our own layout."""

    format: Literal["pope", "blink", "visulogic", "3dsrbench", "spatialeval", "own"]
    """Which layout it has (docs/training.md has them side by side)."""

    path: str
    """The file, or for `blink`, `spatialeval` and `own` also a folder of parquet files; relative to
    the recipe's base."""

    images: str = ""
    """Folder of the images that the file names, if they are not in it; relative to the base."""

    limit: int | None = Field(default=None, ge=1)
    """Only the first questions."""


DEMO_QUESTIONS = f"files: {{demo: {{format: own, path: {ROOT / 'assets/demo/questions.parquet'}}}}}"
"""What a recipe says to ask the questions that come with the demo."""


class RetainConfig(StageConfig):
    ADDED = frozenset({"interpolate"})

    model: str = ""
    """The origin: what was mid-trained. Default: the recipe's `backbone`."""

    revision: str | None = None
    """Hub revision of `model`."""

    interpolate: float = Field(default=1.0, gt=0, le=1)
    """Which weights are asked beside the origin: one of `midtrain.interpolate`; 1: the result."""

    files: dict[str, QuestionFile] = {}
    """Files of questions, by the suite's name."""

    max_new_tokens: int = Field(default=32, ge=1)
    """Longest answer; greedy."""

    max_image_pixels: int = Field(default=MAX_IMAGE_PIXELS, ge=1024)
    """Larger images are scaled down to this by processors that keep an image's own size (Qwen)."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights and arithmetic. auto: bfloat16 on a GPU that has it, and
    for models of 100 million parameters or more on a CPU that has it, else float32."""

    @model_validator(mode="before")
    @classmethod
    def _no_drawn_questions(cls, settings: Any) -> Any:
        old = [
            key for key in ("demo", "demo_seed") if isinstance(settings, dict) and key in settings
        ]
        if old:
            raise ValueError(
                f"nothing is drawn any more: leave {' and '.join(old)} out. "
                f"The demo's questions are a file now, {DEMO_QUESTIONS}"
            )
        return settings

    @model_validator(mode="after")
    def _something_is_asked(self) -> RetainConfig:
        if not self.files:
            raise ValueError(
                "no question is asked: name files of questions, such as the demo's, "
                f"{DEMO_QUESTIONS}"
            )
        return self
