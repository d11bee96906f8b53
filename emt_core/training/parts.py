"""The parts of a VLM (vision encoder, projector, language model), and which weights are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.recipe.update import Part, UpdateConfig
from emt_core.training.low_rank import add_low_rank

if TYPE_CHECKING:
    import torch

PARTS: dict[str, dict[Part, tuple[str, ...]]] = {
    "internvl": {
        "vision": ("model.vision_tower.",),
        "projector": ("model.multi_modal_projector.",),
        "language": ("model.language_model.", "lm_head."),
    },
    "qwen3_vl": {
        "vision": ("model.visual.",),
        # what maps image features to the language model's width; DeepStack's own mergers as well
        "projector": ("model.visual.merger.", "model.visual.deepstack_merger_list."),
        "language": ("model.language_model.", "lm_head."),
    },
}
"""Model type -> names that a part's parameters begin with. The longest beginning decides."""

BLOCKS: dict[str, dict[Part, str]] = {
    "internvl": {
        "vision": "model.vision_tower.encoder.layer.",
        "language": "model.language_model.layers.",
    },
    "qwen3_vl": {
        "vision": "model.visual.blocks.",
        "language": "model.language_model.layers.",
    },
}
"""Model type -> what the names of a part's blocks begin with, before the block's number."""


def part_of(model_type: str, name: str) -> Part | None:
    """Which part a parameter belongs to; None where the model type is not known."""
    parts = PARTS.get(model_type, {})
    owners: dict[str, Part] = {
        start: part for part, starts in parts.items() for start in starts if name.startswith(start)
    }
    return owners[max(owners, key=len)] if owners else None


def parameters_of(vlm: Any) -> Iterator[tuple[Part | None, torch.nn.Parameter]]:
    for name, parameter in vlm.named_parameters():
        yield part_of(vlm.config.model_type, name), parameter


def choose_trained(vlm: Any, config: UpdateConfig, *, seed: int, stage: str) -> None:
    """Leave gradients to the weights that the settings train, LoRA's added ones among them.

    seed: of LoRA's first weights. stage: whose settings they are. Raises EmtError for a model type
    whose parts are not known, and where LoRA's package is missing.
    """
    if config.update == "full":
        freeze(vlm, config.freeze, stage=stage)
        return
    need_known(vlm, f"{stage}.update")
    if config.update == "lora":
        where = f"{stage}.update"
        add_low_rank(vlm, config.lora_rank, config.lora_alpha, seed=seed, where=where)
    else:
        vlm.requires_grad_(False)
    thawed = [
        *last_blocks(vlm, "vision", config.vision_share or 0),
        *last_blocks(vlm, "language", config.language_share or 0),
    ]
    projector = "projector" in config.trained_parts
    for name, parameter in vlm.named_parameters():
        whole = projector and part_of(vlm.config.model_type, name) == "projector"
        if whole or name.startswith(tuple(thawed)):
            parameter.requires_grad_(True)


def last_blocks(vlm: Any, part: Part, share: float) -> list[str]:
    """What the names of a part's last blocks begin with; their number is rounded up."""
    start = BLOCKS[vlm.config.model_type][part]
    names = (name for name, _ in vlm.named_parameters() if name.startswith(start))
    count = 1 + max(int(name.removeprefix(start).partition(".")[0]) for name in names)
    # 0.1 of 30 blocks is 3, whatever binary fractions make of it
    taken = math.ceil(share * count - 1e-9)
    return [f"{start}{number}." for number in range(count - taken, count)]


def freeze(vlm: Any, parts: Sequence[Part], *, stage: str) -> None:
    """Stop gradients of these parts. Raises EmtError for a model type whose parts are not known."""
    if not parts:
        return
    need_known(vlm, f"{stage}.freeze")
    for part, parameter in parameters_of(vlm):
        if part in parts:
            parameter.requires_grad_(False)


def rate_factor_of(vlm: Any, factors: Mapping[Part, float]) -> Callable[[str], float]:
    """SupervisedLoss's parameter name -> factor of its learning rate; 1 for parts not named.

    Raises EmtError for a model type whose parts are not known.
    """
    if factors:
        need_known(vlm, "midtrain.rate_factors")

    def factor(name: str) -> float:
        part = part_of(vlm.config.model_type, name.removeprefix("vlm."))
        return 1.0 if part is None else factors.get(part, 1.0)

    return factor


def need_known(vlm: Any, field: str) -> None:
    """Raises EmtError for a model type whose parts are not known. field: the setting that asks."""
    if vlm.config.model_type not in PARTS:
        raise EmtError(
            f"the parts of a {vlm.config.model_type!r} model are not known",
            where=field,
            remedy=f"leave {field} out; parts are known for {', '.join(PARTS)}",
        )


def count_parameters(vlm: Any) -> dict[str, int]:
    """Parameters by part, and of "all" and "trained"; tied ones are counted once."""
    counts = {"all": 0, "trained": 0, "vision": 0, "projector": 0, "language": 0}
    for part, parameter in parameters_of(vlm):
        counts["all"] += parameter.numel()
        counts["trained"] += parameter.numel() if parameter.requires_grad else 0
        if part is not None:
            counts[part] += parameter.numel()
    return counts
