"""Which parameters of a VLM weight decay has to leave alone, by the kind of module they sit in."""

from __future__ import annotations

from pathlib import Path

import torch

from emt_core.models.vlm.load import load_vlm


def parameters_of(folder: Path) -> dict[str, torch.nn.Parameter]:
    """Every parameter of a saved VLM by its name in the model (files have other names)."""
    return dict(load_vlm(folder).named_parameters())


def without_decay(folder: Path) -> set[str]:
    """Names of a saved VLM's norms, biases and single vectors."""
    found = set()
    for prefix, module in load_vlm(folder).named_modules():
        is_norm = "Norm" in type(module).__name__
        for name, parameter in module.named_parameters(recurse=False):
            if is_norm or name == "bias" or parameter.ndim < 2:
                found.add(f"{prefix}.{name}")
    return found
