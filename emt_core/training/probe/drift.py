"""Drift: how far mid-training moved what the VLM makes of robot, selected and general samples.

A representation of a sample is the mean over tokens (or patches) of what a layer puts out:

vision_early     the last block of the first half of the vision encoder
vision_late      its last block
projector        what the language model is given of the picture
language_early   the last block of the first half of the language model
language_late    its last block

Samples pass one at a time, so that a vector depends on its sample alone in models whose patches of
a whole batch lie in one row (Qwen). Kept are `samples` vectors a group: memory does not grow with
pool, picture or text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emt_core.data.images.decode import open_images
from emt_core.data.images.handles import ImageProblem
from emt_core.data.sample import ImageRef
from emt_core.models.prepared import Prepared, Refused
from emt_core.models.vlm.batch import collate, move
from emt_core.models.vlm.chat import Chat, Message
from emt_core.models.vlm.load import decoder_of, load_processor, load_vlm
from emt_core.training.parts import BLOCKS, need_known
from emt_core.training.probe.similarity import linear_cka, neighbor_overlap

if TYPE_CHECKING:
    from emt_core.data.sample import Sample

GROUPS = ("vision_early", "vision_late", "projector", "language_early", "language_late")
PROJECTORS = {"internvl": "model.multi_modal_projector", "qwen3_vl": "model.visual.merger"}
MOST_IMAGES = 1
"""Of a sample: its first one. What is compared are pictures and words, not albums."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One sample that both models are shown."""

    images: tuple[ImageRef, ...]
    root: Path
    max_pixels: int
    instruction: str = ""
    """Of a robot frame."""

    sample: Sample | None = None
    """Of a pool sample."""


class Layers:
    """A VLM whose layers are listened to."""

    def __init__(
        self,
        model: str | Path,
        revision: str | None,
        *,
        prompt: str,
        cutoff: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Raises EmtError for a model type whose parts are not known."""
        self.vlm = load_vlm(model, revision, device=device, dtype=dtype).eval()
        self.vlm.requires_grad_(False)
        need_known(self.vlm, "probe.drift_samples")
        self.chat = Chat(load_processor(model, revision), cutoff=cutoff)
        self.prompt = prompt
        self.device = device
        self.dtype = dtype

    def vectors(self, shown: Shown) -> list[np.ndarray] | None:
        """float32 [d] of each group; None where the picture cannot be read or the model refuses."""
        prepared = self._prepare(shown)
        if prepared is None:
            return None
        inputs = move(collate([prepared], self.chat.pad), self.device, self.dtype)
        with torch.inference_mode(), _listening(self.vlm) as heard:
            decoder_of(self.vlm)(**inputs, use_cache=False)
        return [heard[group] for group in GROUPS]

    def _prepare(self, shown: Shown) -> Prepared | None:
        images = open_images(shown.images[:MOST_IMAGES], shown.root, shown.max_pixels)
        opened = [image for image in images if not isinstance(image, ImageProblem)]
        if not opened or len(opened) < len(images):
            return None
        try:
            return self.chat.prepare_messages(self._messages(shown), opened, prompt=True)
        except Refused:
            return None

    def _messages(self, shown: Shown) -> list[Message]:
        if shown.sample is not None:
            return self.chat.messages(shown.sample, MOST_IMAGES, "user")
        text = self.prompt.replace("{instruction}", self.chat.plain(shown.instruction))
        return [Message("user", (None, text))]


@contextmanager
def _listening(vlm: Any) -> Iterator[dict[str, np.ndarray]]:
    """Group -> float32 [d] of the pass that is made meanwhile."""
    heard: dict[str, np.ndarray] = {}

    def hook(group: str) -> Callable[..., None]:
        def hear(_module: Any, _arguments: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple) else output
            heard[group] = found.float().reshape(-1, found.shape[-1]).mean(0).cpu().numpy()

        return hear

    hooks = [
        vlm.get_submodule(name).register_forward_hook(hook(group))
        for group, name in modules_of(vlm).items()
    ]
    try:
        yield heard
    finally:
        for one in hooks:
            one.remove()


def modules_of(vlm: Any) -> dict[str, str]:
    """Group -> name of the module whose output stands for it."""
    kind = vlm.config.model_type
    found = {"projector": PROJECTORS[kind]}
    for part, start in BLOCKS[kind].items():
        count = len(vlm.get_submodule(start.rstrip(".")))
        found[f"{part}_early"] = f"{start}{(count + 1) // 2 - 1}"
        found[f"{part}_late"] = f"{start}{count - 1}"
    return {group: found[group] for group in GROUPS}


def representations(
    layers: Layers, shown: Sequence[Shown], advance: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """Group -> float32 [n, d]; NaN rows for samples that cannot be shown."""
    rows: list[list[np.ndarray] | None] = []
    for one in shown:
        rows.append(layers.vectors(one))
        advance(1)
    first = next((row for row in rows if row is not None), None)
    if first is None:
        return {group: np.empty((len(rows), 0), np.float32) for group in GROUPS}
    found = {}
    for place, group in enumerate(GROUPS):
        gap = np.full(first[place].shape, np.nan, np.float32)
        found[group] = np.stack([gap if row is None else row[place] for row in rows])
    return found


def drift_rows(
    name: str, before: dict[str, np.ndarray], after: dict[str, np.ndarray], neighbors: int
) -> list[dict[str, Any]]:
    """For each group `{"images", "group", "cka", "overlap", "low", "high", "samples"}`.

    low, high: 95 % interval of the overlap, a bootstrap over samples; None with fewer than three.
    """
    rows = []
    for group in GROUPS:
        first, second = before[group], after[group]
        there = np.isfinite(first).all(1) & np.isfinite(second).all(1) & (first.shape[1] > 0)
        if there.sum() < 3:
            continue
        overlap = neighbor_overlap(first[there], second[there], neighbors)
        drawn = np.random.default_rng(0).choice(overlap, (2_000, len(overlap))).mean(1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        rows.append(
            {
                "images": name,
                "group": group,
                "cka": linear_cka(first[there], second[there]),
                "overlap": float(overlap.mean()),
                "low": float(low),
                "high": float(high),
                "samples": int(there.sum()),
            }
        )
    return rows
