"""Which model it is, whatever its name and place: the hash of its files, or the hub's commit.

A folder that was moved or copied is the same model; a folder whose weights were replaced in place
is another one.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import content_hash
from emt_core.data.hub import NoAnswer, ask_commit, cached_commit
from emt_core.errors import EmtError

IDENTIFYING = (
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.*",
    "*.safetensors",
    "*.safetensors.index.json",
)
"""What determines a feature: config, processor, tokenizer, weights. Not README, trainer state or
generation settings."""


def locate_model(model: str, base: Path) -> Path | str:
    """The folder (relative ones start from `base`), or the hub name as it is.

    Raises EmtError for a missing folder and for "", which only `embed` lets come here.
    """
    need_model(model, "embed")
    folder = base / Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or model.startswith(("/", "~", "./", "../")):
        raise EmtError(
            "there is no such model folder",
            where=folder,
            remedy="give a folder or a hub name (`org/name`)",
        )
    return model


def need_model(model: str, stage: str) -> None:
    """Raises EmtError where the stage names no model."""
    if not model:
        by_backbone = "" if stage == "embed" else ", or the recipe's `backbone`"
        raise EmtError(
            f"{stage} has no model",
            where=f"{stage}.model",
            remedy=f"name a folder or hub name there{by_backbone}",
        )


def model_identity(model: str, revision: str | None, base: Path) -> dict[str, Any]:
    """`{"files": {name: sha256}}` of a folder, or `{"revision": commit}` of a hub model.

    Raises EmtError where the folder is missing or has no safetensors, or the hub has no answer and
    there is no local copy.
    """
    located = locate_model(model, base)
    if isinstance(located, str):
        return {"revision": _hub_commit(located, revision, base)}
    files = (path for path in sorted(located.iterdir()) if path.is_file())
    names = [path.name for path in files if any(fnmatch(path.name, p) for p in IDENTIFYING)]
    if not any(name.endswith(".safetensors") for name in names):
        raise EmtError(
            "the model folder has no safetensors weights",
            where=located,
            remedy="convert it with `save_pretrained`; pickled weights (.bin, .pt) are not read",
        )
    return {"files": {name: content_hash(located / name) for name in names}}


def _hub_commit(model: str, revision: str | None, base: Path) -> str:
    """The commit of `revision` (None: the newest), from the hub or else from the local copy."""
    try:
        return ask_commit(model, revision, "model")
    except NoAnswer as answer:
        known = cached_commit(model, revision, "model")
        if known is None:
            raise EmtError(
                f"model {model!r} not found: not a local folder, not in the Hub's cache, and the "
                f"Hub cannot be reached ({answer})",
                where=base / model,
                remedy="name the model's folder, or fetch it where the hub can be reached",
            ) from answer
        return known
