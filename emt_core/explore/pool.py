"""What selection needs of a scored pool, read once from its artifacts."""

from __future__ import annotations

import numpy as np

from emt_core.artifact import Artifact
from emt_core.explore.columns import categories, coded_column, logits
from emt_core.index import Index
from emt_core.selection import Candidates
from emt_core.store import Table


def candidates_of(sources: Artifact, embed: Artifact, category: Artifact, score: Artifact) -> Candidates:
    """The rows of a scored pool as `selection` wants them, no row excluded. About 12 bytes a row."""
    index = Index(sources)
    kinds = categories(category)
    status = coded_column(Table(embed.data / "features.lance"), "status", first=("",))
    return Candidates(
        source=index.codes(),
        sources=tuple(source.name for source in index.sources),
        pool=np.array([source.role == "pool" for source in index.sources]),
        category=kinds.codes,
        categories=tuple(kinds.names),
        logit=logits(score),
        status=status.codes,
        statuses=tuple(status.names),
        text_only=index.table.column("n_images") == 0,
    )
