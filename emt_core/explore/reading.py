"""Read finished artifacts as narrow arrays, for the app's pages and for the report.

Each function reads one column of an artifact. A `Reading` follows one chain of artifacts, reads
each column once, when it is asked for, and keeps it; the pages' View is a Reading whose columns lie
in a bounded cache that sessions share. Vectors and text are not read here, so a pool of 10 M
samples takes some 0.2 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emt_core.data.draws import falling_keys, ordered_rows
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.explore.figures.palette import CATEGORY, category_colors, source_colors
from emt_core.explore.tables.score_scale import ScoreScale, score_scale
from emt_core.selection.candidates import could_be_selected
from emt_core.selection.category import CATEGORIES, of_side
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.lineage import (
    Lineage,
    finished,
    labels_of,
    lineage,
    recipe_names,
    selections_of,
)
from emt_core.workspace.table import Coded, Table, coded_column

SIDES = ("spatial and grounding", "text-heavy")
"""Questions about space, which lie near robot data, and questions answered by reading."""
SIDE_COLORS = {SIDES[0]: CATEGORY["spatial"], SIDES[1]: CATEGORY["text"]}


def logits(score: Artifact) -> np.ndarray:
    """float32 [rows]; NaN where a sample has no vector."""
    return Table(score.data / "scores.lance").column("logit").astype(np.float32, copy=False)


def spread_of(score: Artifact, row: int) -> float:
    """Standard deviation of one row's score over the estimator's seeds; NaN without a score."""
    return float(Table(score.data / "scores.lance").take([row], ["spread"]).column(0)[0].as_py())


def rank_order(logit: np.ndarray, candidates: np.ndarray | bool = True) -> np.ndarray:
    """int64: rows of finite logit among `candidates`, best first, ties by row (as `select` ranks).

    logit: float32 [rows]. candidates: bool [rows].
    """
    rows = np.flatnonzero(candidates & np.isfinite(logit))
    return ordered_rows(falling_keys(logit[rows], rows))


def categories(category: Artifact) -> Coded:
    """The known categories in display order, then whatever else the table names."""
    table = Table(category.data / "category.lance")
    return coded_column(table, "category", first=tuple(CATEGORIES))


def category_reason(category: Artifact, row: int) -> str:
    """`left of | where is the | answer: under (93 %)`: the words that decided a row's category."""
    table = Table(category.data / "category.lance")
    if "probability" not in table.schema.names:
        return ""  # made before there was a classifier
    found = table.take([row], ["evidence", "probability"]).to_pylist()[0]
    return f"{found['evidence']} ({found['probability']:.0%})"


def side_codes(coded: Coded) -> np.ndarray:
    """int8 [rows]: a place in SIDES, -1 for samples of neither side. coded: what each asks for."""
    side_of_name = np.full(len(coded.names) + 1, -1, np.int8)
    for place, side in enumerate(("embodied", "reading")):
        side_of_name[:-1][np.isin(coded.names, of_side(side))] = place
    return side_of_name[coded.codes]


def reasons(select: Artifact) -> Coded:
    """Why each row was rejected; code 0 is "" (selected)."""
    return coded_column(Table(select.data / "selection.lance"), "reason", first=("",))


