"""What a story is told from: one chain of artifacts and its narrow columns, each read once and only where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.explore.figures.palette import category_colors, source_colors
from emt_core.explore.tables import columns
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.lineage import (
    Lineage,
    finished,
    labels_of,
    lineage,
    recipe_names,
    selections_of,
)


@dataclass(frozen=True)
class Material:
    """Everything finished under one recipe, and the chain (score, selection) that the story follows."""

    workspace: Workspace
    recipe: str
    done: Mapping[str, Artifact]
    """Instance label -> artifact: also those outside the chain (training runs of every arm and seed)."""

    chain: Lineage

    @property
    def identity(self) -> tuple[str, ...]:
        """Keys of all that could enter a block: equal identity, equal story."""
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
        """The chain's artifact of a stage; EmtError where it has not run (blocks.py asks before it builds)."""
        found = getattr(self.chain, stage)
        if found is None:
            raise EmtError(
                f"{stage} has not run",
                where=self.workspace.path,
                remedy=f"emt run ... --until {stage}",
            )
        return found

    @cached_property
    def index(self) -> Index:
        return Index(self.need("sources"))

    @cached_property
    def source_names(self) -> list[str]:
        return [source.name for source in self.index.sources]

    @cached_property
    def source_colors(self) -> dict[str, str]:
        return source_colors(self.source_names, [source.role for source in self.index.sources])

    @cached_property
    def codes(self) -> np.ndarray:
        return self.index.codes()

    @cached_property
    def is_pool(self) -> np.ndarray:
        return self.index.is_pool()

    @cached_property
    def logits(self) -> np.ndarray:
        return columns.logits(self.need("score"))

    @cached_property
    def categories(self) -> columns.Coded:
        return columns.categories(self.need("category"))

    @cached_property
    def category_colors(self) -> dict[str, str]:
        return category_colors(self.categories.names)

    @cached_property
    def selected(self) -> np.ndarray:
        """bool [rows]."""
        return columns.reasons(self.need("select")).codes == 0

    @cached_property
    def map_points(self) -> tuple[np.ndarray, np.ndarray]:
        return columns.map_points(self.need("gap"))


def gather(
    workspace: Workspace,
    recipe: str | None = None,
    *,
    score: str | None = None,
    select: str | None = None,
) -> Material:
    """Material of a recipe (default: the one that ran last), through the named score and selection or the newest.

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
    if select is None:
        select = _newest_ranked(done, score)
    chain = lineage(workspace, done, score=score, select=select) if done else Lineage()
    return Material(workspace=workspace, recipe=name, done=done, chain=chain)


def _newest_ranked(done: Mapping[str, Artifact], score: str | None) -> str | None:
    """The newest selection made by score; a random draw or the whole pool only where there is no other."""
    labels = selections_of(done, score)[::-1]
    labels.sort(key=lambda label: done[label].config.get("strategy", "top") != "top")
    return labels[0] if labels else None
