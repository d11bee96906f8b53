"""Reads of artifacts that all sessions share. Each takes artifacts and is cached by their folders.

A folder's name is the hash of all that made the artifact, so nothing cached can be stale.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st
from pyarrow import parquet as pq

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.explore import reading
from emt_core.explore.curation.flags import FlagBook, Flags
from emt_core.explore.tables.nearness import WordSearch, distances, ranked
from emt_core.proximity.neighbors import FeatureBank, robot_bank
from emt_core.selection import Preview
from emt_core.selection.scored_pool import candidates_of
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json
from emt_core.workspace.table import Coded

KEPT = 6
"""Artifacts of a stage of which a column stays in memory."""

HASH_FUNCS = {Artifact: lambda artifact: str(artifact.path)}
"""How a cache tells artifacts apart."""

shared = partial(st.cache_resource, show_spinner=False, hash_funcs=HASH_FUNCS)
"""`st.cache_resource` for functions of artifacts. What it returns must not be changed."""

copied = partial(st.cache_data, show_spinner=False, hash_funcs=HASH_FUNCS)
"""`st.cache_data` for functions of artifacts. Each call returns a copy."""


@shared(max_entries=KEPT)
def index(sources: Artifact) -> Index:
    return Index(sources)


@shared(max_entries=KEPT)
def source_codes(sources: Artifact) -> np.ndarray:
    return index(sources).codes()


@shared(max_entries=KEPT)
def pool_rows(sources: Artifact) -> np.ndarray:
    return index(sources).is_pool()


@shared(max_entries=KEPT, show_spinner="Reading scores")
def logits(score: Artifact) -> np.ndarray:
    return reading.logits(score)


@shared(max_entries=KEPT, show_spinner="Ranking samples")
def order(score: Artifact) -> np.ndarray:
    return reading.rank_order(logits(score))


@shared(max_entries=KEPT, show_spinner="Reading categories")
def categories(category: Artifact) -> Coded:
    return reading.categories(category)


@shared(max_entries=KEPT)
def side_codes(category: Artifact) -> np.ndarray:
    return reading.side_codes(categories(category))


@shared(max_entries=KEPT, show_spinner="Reading the selection")
def reasons(select: Artifact) -> Coded:
    return reading.reasons(select)


@shared(max_entries=KEPT, show_spinner="Reading the map")
def map_points(gap: Artifact) -> tuple[np.ndarray, np.ndarray]:
    return reading.map_points(gap)


@shared(max_entries=KEPT)
def features(embed: Artifact) -> Features:
    return Features.at(embed.data / "features.lance")


@shared(max_entries=3, show_spinner="Ranking the pool")
def preview(sources: Artifact, embed: Artifact, category: Artifact, score: Artifact) -> Preview:
    return Preview(candidates_of(sources, embed, category, score))


@shared(max_entries=2, show_spinner="Ranking the pool without excluded samples")
def preview_without(chain: tuple[Artifact, ...], rows: bytes) -> Preview:
    """chain: what `preview` takes. rows: int64 index rows to exclude."""
    excluded = np.frombuffer(rows, np.int64)
    return Preview(replace(preview(*chain).candidates, excluded=excluded))


@shared(max_entries=3, show_spinner="Reading robot features")
def bank(sources: Artifact, embed: Artifact) -> FeatureBank:
    return robot_bank(index(sources), features(embed))


@shared(max_entries=2)
def flags(workspace: Path, sources: Artifact, version: tuple[int, int]) -> Flags:
    """`version` changes with every flag that anybody sets."""
    return FlagBook(Workspace(workspace), sources).read()


@shared(max_entries=3)
def index_column(sources: Artifact, name: str) -> np.ndarray:
    """A narrow integer column of the index (`text_chars`, `n_images`)."""
    return index(sources).table.column(name)


@shared(max_entries=3, show_spinner="Measuring distances to every sample")
def nearest_to(embed: Artifact, row: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 distances [rows], int64 rows nearest first) to one row, in the encoder's space."""
    store = features(embed)
    to_row = distances(store, store.take([row])[0])
    return to_row, ranked(to_row, largest=False)


@shared(max_entries=1, show_spinner="Loading CLIP's text tower")
def word_search(embed: Artifact) -> WordSearch:
    return WordSearch(embed)


@shared(max_entries=4, show_spinner="Comparing every sample with the words")
def alike(embed: Artifact, words: str) -> tuple[np.ndarray, np.ndarray]:
    """(float32 cosines [rows], int64 rows most alike first) between the words and the images."""
    cosines = word_search(embed).cosines(words)
    return cosines, ranked(cosines, largest=True)


@shared(max_entries=4 * KEPT)
def parquet(artifact: Artifact, name: str) -> pa.Table:
    """A small parquet file of an artifact (steps, sweep, held-out)."""
    return pq.read_table(artifact.data / name)


@shared(max_entries=4 * KEPT)
def json_file(artifact: Artifact, name: str) -> dict[str, Any]:
    """A JSON file of an artifact's data."""
    return read_json(artifact.data / name)
