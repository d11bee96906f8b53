"""How large a model is, from the headers of its safetensors files: no weights are read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.models.identity import locate_model


@dataclass(frozen=True)
class Weights:
    parameters: int
    bytes: int
    """Of the files, in the precision that they are stored in."""


def weights_of(model: str, revision: str | None, base: Path) -> Weights | None:
    """None where the model is not on this machine, or no header can be read."""
    try:
        located = locate_model(model, base)
        folder = located if isinstance(located, Path) else _hub_copy(located, revision)
        # beside the files that are loaded some models carry the same weights for another library
        found = (folder.glob("model*.safetensors"), folder.glob("*.safetensors")) if folder else ()
        files = next((files for files in map(sorted, found) if files), [])
        counts = [_parameters(file) for file in files]
        return Weights(sum(counts), sum(f.stat().st_size for f in files)) if files else None
    except (EmtError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def parameters_of(model: str, revision: str | None, base: Path) -> int:
    """Parameters of a model; 0 where it is not on this machine yet."""
    weights = weights_of(model, revision, base)
    return weights.parameters if weights else 0


def _hub_copy(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _parameters(file: Path) -> int:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:  # of a Git LFS pointer, the letters `version `
            raise ValueError("no safetensors file")
        header = json.loads(opened.read(length))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return sum(math.prod(shape) for shape in shapes)
