"""LoRA (Hu et al. 2021): low-rank additions to the language model's linear layers, over peft.

The layers are put into the model in place; a plain VLM is written from its weights by `merged`,
which takes whole and gathered (FSDP) weights alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from emt_core.run.requirements import require
from emt_core.training.schedule import seed_of

if TYPE_CHECKING:
    import torch

LAYERS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""All linear layers of the language model's blocks, as in the QLoRA paper and LLaMA-Factory's
`lora_target: all`."""

BASE, A, B = ".base_layer.weight", ".lora_A.default.weight", ".lora_B.default.weight"
"""peft's names of what a layer is made of."""


def add_low_rank(model: Any, rank: int, alpha: float, *, seed: int, where: str) -> None:
    """Add LoRA to a VLM, or to a model that holds one, in place; nothing else is trained then.

    seed: of the additions' first weights, the same on every rank. where: the setting that asks for
    it. Raises EmtError where peft is not installed.
    """
    import torch

    require("lora", where=where, gpu=False)
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=LAYERS)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "lora"))
        inject_adapter_in_model(config, model)


def merged(
    weights: Mapping[str, torch.Tensor], alpha: float, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """A model's weights as they are saved: LoRA merged (W + alpha / rank B A), under plain names.

    weights: by name, of a model with or without LoRA. Returns tensors on the CPU in `dtype`; tied
    ones stay one tensor.
    """
    plain: dict[str, torch.Tensor] = {}
    done: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for name, value in weights.items():
        if name.endswith((A, B)):
            continue
        one = (value.data_ptr(), value.shape)
        if one not in done:
            layer = name.removesuffix(BASE)
            if layer != name:
                down, up = weights[layer + A], weights[layer + B]
                value = value + (alpha / len(down)) * (up @ down)
            kind = dtype if value.is_floating_point() else value.dtype
            done[one] = value.detach().to("cpu", kind)
        plain[name.replace(".base_layer.", ".")] = done[one]
    return plain
