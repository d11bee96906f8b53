"""What the app is looking at: a workspace, a recipe and one chain of artifacts."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.explore.curation.flags import FLAGS, FlagBook, Flags
from emt_core.explore.curation.views import ViewBook
from emt_core.explore.reading import Reading
from emt_core.proximity.neighbors import FeatureBank
from emt_core.selection import Preview
from emt_core.selection.category import CATEGORIES, of_side
from emt_core.selection.report import side_in_pool
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import labels_of
from emt_core.workspace.table import Coded
from pages.parts import cached
from pages.parts.router import navigation

TEXT_HEAVY = of_side("reading")
EMBODIED = tuple(name for name in CATEGORIES if side_in_pool(name) == "embodied")


@dataclass(frozen=True, kw_only=True)
class View(Reading):
    """A Reading whose columns lie in the sessions' cache, so that a session that keeps its View
    keeps no column; the sidebar makes one for every run."""

    score: str | None
    """Label of the score in view."""

    select: str | None
    """Label of the selection in view."""

    @property
    def index(self) -> Index:
        return cached.index(self.need("sources"))

    @property
    def codes(self) -> np.ndarray:
        return cached.source_codes(self.need("sources"))

    @property
    def is_pool(self) -> np.ndarray:
        return cached.pool_rows(self.need("sources"))

    @property
    def logits(self) -> np.ndarray:
        return cached.logits(self.need("score"))

    @property
    def order(self) -> np.ndarray:
        return cached.order(self.need("score"))

    @property
    def categories(self) -> Coded:
        return cached.categories(self.need("category"))

    @property
    def sides(self) -> np.ndarray:
        return cached.side_codes(self.need("category"))

    @property
    def reasons(self) -> Coded:
        return cached.reasons(self.need("select"))

    @property
    def map_points(self) -> tuple[np.ndarray, np.ndarray]:
        return cached.map_points(self.need("gap"))

    @property
    def recipe_file(self) -> Path | None:
        return self.workspace.recipe_file(self.recipe) if self.recipe else None

    @property
    def features(self) -> Features:
        return cached.features(self.need("embed"))

    @property
    def scored_pool(self) -> tuple[Artifact, Artifact, Artifact, Artifact]:
        """The artifacts that a selection is made from."""
        return self.need("sources"), self.need("embed"), self.need("category"), self.need("score")

    @property
    def preview(self) -> Preview:
        return cached.preview(*self.scored_pool)

    def preview_without(self, rows: np.ndarray) -> Preview:
        """The preview of the pool without these rows (int64)."""
        if not len(rows):
            return self.preview
        return cached.preview_without(self.scored_pool, rows.tobytes())

    @property
    def flag_book(self) -> FlagBook:
        return FlagBook(self.workspace, self.need("sources"))

    @property
    def flags(self) -> Flags:
        book = self.flag_book
        return cached.flags(book.workspace.path, book.sources, book.version)

    @property
    def flag_codes(self) -> Coded:
        return Coded(self.flags.codes, list(FLAGS))

    @property
    def view_book(self) -> ViewBook:
        return ViewBook(self.workspace, self.need("sources"))

    def labels_over(self, stage: str, shared: str = "sources") -> list[str]:
        """Labels of a stage's instances whose `shared` parent is the one in view, newest first."""
        key = self.need(shared).key
        labels = labels_of(self.done, stage)[::-1]
        return [name for name in labels if self.done[name].manifest["parents"].get(shared) == key]

    @property
    def bank(self) -> FeatureBank:
        return cached.bank(self.need("sources"), self.need("embed"))


def asked_workspace() -> Path | None:
    """`streamlit run app.py -- --workspace W`, or the variable EMT_WORKSPACE."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workspace")
    arguments, _ = parser.parse_known_args(sys.argv[1:])
    folder = arguments.workspace or os.environ.get("EMT_WORKSPACE")
    return Path(folder) if folder else None


def current() -> View:
    """The view of this run (app.py sets it before it runs the page)."""
    if "_view" not in st.session_state:
        # When the first address asked of a fresh server is a page's, Streamlit finds pages/ and
        # runs that file by itself, until somebody calls st.navigation.
        navigation()
        st.rerun()
    return st.session_state["_view"]
