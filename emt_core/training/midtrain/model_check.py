"""Can this model be trained, and is it understood? One finding a question.

Nothing is written. What config and processor can tell comes first, memory before all else; then the
weights are loaded. Each check stands alone: one that fails leaves the others their say. What cannot
fit into memory is left out, because on a CPU the kernel kills who takes too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emt_core.data.sample import Sample, Turn
from emt_core.errors import EmtError
from emt_core.models.device import choose_dtype, dtype_name
from emt_core.models.vlm import batch as vlm_batch
from emt_core.models.vlm.batch import move
from emt_core.models.vlm.chat import IMAGE, Message, chat_messages
from emt_core.models.vlm.load import load_config, load_processor, load_vlm
from emt_core.models.weights import parameters_of
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.run.device import choose_device
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.forecast import Forecast, forecast_of
from emt_core.training.midtrain.memory import Expected, available_memory, size_text
from emt_core.training.midtrain.memory_probe import largest_item
from emt_core.training.midtrain.micro_batch import MicroBatch, TrainingItem, collate
from emt_core.training.parts import PARTS

Verdict = Literal["ok", "look", "failed", "left out"]
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Relative difference of a loss with and without padding that rounding explains."""

CONVERSATION = (
    Turn(role="user", text="<image>\nWhat color is the square?"),
    Turn(role="assistant", text="Red."),
    Turn(role="user", text="And the ground behind it?"),
    Turn(role="assistant", text="Light gray."),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    question: str
    verdict: Verdict
    says: str


class _LeftOut(Exception):
    """A check that does not fit into memory."""


class ModelCheck:
    """`findings()` goes through all checks and gives a finding each, as soon as it is there."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        cutoff: int = 1024,
        batch: int = 256,
    ) -> None:
        """model: folder or hub name. cutoff, batch: of the training that is meant.

        Reads config and processor. Raises EmtError where they cannot be.
        """
        self.model = model
        self.revision = revision
        self.cutoff = cutoff
        self.batch = batch
        self.device = choose_device(device)
        self.dtype = choose_dtype("auto", self.device, parameters_of(model, revision, Path.cwd()))
        self.usual = MidtrainConfig(model=model, cutoff=cutoff, batch=batch)
        try:
            self.processor = load_processor(model, revision)
            self.config = load_config(model, revision)
        except EmtError as error:
            remedy = repository_hint(model) or error.remedy
            raise EmtError(error.what, where=error.where, remedy=remedy) from error
        self.preparer = ConversationPreparer(self.processor, cutoff=cutoff)

    def findings(self, begin: Callable[[str], object] = lambda _: None) -> Iterator[Finding]:
        """One a check. begin: called with each check's name before it begins."""
        checks: dict[str, Callable[[], tuple[Verdict, str]]] = {
            "memory": self._memory,
            "class": self._class,
            "image tokens": self._image_tokens,
            "template": self._template,
            "label mask": self._labels,
            "weights": self._weights,
            "padding invariance": self._padding,
            "greedy answer": self._answer,
            "training step": self._step,
        }
        for question, check in checks.items():
            begin(question)
            try:
                verdict, says = check()
            except _LeftOut as reason:
                verdict, says = "left out", str(reason)
            except EmtError as error:
                verdict, says = "failed", error.what
            except Exception as error:
                first = str(error).partition("\n")[0]
                verdict, says = "failed", f"{type(error).__name__}: {first}"
            yield Finding(question=question, verdict=verdict, says=says)
            if question == "weights" and verdict == "failed":
                return

    @cached_property
    def vlm(self) -> Any:
        """The model with its weights, loaded when the first check asks for it."""
        self._need(4 * self.counted.parameters["all"], "its weights in float32 take")
        return load_vlm(self.model, self.revision, device=self.device)

    @cached_property
    def counted(self) -> Forecast:
        """Of training with the paper's settings on samples as large as they allow."""
        item = largest_item(
            self.preparer,
            max_images=self.usual.max_images,
            max_image_pixels=self.usual.max_image_pixels,
        )
        return forecast_of(self.config, self.usual, item, self.dtype)

    # ---- the checks

    def _memory(self) -> tuple[Verdict, str]:
        """What training with the paper's settings is expected to take, and the pass that fits.

        `emt midtrain RECIPE --dry-run` is for a recipe's own settings.
        """
        expected = self.counted.expected
        free = available_memory(self.device)
        micro = expected.largest_micro(free, self.batch)
        says = (
            f"expected {size_text(expected.fixed)} for weights, gradients and AdamW in float32"
            f"{self._activations(expected)}; {size_text(free)} free on {self.device}"
        )
        if not micro:
            hint = "see `update: lora`, `optimizer: adamw_8bit`, FSDP"
            return "failed", f"{says}: not even one sample a pass fits; {hint}"
        if not self.counted.whole:
            return "look", f"{says}; activations cannot be counted for {self.counted.model_type!r}"
        passes = -(-self.batch // micro)
        plural = "es" if passes > 1 else ""
        return "ok", f"{says}: runtime.batch {micro}, {passes} pass{plural} a step"

    def _activations(self, expected: Expected) -> str:
        if not self.counted.whole:
            return ""
        return f", {size_text(expected.per_sample)} for a sample of up to {self.cutoff:,} tokens"

    def _class(self) -> tuple[Verdict, str]:
        kind = self.counted.model_type
        counts = self.counted.parameters
        says = f"{self.counted.class_name} ({kind}), {counts['all'] / 1e6:,.1f} M parameters"
        if kind not in PARTS:
            known = ", ".join(PARTS)
            return "look", f"{says}; parts and batching are known of {known} alone"
        parts = ("vision", "projector", "language")
        shares = ", ".join(f"{part} {counts[part] / 1e6:,.1f} M" for part in parts)
        return "ok", f"{says}: {shares}"

    def _weights(self) -> tuple[Verdict, str]:
        dtype = next(self.vlm.parameters()).dtype
        return "ok", f"loaded in {dtype_name(dtype)} on {self.device}"

    def _image_tokens(self) -> tuple[Verdict, str]:
        ids = self._item().tokens["input_ids"]
        count = int(np.isin(ids, self.preparer.image_ids).sum())
        says = f"{count} tokens for one image of 448 x 336, cutoff {self.cutoff}"
        return ("ok" if count < self.cutoff // 2 else "look"), says

    def _template(self) -> tuple[Verdict, str]:
        text = self.preparer.render(chat_messages(_sample(), 1, "full"))
        return "ok", text.replace("\n", "\\n")

    def _labels(self) -> tuple[Verdict, str]:
        item = self._item()
        tokenizer = self.processor.tokenizer
        learned = tokenizer.decode(item.labels[item.labels >= 0])
        says = f"learned: {learned!r} ({int((item.labels >= 0).sum())} of {item.length} tokens)"
        if "Red." not in learned or "Light gray." not in learned or "color" in learned:
            return "failed", says
        if "<|im_end|>" in learned or (tokenizer.eos_token or "\0") in learned:
            return "ok", says
        return "look", says + "; no end-of-turn mark is learned"

    def _padding(self) -> tuple[Verdict, str]:
        import torch

        # longer by its words alone: four images of 256 tokens would fill a cutoff of 1,024
        items = [self._item(), self._item(CONVERSATION + CONVERSATION[2:] * 6)]
        self.vlm.eval()
        with torch.no_grad():
            alone = sum(float(self._loss(collate([item], 0))) for item in items)
            together = float(self._loss(collate(items, 0)))
        difference = abs(alone - together) / max(abs(together), 1e-9)
        says = f"loss alone {alone:.5f}, padded {together:.5f}"
        return ("ok" if difference <= TOLERANCE[dtype_name(self.dtype)] else "failed"), says

    def _answer(self) -> tuple[Verdict, str]:
        import torch

        question = [Message("user", (IMAGE, "What do you see?"))]
        item = self.preparer.prepare_messages(question, [_picture()], prompt=True)
        inputs = move(vlm_batch.collate([item], self.preparer.pad), self.device)
        with torch.inference_mode(), self._autocast():
            out = self.vlm.eval().generate(**inputs, do_sample=False, max_new_tokens=24)
        return "ok", repr(self.processor.decode(out[0, item.length :], skip_special_tokens=True))

    def _step(self) -> tuple[Verdict, str]:
        import torch

        self.vlm.train()
        item = self._item()
        own = forecast_of(self.config, self.usual, item, self.dtype).expected
        self._need(own.total(1) - own.weights - own.states, "beside the weights it takes")
        batch = collate([item], 0)
        loss = self._loss(batch) / batch.supervised
        loss.backward()
        trained = [p for p in self.vlm.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            return "failed", f"loss {loss.item():.4f}, gradient norm {norm.item():.4f}"
        # a step down the gradient and back: no optimizer state, and the weights are as before
        rate = 0.01 / max(float(norm), 1e-6)
        with torch.no_grad():
            for p in trained:
                p -= rate * p.grad
            after = float(self._loss(batch)) / batch.supervised
            for p in trained:
                p += rate * p.grad
        self.vlm.zero_grad(set_to_none=True)
        says = f"loss {loss.item():.4f} -> {after:.4f}, gradient norm {norm.item():.3f}"
        return ("ok" if after < loss.item() else "look"), says

    # ---- what they share

    def _need(self, needed: int, what: str) -> None:
        """Raises _LeftOut where so many bytes are not free."""
        free = available_memory(self.device)
        if needed > free:
            raise _LeftOut(
                f"{what} {size_text(needed)}, {size_text(free)} are free on {self.device}"
            )

    def _item(self, turns: tuple[Turn, ...] = CONVERSATION) -> TrainingItem:
        return self.preparer.prepare(_sample(turns), [_picture()])

    def _loss(self, batch: MicroBatch) -> Any:
        from emt_core.training.midtrain.loss import SupervisedLoss

        with self._autocast():
            inputs = move(batch.inputs, self.device)
            return SupervisedLoss(self.vlm)(inputs, batch.labels.to(self.device))

    def _autocast(self) -> Any:
        import torch

        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype == torch.bfloat16)


def _sample(turns: tuple[Turn, ...] = CONVERSATION) -> Sample:
    return Sample(source="check", row=0, role="pool", turns=turns)


def _picture() -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (448, 336), (210, 210, 210))
    ImageDraw.Draw(image).rectangle((150, 90, 300, 240), fill=(200, 30, 30))
    return image


def repository_hint(model: str) -> str:
    """Which repository to take instead, where `model` is one that needs remote code; else "".

    InternVL's own repositories need it, the `-HF` ones beside them do not.
    """
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    if "internvl" not in name or name.endswith("-hf"):
        return ""
    if Path(model).is_dir():
        config = Path(model) / "config.json"
        text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
        if '"internvl_chat"' not in text:
            return ""
    return (
        f"{model} is the repository with remote code, which is never run here;"
        f" the right one is {model}-HF"
    )
