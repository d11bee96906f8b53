"""Distances from a sample, or similarity to words, of all rows of a feature store, in one pass.

Distances are computed from differences. The expanded square |u|^2 - 2uv + |v|^2 would lose its
digits among near duplicates, where they matter. Small blocks stay in a core's cache from the cast
to the sum, so this costs less than reading the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from emt_core.data.features import Features, as_matrix
from emt_core.errors import EmtError
from emt_core.explore.reading import rank_order
from emt_core.workspace.artifact import Artifact

BLOCK_ROWS = 256
"""Rows per block: 1 MB of float32 at 1024 dimensions."""
SCAN_ROWS = 4096
"""Rows per read: 8 MB."""


def distances(features: Features, vector: np.ndarray) -> np.ndarray:
    """float32 [rows]: L2 distance of every row to `vector` [dim]; NaN where a row has no vector."""
    query = np.asarray(vector, np.float32)
    found = np.empty(features.rows, np.float32)
    at = 0
    for batch in features.table.scan(["vector", "status"], batch_rows=SCAN_ROWS):
        vectors = as_matrix(batch.column(0))
        squared = found[at : at + len(vectors)]
        for first in range(0, len(vectors), BLOCK_ROWS):
            block = vectors[first : first + BLOCK_ROWS].astype(np.float32)
            block -= query
            np.einsum("nd,nd->n", block, block, out=squared[first : first + BLOCK_ROWS])
        ok = np.asarray(pc.equal(batch.column(1), ""))  # pyright: ignore[reportAttributeAccessIssue]
        squared[~ok] = np.nan
        at += len(vectors)
    return np.sqrt(found, out=found)


def similarities(features: Features, direction: np.ndarray) -> np.ndarray:
    """float32 [rows]: dot product of every row with `direction` [dim]; NaN where a row has no vector."""
    from emt_core.proximity.stream import stream_logits

    found = np.empty(features.rows, np.float32)
    for start, part in stream_logits(features, direction, 0.0):
        found[start : start + len(part)] = part
    return found


def ranked(values: np.ndarray, *, largest: bool) -> np.ndarray:
    """int64: rows with a finite value, nearest first, ties by row.

    values: float32 [rows]. largest: the largest value is the nearest.
    """
    return rank_order(values if largest else -values)


def clip_features(done: Mapping[str, Artifact], sources: Artifact) -> Artifact | None:
    """The newest finished CLIP features of this index, or None."""
    embeds = [artifact for artifact in done.values() if artifact.stage == "embed"]
    clip = [
        artifact
        for artifact in embeds
        if artifact.config.get("encoder") == "clip"
        and artifact.manifest["parents"].get("sources") == sources.key
    ]
    return max(clip, key=lambda artifact: artifact.manifest["finished"], default=None)


class WordSearch:
    """Search by meaning, with the text tower of the CLIP model that made the features."""

    def __init__(self, embed: Artifact) -> None:
        """Raises EmtError where the features are not CLIP's, or its weights are missing or changed."""
        from emt_core.models.encoders.clip import ClipEncoder, clip_identity

        config, base = embed.config, Path(embed.manifest["base"])
        if config.get("encoder") != "clip":
            raise EmtError("search by meaning needs CLIP features", where=embed.path)
        if clip_identity(config["model"], base) != embed.manifest["identity"]:
            raise EmtError(
                "the CLIP weights are not the ones that made the features",
                where=config["model"],
                remedy="restore the model that embed used, or run embed again",
            )
        self._tower = ClipEncoder(config["model"], base)
        self._tower.load("cpu", "float32")
        self._features = Features.at(embed.data / "features.lance")

    def cosines(self, words: str) -> np.ndarray:
        """float32 [rows]: cosine between the words and each row's images; NaN where a row has no vector."""
        return similarities(self._features, self._tower.encode_text([words])[0])
