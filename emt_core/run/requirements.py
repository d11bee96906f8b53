"""What settings of training need: packages, a GPU. Told before the first stage and where used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from emt_core.errors import EmtError


@dataclass(frozen=True, kw_only=True)
class Requirement:
    what: str
    package: str
    """Its name as it is imported."""

    install: str
    gpu: bool
    """Whether it needs a CUDA GPU."""

    instead: str
    """A setting that does without."""

    unwritten: str = ""
    """What this project lacks for it; it cannot run anywhere until that is written."""


DEEPSPEED = Requirement(
    what="DeepSpeed's ZeRO",
    package="deepspeed",
    install="pip install deepspeed",
    gpu=True,
    instead="runtime.sharding: fsdp (PyTorch's own ZeRO stage 3)",
    unwritten="training loops that let it take a step before the gradient is checked",
)

NEEDS = {
    "zero2": DEEPSPEED,
    "zero3": DEEPSPEED,
    "adamw_8bit": Requirement(
        what="8-bit AdamW",
        package="bitsandbytes",
        install='pip install "embodied-midtrain[adam8bit]"',
        gpu=True,
        instead="optimizer: adamw",
    ),
    "flash_attention_2": Requirement(
        what="FlashAttention 2",
        package="flash_attn",
        install="pip install flash-attn --no-build-isolation",
        gpu=True,
        instead="attn_implementation: sdpa",
    ),
    "lora": Requirement(
        what="LoRA",
        package="peft",
        install='pip install "embodied-midtrain[lora]"',
        gpu=False,
        instead="update: full or partial",
    ),
}
"""By the word that a recipe's setting has for it."""


def needs_gpu(word: str) -> bool:
    """Whether a setting's word needs a CUDA GPU."""
    return word in NEEDS and NEEDS[word].gpu


def require(word: str, *, where: str, gpu: bool) -> None:
    """Raises EmtError that names all that a setting needs and lacks; other words need nothing.

    where: the setting. gpu: whether the training has a CUDA GPU.
    """
    need = NEEDS.get(word)
    if need is None:
        return
    installed = find_spec(need.package) is not None
    lacking = [] if installed else [f"{need.package}, which is not installed"]
    if need.gpu and not gpu:
        lacking.append("a CUDA GPU, and training has none here")
    if need.unwritten:
        lacking.append(f"{need.unwritten}, and ours do not")
    if lacking:
        install = "" if installed or need.unwritten else f"{need.install}, or "
        raise EmtError(
            f"{need.what} needs {', and '.join(lacking)}",
            where=where,
            remedy=f"{install}set {need.instead}",
        )
