"""The parts of a VLM (vision encoder, projector, language model): freezing, low-rank training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.recipe.midtrain import Part

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


def freeze(vlm: Any, parts: Sequence[Part]) -> None:
    """Stop gradients of these parts. Raises EmtError for a model type whose parts are not known."""
    if not parts:
        return
    _need_known(vlm, "freeze")
    for part, parameter in parameters_of(vlm):
        if part in parts:
            parameter.requires_grad_(False)


def rate_factor_of(vlm: Any, factors: Mapping[Part, float]) -> Callable[[str], float]:
    """SupervisedLoss's parameter name -> factor of its learning rate; 1 for parts not named.

    Raises EmtError for a model type whose parts are not known.
    """
    if factors:
        _need_known(vlm, "rate_factors")

    def factor(name: str) -> float:
        part = part_of(vlm.config.model_type, name.removeprefix("vlm."))
        return 1.0 if part is None else factors.get(part, 1.0)

    return factor


def _need_known(vlm: Any, field: str) -> None:
    if vlm.config.model_type not in PARTS:
        raise EmtError(
            f"the parts of a {vlm.config.model_type!r} model are not known",
            where=f"midtrain.{field}",
            remedy=f"leave {field} empty; parts are known for {', '.join(PARTS)}",
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


def add_low_rank(vlm: Any, rank: int) -> Any:
    """The model with trainable low-rank additions to the language model's linear layers.

    `merge_low_rank` puts them into its weights. Raises EmtError where peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise EmtError(
            "low-rank training needs peft, which is not installed",
            where="midtrain.lora_rank",
            remedy="pip install peft, or lora_rank: 0 for the paper's full training",
        ) from error
    layers = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    return get_peft_model(vlm, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers))


def merge_low_rank(adapted: Any) -> Any:
    """The plain VLM with the additions put into its weights."""
    return adapted.merge_and_unload()
