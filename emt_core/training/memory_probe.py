"""What one sample of a pass takes, measured on the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emt_core.training.memory import Expected, expected_memory, release_memory

if TYPE_CHECKING:
    import torch

    from emt_core.training.conversations import ConversationPreparer


def probe_memory(
    vlm: Any,
    preparer: ConversationPreparer,
    cutoff: int,
    device: torch.device,
    autocast: Callable[[], Any],
) -> Expected:
    """Counted: weights, gradients, moments. Measured: what autograd keeps for one more sample of `cutoff` tokens.

    Kept tensors are counted as autograd saves them (each storage once), so the figure does not depend on what an
    allocator holds back; it leaves out workspace that lives within one operation.
    """
    import torch

    from emt_core.training.batches import collate
    from emt_core.training.loss import SupervisedLoss

    counts = [p.numel() for p in vlm.parameters()]
    trained = [p.numel() for p in vlm.parameters() if p.requires_grad]
    expected = expected_memory(sum(counts), sum(trained))
    weights = {p.untyped_storage().data_ptr() for p in vlm.parameters()}
    item = longest_item(preparer, cutoff)
    sizes = []
    for count in (1, 2):
        batch = collate([item] * count, 0)
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast():
            inputs = {name: value.to(device) for name, value in batch.inputs.items()}
            loss = SupervisedLoss(vlm.train())(inputs, batch.labels.to(device))
        sizes.append(sum(saved.values()))
        del loss
        release_memory()
    return Expected(
        weights=expected.weights,
        gradients=expected.gradients,
        states=expected.states,
        per_sample=max(sizes[1] - sizes[0], 1),
    )


def longest_item(preparer: ConversationPreparer, cutoff: int) -> Any:
    """An image, a short question, and an answer that fills the cutoff: as much to keep as a sample can have."""
    from PIL import Image

    from emt_core.sample import Sample, Turn

    words = "red cup left of the green box " * (cutoff // 4)
    turns = (Turn(role="user", text="<image>\nWhat?"), Turn(role="assistant", text=words))
    sample = Sample(source="check", row=0, role="pool", turns=turns)
    return preparer.prepare(sample, [Image.new("RGB", (448, 448), (120, 120, 120))])
