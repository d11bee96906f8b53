"""What a recipe says about what the VLM keeps: question sets before and after (paper, Table 7)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import Frozen, StageConfig


class QuestionFile(Frozen):
    """A benchmark's own file, as it is distributed."""

    format: Literal["pope", "blink", "visulogic", "3dsrbench", "spatialeval"]
    """Which public layout it has (docs/training.md has them side by side)."""

    path: str
    """The file, or for `blink` and `spatialeval` also a folder of parquet files; relative to the
    recipe's base."""

    images: str = ""
    """Folder of the images that the file names, if they are not in it; relative to the base."""

    limit: int | None = Field(default=None, ge=1)
    """Only the first questions."""


class RetainConfig(StageConfig):
    model: str = ""
    """The origin: what was mid-trained. Default: the recipe's `backbone`."""

    revision: str | None = None
    """Hub revision of `model`."""

    demo: int = Field(default=100, ge=0)
    """Held-out questions of each kind that the demo's generators draw (0: none)."""

    demo_seed: int = 77
    """Seed of those questions; images of their split are in no training data."""

    files: dict[str, QuestionFile] = {}
    """Benchmark files, by the suite's name."""

    max_new_tokens: int = Field(default=32, ge=1)
    """Longest answer; greedy."""

    max_image_pixels: int = Field(default=768 * 768, ge=1024)
    """Larger images are scaled down to this by processors that keep an image's own size (Qwen)."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights and arithmetic. auto: bfloat16 on a GPU that has it, else float32."""

    @model_validator(mode="after")
    def _something_is_asked(self) -> RetainConfig:
        if not self.demo and not self.files:
            raise ValueError("no question is asked: give `demo` or `files`")
        if "demo" in self.files:
            raise ValueError("`demo` is the name of the generated suite: call the file otherwise")
        return self
