"""Checkpoints: written aside, flushed, renamed; a folder `step-N` is whole or it is not taken.

    <folder>/step-00000200/checkpoint.json      last: {"step", "files": {name: bytes}, "facts": {}}
    <folder>/step-00000200/model.safetensors    parameters and buffers, by name
    <folder>/step-00000200/optimizer.safetensors, optimizer.json
    <folder>/.step-00000300.partial/            a kill left it; removed by the next save

Learning rate, data order and random state are functions of the step (schedule.py), so nothing else
has to be kept. No pickle: tensors as safetensors, everything else as JSON.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.recipe.update import STATE_BYTES, UpdateConfig
from emt_core.training.sharding import is_sharded
from emt_core.workspace.files import flush, flush_one, read_json, write_json

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch.distributed.checkpoint.state_dict import StateDictOptions

NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    facts: Mapping[str, Any]
    """What the writer noted, e.g. {"samples": 51200, "tokens": 9312000}."""

    bytes: int


def checkpoint_bytes(config: UpdateConfig, parameters: int, *, averaged: bool = False) -> int:
    """Most that a run's states take on disk: the two that are kept, and the next one.

    averaged: whether the EMA of what is trained lies beside them.
    """
    # with LoRA the vision encoder is less than the whole model, and the additions are little
    share = config.vision_share or 0 if config.update == "lora" else 1
    trained = int(share * parameters)
    each = STATE_BYTES[config.optimizer] + (4 if averaged else 0)
    return 3 * (4 * parameters + each * trained)


class Checkpoints:
    """The checkpoints of one run, oldest first. keep: how many `save` leaves; None keeps all."""

    def __init__(self, folder: Path, *, keep: int | None = 2) -> None:
        if keep is not None and keep < 1:
            raise ValueError("keep at least one checkpoint")
        self.folder = folder
        self.keep = keep

    def save(
        self, step: int, write: Callable[[Path], None], facts: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Let `write` fill a folder, then make it the checkpoint of `step` in one rename.

        Older ones go. A failure (full disk) leaves the earlier checkpoints as they were. Only one
        process calls this.
        """
        for leftover in self.folder.glob(".step-*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        name = f"step-{step:08d}"
        aside = self.folder / f".{name}.partial"
        final = self.folder / name
        aside.mkdir(parents=True)
        try:
            write(aside)
            flush(aside)
            files = (path for path in sorted(aside.rglob("*")) if not path.is_dir())
            sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in files}
            noted = {"step": step, "files": sizes, "facts": dict(facts or {})}
            write_json(aside / "checkpoint.json", noted)
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
        """Whole checkpoints, oldest first; a folder that lacks a file or a part of it is none."""
        if not self.folder.is_dir():
            return []
        read = (_read(path) for path in self.folder.iterdir() if NAME.fullmatch(path.name))
        return sorted((item for item in read if item is not None), key=lambda item: item.step)

    def latest(self) -> Checkpoint | None:
        whole = self.all()
        return whole[-1] if whole else None


def _read(path: Path) -> Checkpoint | None:
    try:
        noted = read_json(path / "checkpoint.json")
        files = noted["files"]
        if any((path / name).stat().st_size != size for name, size in files.items()):
            return None
        return Checkpoint(path, noted["step"], noted["facts"], sum(files.values()))
    except (EmtError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# ---- what is in one: model and optimizer


def write_training_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Parameters, buffers and optimizer state into `folder`. model: the bare one, without DDP."""
    state = optimizer.state_dict()["state"]
    write_state(folder, _tensors_of(model), state, shapes=_shapes_of(optimizer))


def read_training_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put a checkpoint's state into a model and an optimizer built as they were: the same bits.

    Settings of the parameter groups (rate, decay) stay those of `optimizer`: they come from the
    config. Raises EmtError where the checkpoint is of another model.
    """
    import torch

    own = _tensors_of(model)
    tensors, state, noted = read_state(folder)
    if differing := sorted(set(tensors) ^ set(own)):
        raise _other_model(folder, differing[0])
    with torch.no_grad():
        for name, value in own.items():
            if tensors[name].shape != value.shape:
                raise _other_model(folder, name)
            value.copy_(tensors[name])
    if _shapes_of(optimizer) != noted["shapes"]:
        raise _other_model(folder, "the optimizer's parameter groups")
    groups = optimizer.state_dict()["param_groups"]
    numbered = {int(place): values for place, values in state.items()}
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})


