"""A deterministic encoder for tests: features from pixels and a hash of the text, no model.

Images that look alike and texts that share words get near vectors, so that everything downstream
has something to find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.models.device import Precision
from emt_core.models.prepared import Prepared
from emt_core.models.vlm.chat import TextMode, chat_messages

if TYPE_CHECKING:
    from PIL import Image

    from emt_core.data.sample import Sample

GRID = 4
WORD_BINS = 16


class FakeEncoder:
    preload: tuple[str, ...] = ()
    takes_text_only = True
    dim = GRID * GRID * 3 + WORD_BINS

    def prepare(self, sample: Sample, images: Sequence[Image.Image], text: TextMode) -> Prepared:
        pixels = np.zeros((GRID, GRID, 3), np.float32)
        for image in images:
            # BOX over integer-sized cells is exact and the same on every machine
            small = image.convert("RGB").resize((GRID, GRID), resample=4)
            pixels += np.asarray(small, np.float32) / 255 / len(images)
        words = [
            word
            for message in chat_messages(sample, len(images), text)
            for part in message.parts
            if part is not None  # IMAGE
            for word in part.lower().split()
        ]
        bins = np.zeros(WORD_BINS, np.float32)
        for word in words:
            # not hash(): that differs from process to process
            digest = hashlib.sha256(word.encode()).digest()
            bins[digest[0] % WORD_BINS] += 1 if digest[1] % 2 else -1
        bins /= max(len(words), 1) ** 0.5
        features = np.concatenate([pixels.ravel(), bins])
        return Prepared(length=len(words) + len(images), vision={"features": features})

    def load(self, device: str, precision: Precision) -> None:
        pass

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        return np.stack([item.vision["features"] for item in prepared])

    def describe(self) -> dict[str, Any]:
        return {"encoder": "fake", "dim": self.dim, "device": "cpu", "dtype": "float32"}
