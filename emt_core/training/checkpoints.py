"""Checkpoints: written aside, flushed, renamed; a folder named `step-N` is whole or it is not taken.

    <folder>/step-00000200/checkpoint.json      written last: {"step", "files": {name: bytes}, "facts": {...}}
    <folder>/step-00000200/model.safetensors    parameters and buffers, by name
    <folder>/step-00000200/optimizer.safetensors, optimizer.json
    <folder>/.step-00000300.partial/            a kill left it; removed by the next save

Learning rate, data order and random state are functions of the step (schedule.py), so nothing else has to be kept.
No pickle: tensors as safetensors, everything else as JSON.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.workspace.files import flush, flush_one, write_json

if TYPE_CHECKING:
    import torch

NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    facts: Mapping[str, Any]
    """What the writer noted, e.g. {"samples": 51200, "tokens": 9312000}."""

    bytes: int


class Checkpoints:
    """The checkpoints of one run, oldest first. keep: how many `save` leaves; None keeps all."""

    def __init__(self, folder: Path, *, keep: int | None = 2) -> None:
        if keep is not None and keep < 1:
            raise ValueError("keep at least one checkpoint")
        self.folder, self.keep = folder, keep

    def save(
        self, step: int, write: Callable[[Path], None], facts: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Let `write` fill an empty folder, then make it the checkpoint of `step` in one rename; older ones go.

        A failure (full disk) leaves the earlier checkpoints as they were. Only one process calls this.
        """
        self._drop_partial()
        name = f"step-{step:08d}"
        aside, final = self.folder / f".{name}.partial", self.folder / name
        aside.mkdir(parents=True)
        try:
            write(aside)
            flush(aside)
            files = (path for path in sorted(aside.rglob("*")) if not path.is_dir())
            sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in files}
            write_json(
                aside / "checkpoint.json",
                {"step": step, "files": sizes, "facts": dict(facts or {})},
            )
            if final.exists():  # the same step again: a run that resumed below it
                shutil.rmtree(final)
            aside.rename(final)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        flush_one(self.folder)
        whole = self.all()
        if self.keep is not None:
            for old in whole[: -self.keep]:
                shutil.rmtree(old.path)
        return whole[-1]

    def all(self) -> list[Checkpoint]:
        """Whole checkpoints, oldest first; a folder that lacks a file, or has one of another size, is not one."""
        if not self.folder.is_dir():
            return []
        found = (_read(path) for path in self.folder.iterdir() if NAME.fullmatch(path.name))
        return sorted((item for item in found if item is not None), key=lambda item: item.step)

    def latest(self) -> Checkpoint | None:
        whole = self.all()
        return whole[-1] if whole else None

    def _drop_partial(self) -> None:
        for leftover in self.folder.glob(".step-*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)


def _read(path: Path) -> Checkpoint | None:
    try:
        noted = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        step, files, facts = noted["step"], noted["files"], noted["facts"]
        whole = all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Checkpoint(path, step, facts, sum(files.values())) if whole else None


# ---- what is in one: model and optimiser


def write_training_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Parameters, buffers and optimiser state into `folder`. Pass the bare model (no DDP wrapper)."""
    from safetensors.torch import save_file

    save_file(
        {name: _own(value) for name, value in _tensors_of(model).items()},
        folder / "model.safetensors",
    )
    state = optimizer.state_dict()
    tensors, plain = {}, {}
    for place, entry in state["state"].items():
        for name, value in entry.items():
            if hasattr(value, "detach"):
                tensors[f"{place}/{name}"] = _own(value)
            else:
                plain[f"{place}/{name}"] = value
    save_file(tensors, folder / "optimizer.safetensors")
    sizes = [[tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups]
    write_json(folder / "optimizer.json", {"plain": plain, "shapes": sizes})


def read_training_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put a checkpoint's state into a model and an optimiser built as they were: the same bits.

    Settings of the parameter groups (rate, decay) stay those of `optimizer`: they come from the config.
    Raises EmtError where the checkpoint is of another model.
    """
    import torch
    from safetensors import safe_open

    own = _tensors_of(model)
    with safe_open(folder / "model.safetensors", "pt") as file, torch.no_grad():
        names = set(file.keys())
        if names != set(own):
            raise _other_model(folder, sorted(names ^ set(own))[0])
        for name, value in own.items():
            stored = file.get_tensor(name)
            if stored.shape != value.shape:
                raise _other_model(folder, name)
            value.copy_(stored)
    noted = json.loads((folder / "optimizer.json").read_text(encoding="utf-8"))
    shapes = [[list(p.shape) for p in group["params"]] for group in optimizer.param_groups]
    if shapes != noted["shapes"]:
        raise _other_model(folder, "the optimiser's parameter groups")
    state: dict[int, dict[str, Any]] = {}
    with safe_open(folder / "optimizer.safetensors", "pt") as file:
        entries = [(key, file.get_tensor(key)) for key in file.keys()]  # noqa: SIM118 (no mapping)
    for key, value in (*entries, *noted["plain"].items()):
        place, _, name = key.partition("/")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters (tied ones once) and buffers by name; live, so that loading writes in place."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _own(value: torch.Tensor) -> torch.Tensor:
    """A contiguous copy of its own on the CPU: safetensors takes no two names for one storage."""
    return value.detach().to("cpu", copy=True).contiguous()


def _other_model(folder: Path, which: str) -> EmtError:
    return EmtError(
        f"the checkpoint is of another model ({which} differs)",
        where=folder,
        remedy="remove the checkpoints folder to start anew",
    )
