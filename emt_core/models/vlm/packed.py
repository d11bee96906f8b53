"""Batches whose rows hold several samples: mask and positions that keep the samples apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import torch

SEGMENTS = "segments"
"""Key of a packed batch: int64 [rows, tokens], the sample of each token from 1; 0 is padding."""

KEEPS_APART = frozenset({"internvl", "qwen3_vl"})
"""Model types whose samples are known to stay apart: tests compare their losses and gradients."""

MASKED = frozenset({"sdpa", "eager"})
"""Attention that takes a mask of its own for each row."""


def check_packing(vlm: Any) -> None:
    """Raises EmtError where this model's samples would not be kept apart."""
    kind = vlm.config.model_type
    text = vlm.config.get_text_config()
    attention = getattr(text, "_attn_implementation", None)
    windows = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    problem = None
    if kind not in KEEPS_APART:
        problem = f"how to keep samples of a {kind} model apart is not known"
    elif attention not in MASKED:
        problem = f"{attention} attention takes no mask that keeps samples apart"
    elif windows:
        problem = f"the model has layers of {', '.join(sorted(windows))}"
    if problem:
        raise EmtError(
            f"packing is not possible: {problem}",
            where="midtrain.packing",
            remedy="leave packing out, or train an InternVL or Qwen3-VL model with sdpa attention",
        )


def unpack(vlm: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The decoder's inputs of a packed batch: mask [rows, 1, tokens, tokens] and positions.

    Positions are [rows, tokens], or [3, rows, tokens] of models with M-RoPE.
    """
    inputs = dict(inputs)
    segments = inputs.pop(SEGMENTS)
    decoder = getattr(vlm, "model", vlm)
    if hasattr(decoder, "get_rope_index"):
        inputs["position_ids"] = _multimodal_positions(decoder, inputs, segments)
    else:
        inputs["position_ids"] = _positions(segments)
    text = vlm.config.get_text_config()
    dtype = vlm.get_input_embeddings().weight.dtype
    inputs["attention_mask"] = _mask(segments, text._attn_implementation, dtype)
    return inputs


def _positions(segments: torch.Tensor) -> torch.Tensor:
    """int64 [rows, tokens]: the place of each token in its sample."""
    import torch

    at = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return at - torch.where(begins, at, 0).cummax(dim=1).values


def _mask(segments: torch.Tensor, attention: str, dtype: torch.dtype) -> torch.Tensor:
    """[rows, 1, tokens, tokens]: earlier tokens of the same sample; padding sees padding.

    bool for sdpa, else what is added to the scores.
    """
    import torch

    same = segments[:, None, :, None] == segments[:, None, None, :]
    seen = same & torch.ones_like(same[0, 0]).tril()
    if attention == "sdpa":
        return seen
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


def _multimodal_positions(
    decoder: Any, inputs: dict[str, torch.Tensor], segments: torch.Tensor
) -> torch.Tensor:
    """int64 [3, rows, tokens]: the model's own positions of each sample, taken alone."""
    import torch

    samples = int(segments.max())
    at = segments.flatten()
    inside = at > 0
    sample = at[inside] - 1
    place = _positions(segments).flatten()[inside]
    longest = int(place.max()) + 1

    def alone(tokens: torch.Tensor) -> torch.Tensor:
        """[rows, tokens] -> [samples, longest]."""
        spread = tokens.new_zeros(samples, longest)
        spread[sample, place] = tokens.flatten()[inside]
        return spread

    tokens = {
        name: alone(value)
        for name, value in inputs.items()
        if value.shape == segments.shape and name != "attention_mask"
    }
    grids = {name: value for name, value in inputs.items() if name.endswith("_grid_thw")}
    there = alone(torch.ones_like(segments))
    own, _ = decoder.get_rope_index(**tokens, **grids, attention_mask=there)
    positions = own.new_zeros(3, at.numel())
    positions[:, inside] = own[:, sample, place]
    return positions.view(3, *segments.shape)