def map_points(gap: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """float32 x, y [rows]; NaN without a vector."""
    table = Table(gap.data / "map.lance")
    x, y = (table.column(name).astype(np.float32, copy=False) for name in ("x", "y"))
    return x, y


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Everything finished under one recipe, and the chain (score, selection) that is looked at."""

    workspace: Workspace
    recipe: str
    """"" in a workspace where nothing has run."""

    done: Mapping[str, Artifact]
    """Instance label -> artifact, with those outside the chain (training runs of every seed)."""

    chain: Lineage

    @property
    def identity(self) -> tuple[str, ...]:
        """Keys of everything that a report block can read: equal identity, equal block."""
        mine = (getattr(self.chain, name) for name in Lineage.__dataclass_fields__)
        return (
            str(self.workspace.path),
            *(str(artifact.path) if isinstance(artifact, Artifact) else "" for artifact in mine),
            *sorted(f"{label}={artifact.key}" for label, artifact in self.done.items()),
        )

    def of_stage(self, stage: str) -> dict[str, Artifact]:
        """Finished instances of a stage by label, in the order they finished."""
        return {label: self.done[label] for label in labels_of(self.done, stage)}

    def need(self, stage: str) -> Artifact:
        """The chain's artifact of a stage. Raises EmtError where it has not run."""
        artifact = getattr(self.chain, stage)
        if artifact is None:
            raise EmtError(
                f"{stage} has not run",
                where=self.workspace.path,
                remedy=f"emt run ... --until {stage}",
            )
        return artifact

    @property
    def source_names(self) -> list[str]:
        return [source.name for source in self.index.sources]

    @property
    def source_colors(self) -> dict[str, str]:
        return source_colors(self.source_names, [source.role for source in self.index.sources])

    @property
    def score_scale(self) -> ScoreScale:
        """What this score's numbers mean: axis title and help text."""
        return score_scale(self.need("score"))

    @property
    def category_colors(self) -> dict[str, str]:
        return category_colors(self.categories.names)

    @property
    def selected(self) -> np.ndarray:
        """bool [rows]."""
        return self.reasons.codes == 0

    @property
    def eligible(self) -> np.ndarray:
        """bool [rows]: what the selection's shares are shares of."""
        return could_be_selected(self.reasons.codes, self.reasons.names)

    @cached_property
    def index(self) -> Index:
        return Index(self.need("sources"))

    @cached_property
    def codes(self) -> np.ndarray:
        """int16 [rows]: which source each row comes from, a place in `index.sources`."""
        return self.index.codes()

    @cached_property
    def is_pool(self) -> np.ndarray:
        """bool [rows]: True for the pool, False for robot data."""
        return self.index.is_pool()

    @cached_property
    def logits(self) -> np.ndarray:
        return logits(self.need("score"))

    @cached_property
    def order(self) -> np.ndarray:
        """int64: rows with a score, robot data included, best first."""
        return rank_order(self.logits)

    @cached_property
    def categories(self) -> Coded:
        return categories(self.need("category"))

    @cached_property
    def sides(self) -> np.ndarray:
        return side_codes(self.categories)

    @cached_property
    def reasons(self) -> Coded:
        return reasons(self.need("select"))

    @cached_property
    def map_points(self) -> tuple[np.ndarray, np.ndarray]:
        return map_points(self.need("gap"))


def open_reading(
    workspace: Workspace,
    recipe: str | None = None,
    *,
    score: str | None = None,
    select: str | None = None,
) -> Reading:
    """Read a recipe's results (default: the one that ran last), by default its newest selection.

    Raises EmtError where nothing ran yet, or a name is unknown.
    """
    known = recipe_names(workspace)
    if not known:
        raise EmtError(
            "nothing has run in this workspace yet",
            where=workspace.path,
            remedy="emt run RECIPE ...",
        )
    if recipe is not None and recipe not in known:
        raise EmtError(
            f"no recipe {recipe!r} ran here",
            where=workspace.path,
            remedy=f"recipes here: {', '.join(known)}",
        )
    name = recipe or known[0]
    done = finished(workspace, name)
    select = select or next(iter(ranked_first(done, selections_of(done, score))), None)
    chain = lineage(workspace, done, score=score, select=select) if done else Lineage()
    return Reading(workspace=workspace, recipe=name, done=done, chain=chain)


def ranked_first(done: Mapping[str, Artifact], selections: list[str]) -> list[str]:
    """Labels, newest first; random draws and whole pools after selections ranked by score."""
    newest_first = selections[::-1]
    return sorted(newest_first, key=lambda label: done[label].config.get("strategy") != "top")
