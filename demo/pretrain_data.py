"""Pre-training data of the tiny VLM on disk: shards of drawn images with all their questions.

    <root>/shard-00012/images.npy       uint8 [images, 112, 112, 3]
    <root>/shard-00012/questions.jsonl  one line an image:
        {"questions": [[kind, question, answer], ...], "marks": [[label, x, y], ...]}

A shard is drawn from its own number, built aside and renamed, so that several processes can draw at
once and a killed one leaves nothing half-written. Drawing costs about 2 ms an image: it runs ahead
of the training in a process of its own, and the training reads memory-mapped pixels.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from demo.general import FAMILIES, draw
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

SHARD_IMAGES = 4000
MIXTURE = {"things": 0.36, "scenes": 0.20, "documents": 0.29, "charts": 0.15}
"""Share of images per family. Reading and pointing are the hardest to learn and get the most."""

assert set(MIXTURE) == set(FAMILIES)


def _compressed(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Most of the demo's images are stored with loss: the model meets those artifacts here."""
    if rng.random() < 0.4:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(65, 96)))
    return Image.open(buffer).convert("RGB")


def draw_shard(root: Path, number: int, seed: int) -> Path:
    """Draw shard `number` (training split only) unless it is there; returns its folder."""
    folder = root / f"shard-{number:05d}"
    if folder.is_dir():
        return folder
    rng = np.random.default_rng([seed, number])
    families = rng.choice(list(MIXTURE), size=SHARD_IMAGES, p=list(MIXTURE.values()))
    images = np.empty((SHARD_IMAGES, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    lines = []
    for i, family in enumerate(families):
        samples = draw(str(family), seed, number * SHARD_IMAGES + i, "train")
        images[i] = np.asarray(_compressed(rng, samples[0].image))
        lines.append(
            json.dumps(
                {
                    "questions": [[s.kind, s.question, s.answer] for s in samples],
                    "marks": samples[0].meta["marks"],
                }
            )
        )
    aside = root / f".shard-{number:05d}-{os.getpid()}"
    aside.mkdir(parents=True)
    np.save(aside / "images.npy", images)
    (aside / "questions.jsonl").write_text("\n".join(lines) + "\n")
    aside.rename(folder)
    return folder


def read_shard(folder: Path) -> tuple[np.ndarray, list[dict]]:
    """Memory-mapped images (uint8 [n, 112, 112, 3]) and the questions and marks of each."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    return images, questions
