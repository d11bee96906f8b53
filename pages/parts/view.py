"""What the app is looking at: a workspace, a recipe, one chain of artifacts; and cached reads of their columns.

Caches are keyed by artifact folders. A folder's name is the hash of all that made it, so nothing cached can be stale.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import streamlit as st

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.explore.curation.flags import FLAGS, FlagBook, Flags
from emt_core.explore.curation.views import ViewBook
from emt_core.explore.figures.palette import category_colors, source_colors
from emt_core.explore.tables import columns
from emt_core.explore.tables.nearness import WordSearch, distances, ranked
from emt_core.explore.tables.score_scale import ScoreScale, score_scale
from emt_core.proximity.neighbors import FeatureBank, robot_bank
from emt_core.selection import Candidates, Preview
from emt_core.selection.category import CATEGORIES, of_side
from emt_core.selection.report import side_in_pool
from emt_core.selection.scored_pool import candidates_of
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.lineage import Lineage
from pages.parts.router import navigation

SPATIAL, TEXT_HEAVY = of_side("embodied"), of_side("reading")
EMBODIED = tuple(name for name in CATEGORIES if side_in_pool(name) == "embodied")
KEPT = 6
"""Artifacts of a kind whose columns stay in memory."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One run's view, made by the sidebar before a page is drawn."""

    workspace: Workspace
    recipe: str | None
    done: dict[str, Artifact]
    chain: Lineage
    score: str | None
    select: str | None

    @property
    def recipe_file(self) -> Path | None:
        return self.workspace.recipe_file(self.recipe) if self.recipe else None

    @property
    def index(self) -> Index:
        return index(str(self.chain.sources.path))

    @property
    def features(self) -> Features:
        return features(str(self.chain.embed.path))

    @property
    def source_names(self) -> list[str]:
        return [source.name for source in self.index.sources]

    @property
    def source_colors(self) -> dict[str, str]:
        return source_colors(self.source_names, [source.role for source in self.index.sources])

    @property
    def codes(self) -> np.ndarray:
        return source_codes(str(self.chain.sources.path))

    @property
    def is_pool(self) -> np.ndarray:
        return pool_rows(str(self.chain.sources.path))

    @property
    def logits(self) -> np.ndarray:
        return logits(str(self.chain.score.path))

    @property
    def score_scale(self) -> ScoreScale:
        """What the numbers of this score are: the axis title and help text for wherever one is shown."""
        return score_scale(self.chain.score)

    @property
    def categories(self) -> columns.Coded:
        return categories(str(self.chain.category.path))

    @property
    def category_colors(self) -> dict[str, str]:
        return category_colors(self.categories.names)

    @property
    def reasons(self) -> columns.Coded:
        return reasons(str(self.chain.select.path))

    @property
    def preview(self) -> Preview:
        chain = self.chain
        return preview(
            *(str(a.path) for a in (chain.sources, chain.embed, chain.category, chain.score))
        )

    def preview_without(self, rows: np.ndarray) -> Preview:
        """The preview of the pool without these rows (int64)."""
        if not len(rows):
            return self.preview
        chain = self.chain
        paths = tuple(
            str(a.path) for a in (chain.sources, chain.embed, chain.category, chain.score)
        )
        return preview_without(paths, rows.tobytes())

    @property
    def candidates(self) -> Candidates:
        return self.preview.candidates

    @property
    def order(self) -> np.ndarray:
        """int64: rows with a score, robots included, best first."""
        return order(str(self.chain.score.path))

    @property
    def flag_book(self) -> FlagBook:
        return FlagBook(self.workspace, self.chain.sources)

    @property
    def flags(self) -> Flags:
        book = self.flag_book
        return flags(str(book.workspace.path), str(self.chain.sources.path), book.version)

    @property
    def flag_codes(self) -> columns.Coded:
        return columns.Coded(self.flags.codes, list(FLAGS))

    @property
    def view_book(self) -> ViewBook:
        return ViewBook(self.workspace, self.chain.sources)

    @property
    def bank(self) -> FeatureBank:
        return bank(str(self.chain.sources.path), str(self.chain.embed.path))

    @property
    def map_points(self) -> tuple[np.ndarray, np.ndarray]:
        return map_points(str(self.chain.gap.path))


