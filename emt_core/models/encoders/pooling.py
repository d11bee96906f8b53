"""From one hidden state a token to one vector a sample. The paper does not say which; the setting is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


def pool(
    hidden: torch.Tensor, mask: torch.Tensor, pooling: Literal["mean", "last"]
) -> torch.Tensor:
    """hidden [n, tokens, d], mask [n, tokens] (1 = a token, 0 = padding on either side) -> float32 [n, d].

    mean: over all tokens that are no padding, visual ones too, summed in float32 (bfloat16 sums lose digits).
    last: the last token that is no padding; `hidden[:, -1]` would be padding under right padding.
    """
    import torch

    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
    # masked_fill, not a product: a padded place may hold NaN (a query that may attend to nothing)
    total = hidden.float().masked_fill(~mask.bool().unsqueeze(-1), 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True)
