"""The VLA: a VLM, a learnable query at the sequence's end, an action head on its hidden state.

The query gets into the sequence by a hook on the embedding layer that replaces the embedding of the
last place. The VLM is called with token ids as always, so what each class derives from them stays
its own business: where image features go (InternVL), position ids of rows and columns and
DeepStack's features (Qwen3-VL). Feeding embeddings, as VLM4VLA does, means doing all of that again
by hand, once for each class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from emt_core.models.vlm.load import decoder_of, text_width
from emt_core.training.policy.inputs import PolicyInputs


class HeadOutput(NamedTuple):
    arm: torch.Tensor
    """float32 [n, chunk, D] in [-1, 1]."""
    gripper: torch.Tensor
    """float32 [n, chunk, G]: logits of class 1, or values in [-1, 1] (continuous)."""


class Linear(nn.Linear):
    """In float32 whatever its weights are in: FSDP gathers them in the arithmetic's precision."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.linear(input, self.weight.float(), self.bias.float())


class Branch(nn.Sequential):
    """latent -> widths, ReLU after each -> dims x chunk, no activation (VLM4VLA's FCDecoder)."""

    def __init__(self, latent: int, widths: tuple[int, ...], outputs: int) -> None:
        sizes = (latent, *widths)
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            hidden += [Linear(before, after), nn.ReLU()]
        super().__init__(*hidden, Linear(sizes[-1], outputs))


class ActionHead(nn.Module):
    """Trunk H to H/2, ReLU, latent; an arm branch and, where G > 0, a gripper branch like it."""

    def __init__(
        self,
        width: int,
        *,
        arm: int,
        gripper: int,
        chunk: int,
        latent: int,
        widths: tuple[int, ...],
        binary: bool,
    ) -> None:
        """width: the language model's H. binary: the gripper branch gives logits."""
        super().__init__()
        self.arm_dims = arm
        self.gripper_dims = gripper
        self.chunk = chunk
        self.binary = binary
        half = max(width // 2, 1)
        self.trunk = nn.Sequential(Linear(width, half), nn.ReLU(), Linear(half, latent))
        self.arm = Branch(latent, widths, arm * chunk)
        self.gripper = Branch(latent, widths, gripper * chunk) if gripper else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, hidden: torch.Tensor) -> HeadOutput:
        """hidden: [n, H].

        In float32 also under autocast: between 0.5 and 1, bfloat16 has 128 values for an action.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            latent = self.trunk(hidden.float())
            arm = torch.tanh(self.arm(latent).view(-1, self.chunk, self.arm_dims))
            if self.gripper is None:
                return HeadOutput(arm, arm.new_zeros(len(arm), self.chunk, 0))
            gripper = self.gripper(latent).view(-1, self.chunk, self.gripper_dims)
            # a clone: FSDP warns of views that leave the model
            return HeadOutput(arm, gripper.clone() if self.binary else torch.tanh(gripper))


class VLA(nn.Module):
    def __init__(self, vlm: Any, head: ActionHead) -> None:
        super().__init__()
        self.vlm = vlm
        self.head = head
        self.query = nn.Parameter(torch.zeros(text_width(vlm)))
        for parameter in _unreached(vlm):
            parameter.requires_grad_(
                False
            )  # the language head, where it is not tied: no loss reaches it
        self._no_split_modules = getattr(vlm, "_no_split_modules", None)
        """What FSDP's automatic wrapping by layer asks for."""

    def forward(self, inputs: PolicyInputs) -> HeadOutput:
        return self.head(self.control_feature(inputs))

    def control_feature(self, inputs: PolicyInputs) -> torch.Tensor:
        """[n, H]: the query's last hidden state."""
        hidden = hidden_states(self.vlm, self.query, inputs)
        return hidden[torch.arange(len(hidden), device=hidden.device), inputs.query_at]


def hidden_states(vlm: Any, query: torch.Tensor, inputs: PolicyInputs) -> torch.Tensor:
    """[n, tokens, H]: last hidden states, the query [H] at its place."""
    with _query_at(vlm, query, inputs.query_at):
        return decoder_of(vlm)(**inputs.model, use_cache=False).last_hidden_state


@contextmanager
def _query_at(vlm: Any, query: torch.Tensor, places: torch.Tensor) -> Iterator[None]:
    def put(_module: nn.Module, _arguments: Any, embedded: torch.Tensor) -> torch.Tensor:
        here = torch.arange(embedded.shape[1], device=embedded.device) == places[:, None]
        return torch.where(here[..., None], query.to(embedded.dtype), embedded)

    hook = decoder_of(vlm).get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()


def _unreached(vlm: Any) -> list[nn.Parameter]:
    reached = {id(parameter) for parameter in decoder_of(vlm).parameters()}
    return [parameter for parameter in vlm.parameters() if id(parameter) not in reached]
