"""What training takes, counted from a model's config before any of it is spent.

The model is built of tensors that have a shape and no memory (PyTorch's fake tensors), and a pass
of samples goes through it: what autograd would keep of it is added up, each storage once. So the
figure follows what is trained (LoRA, frozen parts), the arithmetic and the sample, for every model
whose parts are known. It leaves out workspace that lives within one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from emt_core.models.vlm import batch as vlm_batch
from emt_core.models.vlm.load import decoder_of, shapes_of
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.training.midtrain.loss import with_logits
from emt_core.training.midtrain.memory import Expected, expected_memory
from emt_core.training.midtrain.micro_batch import TrainingItem
from emt_core.training.parts import PARTS, choose_trained, count_parameters, parameters_of

if TYPE_CHECKING:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one device. Bytes in `expected`."""

    class_name: str
    model_type: str
    parameters: dict[str, int]
    """By part, `all` and `trained`, as `count_parameters` has them."""

    expected: Expected
    """Activations are 0 for a model type whose parts are not known."""

    @property
    def whole(self) -> bool:
        """Whether activations are counted too."""
        return self.model_type in PARTS


def forecast_of(
    model_config: Any,
    config: MidtrainConfig,
    item: TrainingItem,
    dtype: torch.dtype,
    *,
    devices: int = 1,
    sharded: bool = False,
    recompute: bool = False,
) -> Forecast:
    """What training on samples as large as `item` is expected to take; no memory is spent.

    model_config: transformers' config of the VLM. dtype: of the arithmetic; weights are float32.
    devices, sharded: as many ranks, each with the whole model or (FSDP) with its share. recompute:
    gradient checkpointing. Raises EmtError where `config` cannot be had of this model.
    """
    vlm = shapes_of(model_config, config.attn_implementation)
    choose_trained(vlm, config, seed=config.seed, stage="midtrain")
    vlm.train()
    parameters = count_parameters(vlm)
    trained = parameters["trained"]
    expected = expected_memory(
        parameters["all"], trained, config.optimizer, devices=1 if sharded else devices
    )
    if config.l2_sp:
        expected = replace(expected, weights=expected.weights + 4 * trained)
    if sharded:
        expected = Expected(
            weights=expected.weights // devices,
            gradients=expected.gradients // devices,
            states=expected.states // devices,
            casts=_gathered(vlm, dtype.itemsize),
        )
    forecast = Forecast(
        class_name=type(vlm).__name__,
        model_type=model_config.model_type,
        parameters=parameters,
        expected=expected,
    )
    if not forecast.whole:
        return forecast
    mode = _as_fake(vlm)
    sizes = [_kept(vlm, mode, [item] * count, dtype, recompute=recompute) for count in (1, 2)]
    per_sample = max(sizes[1] - sizes[0], 1)
    casts = 0 if sharded else max(sizes[0] - per_sample, 0)
    vocabulary = vlm.get_output_embeddings().weight.shape[0]
    expected = replace(expected, casts=expected.casts + casts, per_sample=per_sample)
    return replace(forecast, expected=with_logits(expected, item.labels, vocabulary))


def _as_fake(vlm: Any) -> FakeTensorMode:
    """Put fake tensors on the CPU into the place of a model's meta tensors: which kernels a pass
    takes, and what they keep, depends on the device."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, torch.nn.Parameter] = {}  # so that tied weights stay one tensor
    with mode:
        for module in vlm.modules():
            for name, one in module._parameters.items():
                if one is not None and id(one) not in made:
                    fake = torch.empty(one.shape, dtype=one.dtype)
                    made[id(one)] = torch.nn.Parameter(fake, requires_grad=one.requires_grad)
                module._parameters[name] = None if one is None else made[id(one)]
            for name, one in module._buffers.items():
                module._buffers[name] = None if one is None else torch.empty_like(one, device="cpu")
    return mode


def _kept(
    vlm: Any,
    mode: FakeTensorMode,
    items: list[TrainingItem],
    dtype: torch.dtype,
    *,
    recompute: bool,
) -> int:
    """Bytes that autograd keeps of a pass, weights left out. vlm: after `_as_fake`."""
    import torch

    inputs = vlm_batch.collate(items, 0)
    names = [name for name in inputs if name in items[0].vision]
    vision = {
        name: mode.from_tensor(inputs[name]) if inputs[name].is_floating_point() else inputs[name]
        for name in names
    }
    # the decoder's own forward looks up values that are not there, so its halves run one by one
    decoder = decoder_of(vlm)
    table = decoder.get_input_embeddings().weight
    before = [p.requires_grad for part, p in parameters_of(vlm) if part in ("vision", "projector")]
    needs_gradient = table.requires_grad or (bool(vision) and any(before))
    shape = (*inputs["input_ids"].shape, table.shape[1])
    with mode:
        embedded = torch.empty(shape, requires_grad=needs_gradient)

    def passes() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            if vision:
                decoder.get_image_features(**vision)
            decoder.language_model(inputs_embeds=embedded, use_cache=False)

    return _kept_by(vlm, passes, recompute=recompute)


def _kept_by(vlm: Any, work: Callable[[], object], *, recompute: bool) -> int:
    """Bytes that autograd keeps while `work` is done.

    recompute: of a block its input alone, but for the one block that is computed again.
    """
    import torch
    from transformers.modeling_layers import GradientCheckpointingLayer

    weights = {parameter.untyped_storage()._cdata for parameter in vlm.parameters()}
    kept: dict[int, Any] = {}  # storages, so that no number is given a second time
    inside = [0]  # bytes kept in each block; the first entry is what lies outside of them
    entered = [0]  # bytes of each block's input
    now = [0]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in kept:
            kept[storage._cdata] = storage
            inside[now[0]] += storage.nbytes()
        return tensor

    def enter(_: Any, arguments: tuple[Any, ...]) -> None:
        inside.append(0)
        entered.append(arguments[0].untyped_storage().nbytes())
        now[0] = len(inside) - 1

    def leave(*_: Any) -> None:
        now[0] = 0

    blocks = [module for module in vlm.modules() if isinstance(module, GradientCheckpointingLayer)]
    hooks = [block.register_forward_pre_hook(enter) for block in blocks]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    for hook in hooks:
        hook.remove()
    if recompute:
        return inside[0] + sum(entered) + max(inside[1:], default=0)
    return sum(inside)


def _gathered(vlm: Any, itemsize: int) -> int:
    """Bytes that a rank holds beside its share under FSDP: whole weights of what is at work.

    That is what stands outside of the blocks, a block and the one after it, and the gradients of
    one block before they are shared out.
    """
    names = set(vlm._no_split_modules or ())
    blocks = [
        sum(parameter.numel() for parameter in module.parameters())
        for module in vlm.modules()
        if type(module).__name__ in names
    ]
    largest = max(blocks, default=0)
    outside = sum(parameter.numel() for parameter in vlm.parameters()) - sum(blocks)
    return itemsize * (outside + 2 * largest) + 4 * largest
