"""What lies near a sample or near words, over all rows of a feature store, in one streaming pass.

Distances are worked out as differences, not through the expanded square: that would lose its digits exactly where it
matters, among near duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emt_core.artifact import Artifact
from emt_core.errors import EmtError
from emt_core.store import Features

BLOCK_ROWS = 512
"""Rows worked on at once: 2 MB of float32 at 1024 dimensions."""


def distances(features: Features, vector: np.ndarray) -> np.ndarray:
    """float32 [rows]: L2 distance of every row to `vector` [dim]; NaN where a row has no vector."""
    import torch

    query = torch.from_numpy(np.array(vector, np.float32))
    found = np.empty(features.rows, np.float32)
    for start, batch in features.batches():
        rows = torch.from_numpy(np.array(batch))  # a copy: the read buffer is not writable
        for at in range(0, len(rows), BLOCK_ROWS):
            block = rows[at : at + BLOCK_ROWS].float()
            block -= query
            found[start + at : start + at + len(block)] = torch.linalg.vector_norm(block, dim=1).numpy()
    found[~features.ok()] = np.nan
    return found


def similarities(features: Features, direction: np.ndarray) -> np.ndarray:
    """float32 [rows]: dot product of every row with `direction` [dim]; NaN where a row has no vector."""
    from emt_core.scoring import stream_logits

    found = np.empty(features.rows, np.float32)
    for start, part in stream_logits(features, direction, 0.0):
        found[start : start + len(part)] = part
    return found


def ranked(values: np.ndarray, *, largest: bool) -> np.ndarray:
    """int64: rows with a finite value, nearest first (`largest`: the largest value is the nearest), ties by row."""
    rows = np.flatnonzero(np.isfinite(values))
    return rows[np.argsort(-values[rows] if largest else values[rows], kind="stable")]


def clip_features(done: Mapping[str, Artifact], sources: Artifact) -> Artifact | None:
    """The newest finished CLIP features of this index, or None."""
    found = [
        artifact
        for artifact in done.values()
        if artifact.stage == "embed"
        and artifact.config.get("encoder") == "clip"
        and artifact.manifest["parents"].get("sources") == sources.key
    ]
    return max(found, key=lambda artifact: artifact.manifest["finished"], default=None)


class WordSearch:
    """Words -> samples whose image CLIP finds alike. Holds the text tower of the very model that made the features."""

    def __init__(self, embed: Artifact) -> None:
        """Raises EmtError where the features are not CLIP's, or the weights are gone or changed since."""
        from emt_core.encoders.clip import ClipEncoder, clip_identity

        config, base = embed.config, Path(embed.manifest["base"])
        if config.get("encoder") != "clip":
            raise EmtError("search by meaning needs CLIP features", where=embed.path)
        if clip_identity(config["model"], base) != embed.manifest["identity"]:
            raise EmtError(
                "the CLIP weights are not those that made the features",
                where=config["model"],
                remedy="restore the model that embed used, or run embed again",
            )
        self._tower = ClipEncoder(config["model"], base)
        self._tower.load("cpu", "float32")
        self._features = Features.at(embed.data / "features.lance")

    def cosines(self, words: str) -> np.ndarray:
        """float32 [rows]: cosine between the words and each row's images; NaN where a row has no vector."""
        return similarities(self._features, self._tower.encode_text([words])[0])