def write_state(
    folder: Path,
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[Any, Mapping[str, Any]],
    **noted: Any,
) -> None:
    """model: tensors by name; optimizer: state of each parameter; noted: JSON beside it."""
    from safetensors.torch import save_file

    entries = {f"{key}/{name}": v for key, state in optimizer.items() for name, v in state.items()}
    tensors = {name: value for name, value in entries.items() if hasattr(value, "detach")}
    plain = {name: value for name, value in entries.items() if name not in tensors}
    for kind, values in (("model", model), ("optimizer", tensors)):
        # copies on the CPU: safetensors takes no two names for one storage
        own = {n: v.detach().to("cpu", copy=True).contiguous() for n, v in values.items()}
        save_file(own, folder / f"{kind}.safetensors")
    write_json(folder / "optimizer.json", {"plain": plain, **noted})


def read_state(
    folder: Path,
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]], dict[str, Any]]:
    """(model, optimizer, noted) as `write_state` was given them; optimizer by str(key)."""
    from safetensors.torch import load_file

    noted = read_json(folder / "optimizer.json")
    state: dict[str, dict[str, Any]] = {}
    entries = load_file(folder / "optimizer.safetensors") | noted.pop("plain")
    for entry, value in entries.items():
        key, _, name = entry.rpartition("/")
        state.setdefault(key, {})[name] = value
    return load_file(folder / "model.safetensors"), state, noted


def _shapes_of(optimizer: torch.optim.Optimizer) -> list[list[list[int]]]:
    return [[list(p.shape) for p in group["params"]] for group in optimizer.param_groups]


def _tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters (tied ones once) and buffers by name; not copies, so loading writes in place."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _other_model(folder: Path, which: str) -> EmtError:
    return EmtError(
        f"the checkpoint is of another model ({which} differs)",
        where=folder,
        remedy="remove the checkpoints folder to start anew",
    )


# ---- of a training on whatever devices there are: every rank calls these


def state_writer(
    accelerator: Accelerator, module: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[Path], None]:
    """What rank 0 gives to `Checkpoints.save`; under FSDP the state is gathered for it.

    module, optimizer: as `accelerator.prepare` gave them back.
    """
    if not is_sharded(accelerator):
        bare = accelerator.unwrap_model(module)
        return lambda folder: write_training_state(folder, bare, optimizer)
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, moments = get_state_dict(module, optimizer, options=_gathered())

    def write(folder: Path) -> None:
        state: Any = moments["state"]
        model: Any = weights
        write_state(folder, model, state, param_groups=moments["param_groups"])

    return write


def restore_state(
    accelerator: Accelerator,
    folder: Path,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Read a checkpoint that `state_writer` wrote; under FSDP each rank keeps its share."""
    if not is_sharded(accelerator):
        read_training_state(folder, accelerator.unwrap_model(module), optimizer)
        return
    from torch.distributed.checkpoint.state_dict import set_state_dict

    tensors, state, noted = read_state(folder)
    weights: Any = tensors
    moments: Any = {"state": state, "param_groups": noted["param_groups"]}
    set_state_dict(
        module,
        optimizer,
        model_state_dict=weights,
        optim_state_dict=moments,
        options=_gathered(),
    )


def gather_weights(accelerator: Accelerator, module: torch.nn.Module) -> dict[str, Any]:
    """The bare module's weights by name; under FSDP whole ones on rank 0, nothing elsewhere.

    Tied ones are one tensor.
    """
    if not is_sharded(accelerator):
        return accelerator.unwrap_model(module).state_dict()
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    weights = dict(get_model_state_dict(module, options=_gathered()))
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        kept = first.setdefault(id(parameter), name)
        if name in weights:
            weights[name] = weights[kept]
    return weights


def _gathered() -> StateDictOptions:
    """Whole tensors, on the CPU of rank 0."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)
