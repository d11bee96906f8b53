"""Perplexity and delta perplexity of the same settings share one tuned VLM and one pass of it.

They stay two measures with keys of their own; whichever is made second takes over what the first
left in the workspace. The twin's key is known without looking: it is that of the same facts with
the other kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emt_core.workspace.artifact import Artifact, make_key

TWINS = {"perplexity": "delta_perplexity", "delta_perplexity": "perplexity"}
IDENTITY_REPLACES = ("model", "revision", "path")
"""Settings of a measure that its identity stands for."""


def twin_key(
    *, version: int, config: Mapping[str, Any], identity: Any, parents: Mapping[str, str]
) -> str | None:
    """Key of the measure that differs in its kind alone; None where the kind has no twin.

    config: as in a manifest.
    """
    kind = TWINS.get(config["kind"])
    if kind is None:
        return None
    settings = {name: value for name, value in config.items() if name not in IDENTITY_REPLACES} | {
        "kind": kind
    }
    return make_key(
        stage="measure", version=version, config=settings, identity=identity, parents=parents
    )


def taken_over(twin: Artifact) -> dict[str, Any]:
    """For the manifest: whose work was taken over, and the seconds that it took there."""
    before = twin.metrics.get("shared") or {"seconds": 0.0}
    return {
        "shared": {
            "artifact": twin.key,
            "seconds": round(twin.manifest["seconds"] + before["seconds"], 3),
        }
    }