def asked_workspace() -> Path | None:
    """`streamlit run app.py -- --workspace W`, or the variable EMT_WORKSPACE."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workspace")
    found = parser.parse_known_args(sys.argv[1:])[0].workspace or os.environ.get("EMT_WORKSPACE")
    return Path(found) if found else None


def current() -> View:
    """The view of this run (app.py sets it before it runs the page)."""
    if "_view" not in st.session_state:
        # the first address asked of a fresh server is a page's: Streamlit has found pages/ and runs the file by itself,
        # until somebody calls st.navigation
        navigation()
        st.rerun()
    return st.session_state["_view"]


def places(names: list[str], wanted: tuple[str, ...]) -> list[int]:
    """Places of the wanted names among all names."""
    return [place for place, name in enumerate(names) if name in wanted]


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def index(path: str) -> Index:
    return Index(Artifact(Path(path)))


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def features(path: str) -> Features:
    return Features.at(Path(path) / "data" / "features.lance")


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def source_codes(path: str) -> np.ndarray:
    return index(path).codes()


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def pool_rows(path: str) -> np.ndarray:
    return index(path).is_pool()


@st.cache_resource(max_entries=KEPT, show_spinner="Reading scores")
def logits(path: str) -> np.ndarray:
    return columns.logits(Artifact(Path(path)))


@st.cache_resource(max_entries=KEPT, show_spinner="Ranking samples")
def order(path: str) -> np.ndarray:
    return columns.rank_order(logits(path))


@st.cache_resource(max_entries=KEPT, show_spinner="Reading categories")
def categories(path: str) -> columns.Coded:
    return columns.categories(Artifact(Path(path)))


@st.cache_resource(max_entries=KEPT, show_spinner="Reading the selection")
def reasons(path: str) -> columns.Coded:
    return columns.reasons(Artifact(Path(path)))


@st.cache_resource(max_entries=3, show_spinner="Ranking the pool")
def preview(sources: str, embed: str, category: str, score: str) -> Preview:
    artifacts = (Artifact(Path(path)) for path in (sources, embed, category, score))
    return Preview(candidates_of(*artifacts))


@st.cache_resource(max_entries=2, show_spinner="Ranking the pool without what is left out")
def preview_without(paths: tuple[str, ...], rows: bytes) -> Preview:
    return Preview(replace(preview(*paths).candidates, excluded=np.frombuffer(rows, np.int64)))


@st.cache_resource(max_entries=3, show_spinner="Reading robot features")
def bank(sources: str, embed: str) -> FeatureBank:
    return robot_bank(index(sources), features(embed))


@st.cache_resource(max_entries=KEPT, show_spinner="Reading the map")
def map_points(path: str) -> tuple[np.ndarray, np.ndarray]:
    return columns.map_points(Artifact(Path(path)))


@st.cache_resource(max_entries=2, show_spinner=False)
def flags(workspace: str, sources: str, version: tuple[int, int]) -> Flags:
    """`version` changes with every flag that anybody sets."""
    return FlagBook(Workspace(Path(workspace)), Artifact(Path(sources))).read()


@st.cache_resource(max_entries=3, show_spinner=False)
def index_column(sources: str, name: str) -> np.ndarray:
    """A narrow integer column of the index (`text_chars`, `n_images`)."""
    return index(sources).table.column(name)


@st.cache_resource(max_entries=3, show_spinner="Measuring distances to every sample")
def nearest_to(embed: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 distances [rows], int64 rows nearest first) to one row in the encoder's feature space."""
    store = features(embed)
    found = distances(store, store.take([row])[0])
    return found, ranked(found, largest=False)


@st.cache_resource(max_entries=1, show_spinner="Loading CLIP's text tower")
def word_search(embed: str) -> WordSearch:
    return WordSearch(Artifact(Path(embed)))


@st.cache_resource(max_entries=4, show_spinner="Comparing every sample with the words")
def alike(embed: str, words: str) -> tuple[np.ndarray, np.ndarray]:
    """(float32 cosines [rows], int64 rows most alike first) between the words and the images."""
    found = word_search(embed).cosines(words)
    return found, ranked(found, largest=True)


@st.cache_resource(max_entries=4 * KEPT, show_spinner=False)
def parquet(path: str, name: str) -> pa.Table:
    """A small parquet file of an artifact (steps, sweep, held-out)."""
    return columns.parquet_frame(Path(path) / "data" / name)
