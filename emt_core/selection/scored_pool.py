"""What selection needs of a pool, read from its artifacts: for the select stage and the pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.selection.candidates import Candidates
from emt_core.selection.category import CATEGORIES
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Table, coded_column


def candidates_of(
    sources: Artifact,
    embed: Artifact | None,
    category: Artifact | None,
    score: Artifact | None,
    *,
    exclude: Sequence[str] = (),
    spread: bool = False,
) -> Candidates:
    """One entry for each index row, from narrow columns: about 12 bytes a row.

    embed, category, score None: the selection does without. exclude: ids, as `Index.rows_of` reads
    them. spread: read each score's spread too. Raises EmtError where the artifacts are not of one
    index, an excluded id is not in it, or the score has no spread.
    """
    index = Index(sources)
    # a cap may name a category that this pool has none of
    kinds = category and coded_column(
        Table(category.data / "category.lance"), "category", first=tuple(CATEGORIES), null=""
    )
    status = embed and coded_column(
        Table(embed.data / "features.lance"), "status", first=("",), null=""
    )
    logit = None if score is None else Table(score.data / "scores.lance").column("logit")
    columns = {
        "category": kinds and kinds.codes,
        "embed": status and status.codes,
        "score": logit,
    }
    wrong = {
        stage: len(column)
        for stage, column in columns.items()
        if column is not None and len(column) != index.rows
    }
    if wrong:
        raise EmtError(
            f"the index has {index.rows:,} rows, but {wrong}",
            where="select",
            remedy="delete these and run them again",
        )
    return Candidates(
        source=index.codes(),
        sources=tuple(source.name for source in index.sources),
        pool=np.array([source.role == "pool" for source in index.sources]),
        category=kinds and kinds.codes,
        categories=tuple(kinds.names) if kinds else (),
        logit=logit,
        spread=_spread_of(score) if spread and score is not None else None,
        status=status and status.codes,
        statuses=tuple(status.names) if status else ("",),
        text_only=index.table.column("n_images") == 0,
        excluded=index.rows_of(exclude),
    )


def _spread_of(score: Artifact) -> np.ndarray:
    """float32 [rows]. Raises EmtError where one seed or another measure made the score."""
    if not score.metrics.get("spread"):
        raise no_spread()
    return Table(score.data / "scores.lance").column("spread")


def no_spread() -> EmtError:
    """The error where `spread_penalty` meets a score of one seed or of a measure."""
    return EmtError(
        "this score has no spread over seeds: it comes from one seed or from a measure",
        where="select.spread_penalty",
        remedy="take the score of an estimator with `seeds` of 2 or more",
    )
