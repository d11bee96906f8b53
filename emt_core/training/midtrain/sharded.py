"""Model and optimiser state where FSDP has spread them over the ranks: gathered on rank 0, spread out again.

Every rank calls these; only rank 0 writes. Names and contents are those of an unsharded checkpoint apart from the
optimiser's keys, which are parameter names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def gather_state(
    module: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(model state, optimiser state) on the CPU of rank 0, empty elsewhere."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model, moments = get_state_dict(module, optimizer, options=options)
    return dict(model), dict(moments)


def write_gathered(folder: Path, model: dict[str, Any], optimizer: dict[str, Any]) -> None:
    """On rank 0."""
    from safetensors.torch import save_file

    from emt_core.workspace.files import write_json

    save_file(
        {name: value.contiguous().clone() for name, value in model.items()},
        folder / "model.safetensors",
    )
    tensors, plain = {}, {}
    for parameter, entry in optimizer["state"].items():
        for name, value in entry.items():
            (tensors if hasattr(value, "detach") else plain)[f"{parameter}/{name}"] = value
    save_file(
        {name: value.contiguous().clone() for name, value in tensors.items()},
        folder / "optimizer.safetensors",
    )
    write_json(
        folder / "optimizer.json", {"plain": plain, "param_groups": optimizer["param_groups"]}
    )


def read_gathered(folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """On every rank; each reads the files and keeps its share."""
    from safetensors.torch import load_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    from emt_core.workspace.files import read_json

    noted = read_json(folder / "optimizer.json")
    weights: Any = load_file(folder / "model.safetensors")
    state: Any = {}
    for key, value in (
        *load_file(folder / "optimizer.safetensors").items(),
        *noted["plain"].items(),
    ):
        parameter, _, name = key.rpartition("/")
        state.setdefault(parameter, {})[name] = value
    set_state_dict(
        module,
        optimizer,
        model_state_dict=weights,
        optim_state_dict={"state": state, "param_groups": noted["param_groups"]},
        options=StateDictOptions(full_state_dict=True, cpu_offload=True),
    )
