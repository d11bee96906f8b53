"""Where an export comes from: every artifact behind the selection, with its configuration."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from emt_core.run.meter import installed_version
from emt_core.workspace.artifact import Artifact, Workspace

KEPT = ("config", "identity", "parents", "seed", "version", "versions", "rows")


def provenance_of(workspace: Workspace, selection: Artifact) -> dict[str, Any]:
    """JSON: the selection, its recipe, config, metrics, lineage, versions, command and date."""
    lineage: dict[str, Any] = {}
    todo = [selection]
    while todo:
        artifact = todo.pop()
        name = f"{artifact.stage}/{artifact.key}"
        if name not in lineage:
            lineage[name] = {fact: artifact.manifest[fact] for fact in KEPT}
            todo += workspace.parents(artifact).values()
    return {
        "selection": selection.key,
        "label": label_of(selection),
        "recipe": selection.manifest["recipe"],
        "config": selection.config,
        "parents": selection.manifest["parents"],
        "metrics": selection.metrics,
        "lineage": lineage,
        "versions": {
            "python": platform.python_version(),
            "embodied-midtrain": installed_version("embodied-midtrain"),
        },
        "command": sys.argv,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def label_of(selection: Artifact) -> str:
    """The name under which its recipe knows it."""
    return next(iter(selection.manifest["labels"]), selection.key)


def backbone_of(workspace: Workspace, selection: Artifact) -> str:
    """The recipe's backbone ("" without one); a folder is resolved against the recipe's base."""
    raw = _recipe_of(workspace, selection)
    backbone = str(raw.get("backbone") or "")
    folder = Path(str(raw.get("base") or ".")) / backbone
    return str(folder) if backbone and folder.is_dir() else backbone


def trackers_of(workspace: Workspace, selection: Artifact) -> tuple[str, ...]:
    """The recipe's `runtime.report_to`."""
    runtime = _recipe_of(workspace, selection).get("runtime") or {}
    return tuple(runtime.get("report_to") or ())


def _recipe_of(workspace: Workspace, selection: Artifact) -> dict[str, Any]:
    """The workspace's copy of the recipe that made the selection; {} where it is gone."""
    recipe = workspace.path / "recipes" / f"{selection.manifest['recipe']}.yaml"
    return yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else {}
