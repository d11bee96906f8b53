"""Rows that another run has embedded: adding one robot set must not embed a whole pool again.

A source's rows are taken over from a finished embed artifact of the same workspace where all that
determines them is equal: version, model, settings, arithmetic, the text given to that role, and the
source's content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emt_core.data.index import Index, SourceRange
from emt_core.models.device import arithmetic_of
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table

OF_ROLE = {"pool": "pool_text", "robot": "robot_text"}
"""Settings that touch one role only; all others have to be equal."""


@dataclass(frozen=True)
class Earlier:
    """Where a source's rows lie in a finished embed artifact: from its row `start` on."""

    artifact: Artifact
    start: int


def find_earlier(
    workspace: Workspace, index: Index, source: SourceRange, facts: Mapping[str, Any]
) -> Earlier | None:
    """The newest artifact that holds the source's rows as this run would make them, if any.

    facts: this run's {version, identity, config (without what the identity stands for),
    arithmetic}.
    """
    wanted = (source.role, source.rows, _content(index, source))
    if wanted[2] is None:
        return None
    for artifact in reversed(workspace.artifacts("embed")):
        if not _same_features(artifact, facts, source.role):
            continue
        parent = workspace.find("sources", artifact.manifest["parents"]["sources"])
        if parent is None:
            continue
        theirs = Index(parent)
        for other in theirs.sources:
            if (other.role, other.rows, _content(theirs, other)) == wanted:
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
        and arithmetic_of(artifact.data) == facts["arithmetic"]
        and mine == theirs
        and Table(artifact.data / "features.lance").exists()
    )


def _content(index: Index, source: SourceRange) -> Any:
    """What the source's rows are made of: its files, how they were read, the readers' version.

    None where that is not known. The digest is of the files alone; another camera or column of the
    same files is other rows.
    """
    digest = source.facts.get("digest")
    if not digest:
        return None
    settings = dict(index.config_of(source))
    for name in ("name", "path"):
        settings.pop(name, None)
    return digest, settings, index.artifact.manifest.get("version")
