"""Which model it is, whatever it is called and wherever it lies: the hash of its files, or the hub's commit.

A folder that was moved or copied is the same model; a folder whose weights were replaced in place is another one.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import content_hash
from emt_core.errors import EmtError

#: What determines a feature: config, processor, tokenizer, weights. Not README, trainer state or generation settings.
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
HUB_TIMEOUT_S = 5.0


def locate_model(model: str, base: Path) -> Path | str:
    """The folder (relative ones start from `base`), or the hub name as it is. Raises EmtError for a missing folder."""
    if not model:
        raise EmtError(
            "no model is named", where="embed.model", remedy="give a folder or a hub name"
        )
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


def model_identity(model: str, revision: str | None, base: Path) -> dict[str, Any]:
    """`{"files": {name: sha256}}` of a folder, or `{"revision": commit}` of a hub model. Never a path, never a name.

    Raises EmtError where the folder is missing or has no safetensors, or the hub has no answer and there is no copy.
    """
    found = locate_model(model, base)
    if isinstance(found, str):
        return {"revision": _hub_commit(found, revision, base)}
    names = sorted(
        p.name
        for p in found.iterdir()
        if p.is_file() and any(fnmatch(p.name, i) for i in IDENTIFYING)
    )
    if not any(name.endswith(".safetensors") for name in names):
        raise EmtError(
            "the model folder has no safetensors weights",
            where=found,
            remedy="convert it with `save_pretrained`; pickled weights (.bin, .pt) are not read",
        )
    return {"files": {name: content_hash(found / name) for name in names}}


def _hub_commit(model: str, revision: str | None, base: Path) -> str:
    """The commit that `revision` (None: the newest) stands for: from the hub, else from the local copy."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    reason = ""
    try:
        return HfApi().model_info(model, revision=revision, timeout=HUB_TIMEOUT_S).sha or ""
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
    except (
        OSError,
        RuntimeError,
    ) as error:  # connection refused, no name service, offline mode: each client its own
        reason = type(error).__name__
    except Exception as error:
        if "httpx" not in type(error).__module__ and "requests" not in type(error).__module__:
            raise
        reason = type(error).__name__
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True)).name
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise EmtError(
            f"model {model!r} not found: not a local folder, not in the Hub's cache, and the Hub "
            f"cannot be reached ({reason})",
            where=base / model,
            remedy="name the model's folder, or fetch it where the hub can be reached",
        ) from error
