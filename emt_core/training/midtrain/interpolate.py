"""Weights between a VLM and what mid-training made of it (WiSE-FT, Wortsman et al. 2022).

    (1 - alpha) * origin + alpha * result, in float32, saved in the result's precision

One tensor of each model is in memory at a time: files are mapped, and the new ones have the bytes
of the result's own layout, one tensor after the other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_vlm, stored_dtype, without_bars
from emt_core.recipe.kept_weights import interpolated_folder

if TYPE_CHECKING:
    import torch

ORIGIN = "origin"
"""Folder of the origin's weights, under the names that the result has; while building only."""


def interpolate(origin: str, revision: str | None, out: Path, alphas: Sequence[float]) -> None:
    """Write `out/interpolated/<alpha>/` for each alpha: plain VLMs, as `out/model` is one.

    origin: folder or hub name. Those that are there already are left alone. Raises EmtError where
    origin and result have not the same weights.
    """
    left = {alpha: out / interpolated_folder(alpha) for alpha in alphas}
    left = {alpha: folder for alpha, folder in left.items() if not folder.is_dir()}
    if not left:
        return
    result, start = out / "model", out / ORIGIN
    # published files may have older names for the same weights: saved once more they agree
    with without_bars():
        load_vlm(origin, revision, dtype=stored_dtype(result)).save_pretrained(start)
    aside = {alpha: folder.with_name(f".{folder.name}.partial") for alpha, folder in left.items()}
    for folder in aside.values():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(result, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for file in sorted(result.glob("*.safetensors")):
        _mix(start, file, {alpha: folder / file.name for alpha, folder in aside.items()})
    for alpha, folder in left.items():
        aside[alpha].rename(folder)
    shutil.rmtree(start)


def _mix(start: Path, result: Path, made: dict[float, Path]) -> None:
    """Write one file of weights for each alpha. start: folder of the origin's files."""
    from safetensors import safe_open

    with ExitStack() as stack:
        writing: dict[float, BinaryIO] = {
            alpha: stack.enter_context(path.open("wb")) for alpha, path in made.items()
        }
        header, names = _layout(result)
        for file in writing.values():
            file.write(header)
        after: Any = stack.enter_context(safe_open(result, framework="pt"))
        before = dict(_opened(start, stack))
        for name in names:
            trained = after.get_tensor(name)
            source = before[name].get_tensor(name) if name in before else None
            if source is None or source.shape != trained.shape:
                raise EmtError(
                    f"origin and result have not the same weights: {name} differs",
                    where=result,
                    remedy="leave midtrain.interpolate out for this model",
                )
            for alpha, file in writing.items():
                file.write(_bytes_of(_between(source, trained, alpha)))


def _opened(folder: Path, stack: ExitStack) -> Iterator[tuple[str, Any]]:
    """(tensor's name, the opened file that has it) of all files of weights in a folder."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        opened: Any = stack.enter_context(safe_open(path, framework="pt"))
        for name in opened.keys():  # noqa: SIM118  no mapping
            yield name, opened


def _layout(file: Path) -> tuple[bytes, list[str]]:
    """(a safetensors file's bytes before its tensors, the tensors' names in their order)."""
    with file.open("rb") as opened:
        length = opened.read(8)
        header = opened.read(int.from_bytes(length, "little"))
    entries = json.loads(header)
    entries.pop("__metadata__", None)
    return length + header, sorted(entries, key=lambda name: entries[name]["data_offsets"])


def _between(before: torch.Tensor, after: torch.Tensor, alpha: float) -> torch.Tensor:
    if not after.is_floating_point():
        return after
    return before.float().lerp(after.float(), alpha).to(after.dtype)


def _bytes_of(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
