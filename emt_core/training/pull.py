"""L2-SP: a pull toward the weights that training began with (Li, Grandvalet and Davoine 2018).

The penalty strength / 2 * ||w - origin||^2 over the trained weights belongs to the loss, so its
gradient strength * (w - origin) is clipped and scaled by AdamW together with the loss's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Pull:
    """Made before a checkpoint is read: the weights are the origin's then."""

    def __init__(self, module: torch.nn.Module, strength: float) -> None:
        """Keeps a copy of every trained weight; of this rank's share where FSDP has spread them."""
        self.strength = strength
        trained = [weight for weight in module.parameters() if weight.requires_grad]
        self.pairs = [(weight, weight.detach().clone()) for weight in trained]

    @property
    def bytes(self) -> int:
        """What the copies take."""
        return sum(origin.nbytes for _, origin in self.pairs)

    def add_gradient(self) -> float:
        """Add the penalty's gradient to that of the loss. Returns the penalty; all ranks call it.

        A weight that the loss did not reach is pulled all the same.
        """
        import torch

        total: Any = 0.0
        with torch.no_grad():
            for weight, origin in self.pairs:
                moved = weight - origin
                total = total + moved.square().sum()
                if weight.grad is None:
                    weight.grad = moved * self.strength
                else:
                    weight.grad.add_(moved, alpha=self.strength)
        whole = total.full_tensor() if hasattr(total, "full_tensor") else total
        return self.strength / 2 * float(whole)
