"""Can this model be trained, and is it understood? One finding a question, on the real weights or on tiny ones.

Nothing is written. Each check stands alone: one that fails leaves the others their say, unless the model cannot be
loaded at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emt_core.data.sample import Sample, Turn
from emt_core.errors import EmtError

Verdict = Literal["ok", "look", "failed"]
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Relative difference of a loss with and without padding that rounding explains."""

CONVERSATION = (
    Turn(role="user", text="<image>\nWhat colour is the square?"),
    Turn(role="assistant", text="Red."),
    Turn(role="user", text="And the ground behind it?"),
    Turn(role="assistant", text="Light grey."),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    question: str
    verdict: Verdict
    says: str


class ModelCheck:
    """`run()` goes through all checks and gives a finding each."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        cutoff: int = 1024,
        batch: int = 256,
    ) -> None:
        """model: folder or hub name. cutoff, batch: of the training that is meant. Loads the model: EmtError if it
        cannot be."""
        from emt_core.models.encoders.base import choose_device, choose_dtype
        from emt_core.models.vlm.load import load_processor, load_vlm
        from emt_core.training.midtrain.conversations import ConversationPreparer

        self.model, self.cutoff, self.batch = model, cutoff, batch
        self.device = choose_device(device)
        self.dtype = choose_dtype("auto", self.device)
        self.hint = repository_hint(model, revision)
        try:
            self.processor = load_processor(model, revision)
            self.vlm: Any = load_vlm(model, revision).to(self.device)
        except EmtError as error:
            if self.hint:
                raise EmtError(error.what, where=error.where, remedy=self.hint) from error
            raise
        self.preparer = ConversationPreparer(self.processor, cutoff=cutoff)

    def run(self) -> list[Finding]:
        checks: dict[str, Callable[[], tuple[Verdict, str]]] = {
            "class": self._class,
            "image tokens": self._image_tokens,
            "template": self._template,
            "label mask": self._labels,
            "padding invariance": self._padding,
            "greedy answer": self._answer,
            "training step": self._step,
            "memory": self._memory,
        }
        found = []
        for question, check in checks.items():
            try:
                verdict, says = check()
            except EmtError as error:
                verdict, says = "failed", error.what
            except Exception as error:
                verdict, says = (
                    "failed",
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                )
            found.append(Finding(question=question, verdict=verdict, says=says))
        return found

    # ---- the checks

    def _class(self) -> tuple[Verdict, str]:
        from emt_core.training.midtrain.parts import PARTS, count_parameters

        kind = self.vlm.config.model_type
        counts = count_parameters(self.vlm)
        says = f"{type(self.vlm).__name__} ({kind}), {counts['all'] / 1e6:,.1f} M parameters"
        if kind not in PARTS:
            return (
                "look",
                f"{says}; parts and batching of this class are not known here: {', '.join(PARTS)} are",
            )
        shares = ", ".join(
            f"{part} {counts[part] / 1e6:,.1f} M" for part in ("vision", "projector", "language")
        )
        return "ok", f"{says}: {shares}"

    def _image_tokens(self) -> tuple[Verdict, str]:
        item = self.preparer.prepare(_sample(), [_picture()])
        count = int(np.isin(item.tokens["input_ids"], self.preparer.image_ids).sum())
        says = f"{count} tokens for one image of 448 x 336"
        return ("ok" if count < self.cutoff // 2 else "look"), f"{says}, cutoff {self.cutoff}"

    def _template(self) -> tuple[Verdict, str]:
        return "ok", self._rendered().replace("\n", "\\n")

    def _labels(self) -> tuple[Verdict, str]:
        item = self.preparer.prepare(_sample(), [_picture()])
        learned = self.processor.tokenizer.decode(item.labels[item.labels >= 0])
        ends = "<|im_end|>" in learned or (self.processor.tokenizer.eos_token or "\0") in learned
        right = "Red." in learned and "Light grey." in learned and "color" not in learned
        says = f"learned: {learned!r} ({int((item.labels >= 0).sum())} of {item.length} tokens)"
        if not right:
            return "failed", says
        return ("ok", says) if ends else ("look", says + "; no end-of-turn mark is learned")

    def _padding(self) -> tuple[Verdict, str]:
        import torch

        from emt_core.training.midtrain.batches import collate
        from emt_core.training.midtrain.loss import SupervisedLoss

        short = self.preparer.prepare(_sample(), [_picture()])
        # longer by its words alone: four images of 256 tokens each would fill the paper's cutoff of 1,024
        long = self.preparer.prepare(_sample(CONVERSATION + CONVERSATION[2:] * 6), [_picture()])
        module = SupervisedLoss(self.vlm.eval())
        with torch.no_grad(), self._autocast():
            alone = [self._loss(module, collate([item], 0)) for item in (short, long)]
            together = self._loss(module, collate([short, long], 0))
        difference = abs(sum(alone) - together) / max(abs(together), 1e-9)
        bound = TOLERANCE[str(self.dtype).removeprefix("torch.")]
        says = f"loss alone {sum(alone):.5f}, padded {together:.5f}"
        return ("ok" if difference <= bound else "failed"), says

    def _answer(self) -> tuple[Verdict, str]:
        import torch

        chat = [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "What do you see?"}],
            }
        ]
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(
            text=[text], images=[_picture()], return_tensors="pt", **self.preparer.image_options
        ).to(self.device)
        with torch.inference_mode(), self._autocast():
            out = self.vlm.eval().generate(**inputs, do_sample=False, max_new_tokens=24)
        answer = self.processor.decode(
            out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return "ok", repr(answer)

    def _step(self) -> tuple[Verdict, str]:
        import torch

        from emt_core.training.midtrain.batches import collate
        from emt_core.training.midtrain.loss import SupervisedLoss

        batch = collate([self.preparer.prepare(_sample(), [_picture()])], 0)
        module = SupervisedLoss(self.vlm.train())
        # a plain gradient step in one direction and back: no optimiser state, and the weights are as before
        with self._autocast():
            loss = (
                module(self._to_device(batch.inputs), batch.labels.to(self.device))
                / batch.supervised
            )
        loss.backward()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self.vlm.parameters() if p.grad is not None]
        )
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            return "failed", f"loss {loss.item():.4f}, gradient norm {norm.item():.4f}"
        rate = 0.01 / max(float(norm), 1e-6)
        with torch.no_grad():
            for p in self.vlm.parameters():
                if p.grad is not None:
                    p -= rate * p.grad
            with self._autocast():
                after = self._loss(module, batch) / batch.supervised
            for p in self.vlm.parameters():
                if p.grad is not None:
                    p += rate * p.grad
        self.vlm.zero_grad(set_to_none=True)
        says = f"loss {loss.item():.4f} -> {after:.4f}, gradient norm {norm.item():.3f}"
        return ("ok" if after < loss.item() else "look"), says

    def _memory(self) -> tuple[Verdict, str]:
        """Expected of weights, gradients and AdamW; measured of one sample at the cutoff; the pass that fits.

        With the paper's settings; `emt midtrain RECIPE --dry-run` is for a recipe's own."""
        from emt_core.recipe.midtrain import MidtrainConfig
        from emt_core.training.midtrain.memory import available_memory, held_memory
        from emt_core.training.midtrain.memory_probe import largest_item, probe_memory

        usual = MidtrainConfig()
        item = largest_item(
            self.preparer, max_images=usual.max_images, max_image_pixels=usual.max_image_pixels
        )
        expected = probe_memory(self.vlm, item, self.device, self._autocast)
        free = available_memory(self.device)
        micro = expected.largest_micro(free + held_memory(self.vlm), self.batch)
        gib = 2**30
        says = (
            f"expected {expected.fixed / gib:.2f} GiB for weights, gradients and AdamW in float32;"
            f" measured {expected.per_sample / gib:.3f} GiB a sample of {item.length:,} tokens;"
            f" {free / gib:.1f} GiB free on {self.device}"
        )
        if not micro:
            return (
                "failed",
                f"{says}: not even one sample a pass fits; see optimizer: adamw_8bit, lora_rank, FSDP",
            )
        passes = -(-self.batch // micro)
        return (
            "ok",
            f"{says}: runtime.batch {micro}, {passes} pass{'es' if passes > 1 else ''} a step",
        )

    # ---- what they share

    def _rendered(self) -> str:
        from emt_core.models.vlm.chat import chat_messages

        return self.preparer.render(chat_messages(_sample(), 1, "full"))

    def _loss(self, module: Any, batch: Any) -> float:
        return float(module(self._to_device(batch.inputs), batch.labels.to(self.device)))

    def _to_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: value.to(self.device) for name, value in inputs.items()}

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


def repository_hint(model: str, revision: str | None = None) -> str:
    """Whether a name points at the repository that transformers can load: InternVL's own need remote code, the
    `-HF` ones beside them do not. "" where there is nothing to say."""
    name = model.rstrip("/").rsplit("/", 1)[-1]
    folder = Path(model)
    if "internvl" in name.lower() and not name.lower().endswith("-hf"):
        if folder.is_dir():
            config = folder / "config.json"
            text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
            if '"internvl_chat"' not in text:
                return ""
        return f"{model} is the repository with remote code, which is never run here; the right one is {model}-HF"
    return ""
