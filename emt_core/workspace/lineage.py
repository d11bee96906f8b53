"""Artifacts that belong together on a page: one chain from sources to a selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json_if_there


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Artifacts of one chain; None where a stage has not run.

    All their tables of samples have the row order of `sources`.
    """

    sources: Artifact | None = None
    embed: Artifact | None = None
    category: Artifact | None = None
    gap: Artifact | None = None
    estimator: Artifact | None = None
    """None where another measure made the score."""

    measure: Artifact | None = None
    """What made the score, where that is no estimator."""

    score: Artifact | None = None
    select: Artifact | None = None

    def has(self, *stages: str) -> bool:
        return all(getattr(self, stage) is not None for stage in stages)


def recipe_names(workspace: Workspace) -> list[str]:
    """Recipes that ran in this workspace, the latest first."""
    files = (workspace.path / "recipes").glob("*.yaml")
    return [p.stem for p in sorted(files, key=lambda p: (-p.stat().st_mtime, p.stem))]


def finished(workspace: Workspace, recipe: str) -> dict[str, Artifact]:
    """Label -> artifact it last finished as. Reads one small file; plans nothing."""
    keys = read_json_if_there(workspace.path / "state" / f"{recipe}.json") or {}
    made = {
        label: workspace.find(label.partition(".")[0].partition("@")[0], key)
        for label, key in keys.items()
    }
    return {label: artifact for label, artifact in made.items() if artifact is not None}


def labels_of(done: Mapping[str, Artifact], stage: str) -> list[str]:
    """Labels of a stage's finished instances, in the order they finished."""
    mine = [label for label, artifact in done.items() if artifact.stage == stage]
    return sorted(mine, key=lambda label: (done[label].manifest["finished"], label))


def selections_of(done: Mapping[str, Artifact], score: str | None) -> list[str]:
    """Labels of selections made from this score or (random, all) from the same sources."""
    labels = labels_of(done, "select")
    if score is None:
        return labels
    base = done[score].manifest
    return [
        label
        for label in labels
        if done[label].manifest["parents"].get("score", base["key"]) == base["key"]
        and done[label].manifest["parents"].get("sources") == base["parents"].get("sources")
    ]


def lineage(
    workspace: Workspace,
    done: Mapping[str, Artifact],
    *,
    score: str | None = None,
    select: str | None = None,
    gap: str | None = None,
) -> Lineage:
    """The chain through the named instances; where none is named, through the newest that fits.

    Raises EmtError where a label is unknown or a parent artifact was deleted.
    """
    for label in (score, select, gap):
        if label is not None and label not in done:
            raise EmtError(
                f"there is no finished {label!r}",
                where=workspace.path,
                remedy=f"finished: {sorted(done)}",
            )
    chain: dict[str, Artifact] = {}
    if select is not None:
        chain |= {"select": done[select], **workspace.parents(done[select])}
    if score is not None:
        chain["score"] = done[score]
    if "score" not in chain and (newest := _newest(done, "score", chain)):
        chain["score"] = newest
    if "score" in chain:
        chain = {**workspace.parents(chain["score"]), **chain}
    if gap is not None:
        chain["gap"] = done[gap]
    for stage in ("embed", "sources", "category", "gap", "estimator"):
        if stage == "estimator" and "measure" in chain:
            continue
        if stage not in chain and (newest := _newest(done, stage, chain)):
            chain[stage] = newest
            chain = {**workspace.parents(newest), **chain}
    return Lineage(**{name: chain.get(name) for name in Lineage.__dataclass_fields__})


def after_reading(workspace: Workspace, done: Mapping[str, Artifact], sources: Artifact) -> Lineage:
    """The chain that follows one reading of the sources, as far as stages have run on it."""
    mine = {
        label: artifact
        for label, artifact in done.items()
        if sources.key in (artifact.key, artifact.manifest["parents"].get("sources"))
    }
    return lineage(workspace, mine)


def _newest(
    done: Mapping[str, Artifact], stage: str, chain: Mapping[str, Artifact]
) -> Artifact | None:
    """The newest finished artifact of a stage that has no parent other than the chain's."""
    for label in reversed(labels_of(done, stage)):
        parents = done[label].manifest["parents"]
        if all(name not in chain or chain[name].key == key for name, key in parents.items()):
            return done[label]
    return None
