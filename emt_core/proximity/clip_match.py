"""CLIP image-text score: the cosine of image and conversation under a CLIP model (DataComp's filter, Gadre 2023).

It knows nothing of robots: it asks whether the words belong to the picture. A baseline of data *quality*, so that what
nearness adds can be told. NaN for a row without an image or whose image cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.encoders.base import ImageRefused
from emt_core.encoders.reuse import source_config
from emt_core.index import SourceRange
from emt_core.measure_config import MeasureConfig
from emt_core.proximity.base import Inputs
from emt_core.proximity.windows import score_windows
from emt_core.sample import Sample

LOGIT = False


def fit(config: MeasureConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Nothing to learn; the model is looked for now, before anything is scored."""
    from emt_core.encoders.clip import parse_clip_name

    parse_clip_name(config.model, inputs.base)
    return {}


def scores(config: MeasureConfig, inputs: Inputs, fitted: Path, start: int) -> Iterator[tuple[int, np.ndarray]]:
    from emt_core.encoders.clip import ClipEncoder
    from emt_core.images import ImageProblem, open_images

    encoder = ClipEncoder(config.model, inputs.base)
    encoder.load(inputs.runtime.device, "auto")

    def score(source: SourceRange, samples: Sequence[Sample]) -> np.ndarray:
        bound = source_config(inputs.index, source)["max_pixels"]
        found = np.full(len(samples), np.nan, np.float32)
        good, prepared = [], []
        for place, sample in enumerate(samples):
            images: list[Any] = open_images(sample.images[: config.max_images], source.root, bound)
            if not images or any(isinstance(image, ImageProblem) for image in images):
                continue
            try:
                prepared.append(encoder.prepare(sample, images, "none"))
            except ImageRefused:
                continue
            good.append(place)
        if good:
            texts = encoder.encode_text([words(samples[place]) for place in good])
            found[good] = np.einsum("nd,nd->n", encoder.encode(prepared), texts)
        return found

    return score_windows(
        inputs.index,
        score,
        start=start,
        batch_size=inputs.runtime.batch_size,
        max_images=config.max_images,
        max_text_tokens=77,
    )


def words(sample: Sample) -> str:
    """The conversation without image placeholders; CLIP's tokenizer cuts it at its own context length."""
    return " ".join(turn.text.replace("<image>", " ").strip() for turn in sample.turns).strip()
