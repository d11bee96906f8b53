"""The category that an image looks like, zero-shot: CLIP image features against text prompts.

Radford et al. 2021 (arXiv 2103.00020), section 3.1.4: prompts of one class are averaged after
scaling to length 1. Pixels cannot tell a spatial question from a caption request, so only four
categories have a look: text, chart, robot, and an everyday photo, which counts as `vqa`. Too close
to call is `unsure`.

Not measured here: no trained CLIP weights are at hand where this is built, so MARGIN is an argued
choice and only the mechanics are tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Artifact

PROMPTS: Mapping[str, tuple[str, ...]] = {
    "text": (
        "a scanned document",
        "a photo of a book cover with a title",
        "a photo of a sign with writing on it",
        "a screenshot full of text",
        "a receipt",
    ),
    "chart": (
        "a bar chart",
        "a line graph with labelled axes",
        "a pie chart",
        "a table of numbers",
        "an infographic with statistics",
    ),
    "robot": (
        "a robot arm over a table",
        "a robot gripper reaching for an object",
        "the view of a robot's wrist camera",
        "a simulated robot arm in a kitchen",
    ),
    "vqa": (
        "a photo of people",
        "a photo of a street",
        "a photo of an animal",
        "a photo of food",
        "a photo of a room",
        "a photo of an object",
        "a landscape photo",
        "a drawing of a scene",
    ),
}
IMAGE_CATEGORIES = tuple(PROMPTS)

MARGIN = 0.01
"""Least lead of the best category in cosine: CLIP's logit scale is 100, so 0.01 is odds of e to 1
in its own terms."""


class TextTower(Protocol):
    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, dim], length 1."""
        ...


@dataclass(frozen=True)
class ZeroShot:
    """Class directions, float32 [categories, dim], length 1, in the order of IMAGE_CATEGORIES."""

    directions: np.ndarray
    margin: float = MARGIN

    @classmethod
    def of(cls, tower: TextTower, *, margin: float = MARGIN) -> ZeroShot:
        means = [tower.encode_text(prompts).mean(axis=0) for prompts in PROMPTS.values()]
        return cls(
            np.stack([mean / np.linalg.norm(mean) for mean in means]).astype(np.float32), margin
        )

    def label(self, vectors: np.ndarray) -> list[str]:
        """A category or `unsure` for each row of float [n, dim].

        Rows that are zero or not finite are `unsure`.
        """
        if vectors.shape[1] != self.directions.shape[1]:
            raise EmtError(
                f"features have {vectors.shape[1]} numbers, "
                f"the CLIP text tower gives {self.directions.shape[1]}",
                remedy="category.image_labels needs an embed instance of encoder clip",
            )
        features = vectors.astype(np.float32)
        norms = np.linalg.norm(features, axis=1)
        cosine = features @ self.directions.T / np.maximum(norms, 1e-12)[:, None]
        order = np.sort(cosine, axis=1)
        sure = (norms > 0) & np.isfinite(norms) & (order[:, -1] - order[:, -2] >= self.margin)
        return [
            IMAGE_CATEGORIES[best] if ok else "unsure"
            for best, ok in zip(cosine.argmax(axis=1), sure, strict=True)
        ]


def of_embed_artifact(embed: Artifact, *, device: str) -> ZeroShot:
    """The zero-shot classifier for the features of an embed artifact.

    It uses the text tower of the very model that made them. Raises EmtError where the artifact's
    encoder is not clip, or its weights are missing or have changed.
    """
    from emt_core.models.encoders.clip import ClipEncoder, clip_identity

    config = embed.manifest["config"]
    if config.get("encoder") != "clip":
        raise EmtError(
            "image categories need CLIP features, "
            f"this embed artifact was made by encoder {config.get('encoder')!r}",
            where=embed.path,
            remedy="give category an embed instance with encoder: clip as parent, "
            "or set image_labels: false",
        )
    base = Path(embed.manifest["base"])
    if clip_identity(config["model"], base) != embed.manifest["identity"]:
        raise EmtError(
            "the CLIP weights are not those that made the features",
            where=config["model"],
            remedy="restore the model that embed used, or run embed again",
        )
    encoder = ClipEncoder(config["model"], base)
    encoder.load(device, "float32")
    return ZeroShot.of(encoder)
