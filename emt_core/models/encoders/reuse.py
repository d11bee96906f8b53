"""Rows that another run has embedded already: adding one robot set must not embed a million pool rows again.

A source's rows are taken over from a finished embed artifact of the same workspace where everything that determines
them is equal: version, model, settings, arithmetic, the text given to that role, and the source's content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emt_core.data.index import Index, SourceRange
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table

#: Settings that touch one role only; all others have to be equal.
OF_ROLE = {"pool": "pool_text", "robot": "robot_text"}


@dataclass(frozen=True)
class Earlier:
    """Where a source's rows lie in a finished embed artifact: its row `start` is the source's first."""

    artifact: Artifact
    start: int


def find_earlier(
    workspace: Workspace, index: Index, source: SourceRange, facts: Mapping[str, Any]
) -> Earlier | None:
    """facts of the run at hand: {version, identity, config (without what the identity stands for), dtype}."""
    wanted = _content(index, source)
    if wanted is None:
        return None
    for artifact in reversed(workspace.artifacts("embed")):
        if not _same_features(artifact, facts, source.role):
            continue
        parent = workspace.find("sources", artifact.manifest["parents"]["sources"])
        if parent is None:
            continue
        theirs = Index(parent)
        for other in theirs.sources:
            if (
                other.role == source.role
                and other.rows == source.rows
                and _content(theirs, other) == wanted
            ):
                return Earlier(artifact, other.start)
    return None


def _same_features(artifact: Artifact, facts: Mapping[str, Any], role: str) -> bool:
    manifest = artifact.manifest
    ignored = {name for of, name in OF_ROLE.items() if of != role}
    mine = {name: value for name, value in facts["config"].items() if name not in ignored}
    theirs = {name: manifest["config"].get(name) for name in mine}
    return (
        manifest["version"] == facts["version"]
        and manifest["identity"] == facts["identity"]
        and manifest["metrics"].get("dtype") == facts["dtype"]
        and mine == theirs
        and Table(artifact.data / "features.lance").exists()
    )


def _content(index: Index, source: SourceRange) -> Any:
    """What the source's rows are made of: its files, how they were read, and by which version of the readers.

    The digest alone would not do: it is of the files, and another camera or column of the same files is other rows.
    """
    digest = source.facts.get("digest")
    settings = {
        name: value
        for name, value in source_config(index, source).items()
        if name not in ("name", "path")
    }
    return (digest, settings, index.artifact.manifest.get("version")) if digest else None


def source_config(index: Index, source: SourceRange) -> dict[str, Any]:
    """The configuration that the source was read with."""
    return next(
        config for config in index.artifact.config["sources"] if config["name"] == source.name
    )
