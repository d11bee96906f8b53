"""CLIP score: the cosine of a sample's image and conversation (DataComp's filter, Gadre 2023).

It knows nothing of robots: it asks whether the words belong to the picture. It is a baseline of
data *quality*, to tell what nearness to robots adds. Several images count as the direction of their
mean. NaN for a row without an image, or whose image cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.index import SourceRange
from emt_core.data.sample import Sample
from emt_core.models.prepared import Prepared, Refused
from emt_core.proximity.base import Inputs, ScoresOf
from emt_core.proximity.windows import score_windows
from emt_core.recipe.proximity import ClipMeasure

if TYPE_CHECKING:
    from PIL import Image

LOGIT = False


def fit(config: ClipMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Learns nothing; raises EmtError before anything is scored where the model is unknown."""
    from emt_core.models.encoders.clip import parse_clip_name

    parse_clip_name(config.model, inputs.base)
    return {}


def scorer(config: ClipMeasure, inputs: Inputs, fitted: Path) -> ScoresOf:
    from emt_core.models.encoders.clip import ClipEncoder

    encoder = ClipEncoder(config.model, inputs.base)
    encoder.load(inputs.runtime.device, inputs.precision)

    def prepare(
        source: SourceRange, sample: Sample, images: list[Image.Image]
    ) -> tuple[Prepared, str]:
        if not images:
            raise Refused("text_only")
        return encoder.prepare(sample, images, "none"), words(sample)

    def cosines(items: Sequence[tuple[Prepared, str]]) -> np.ndarray:
        seen = encoder.encode([prepared for prepared, _ in items])
        return np.einsum("nd,nd->n", seen, encoder.encode_text([text for _, text in items]))

    return partial(score_windows, inputs, prepare, cosines, max_images=config.max_images, cutoff=77)


def words(sample: Sample) -> str:
    """The conversation without image placeholders; CLIP's tokenizer cuts it at its own length."""
    return " ".join(turn.text.replace("<image>", " ").strip() for turn in sample.turns).strip()
