"""gradient: would training on the sample move the VLM as training on robot frames does?

After LESS (Xia et al. 2024). A sample's gradient is that of its mean loss with respect to the
second matrices B of a LoRA at its start (A drawn, B = 0), projected to `dims` numbers. The score is
its cosine with the mean direction of a robot set's frames, whose answer is the action as text: the
largest over the robot sets, as LESS takes it over its validation tasks.

Where it departs from LESS: gradients are those of the model as it is, without a warm-up on the
pool, and of plain descent, not of Adam.

target.npz      float32 [robot sets, dims], rows of length 1
actions.json    source -> inner edges of the bins of each action dimension
checkpoints/    until the commit: sums so far; a kill costs at most SAVE_SECONDS

One sample is passed through the model at a time, so a gradient does not depend on the batch, and
memory is that of one sequence and of two numbers (place, sign) for each weight of the B matrices.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.index import SourceRange
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.images import decoded_images
from emt_core.models.prepared import Refused
from emt_core.models.refusals import RefusedShare
from emt_core.models.vlm.batch import move
from emt_core.models.vlm.load import load_processor
from emt_core.proximity.base import Inputs, ScoresOf
from emt_core.proximity.batches import bounded
from emt_core.proximity.perplexity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.split import training_rows
from emt_core.proximity.vlm import load_for_loss, the_model
from emt_core.proximity.windows import score_windows
from emt_core.recipe.proximity import GradientMeasure
from emt_core.training.checkpoints import Checkpoints
from emt_core.training.low_rank import LAYERS
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.micro_batch import TrainingItem, collate
from emt_core.training.schedule import seed_of
from emt_core.workspace.files import write_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

LOGIT = False
TARGET = "target.npz"
SUMS = "sums.npz"
SAVE_SECONDS = 30.0


def fit(config: GradientMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """The mean direction of each robot set's gradients, over frames of the training part.

    Raises EmtError where no frame of a set can be shown to the VLM.
    """
    frames = _RobotFrames(config, inputs)
    write_json(out / "actions.json", {name: e.tolist() for name, e in frames.edges.items()})
    gradients = Gradients(config, inputs)
    sums = _Sums(out / "checkpoints", (len(frames.sources), config.dims))
    rows = bounded(frames.training_rows, config.robot_rows, config.seed)
    order = [(place, row) for place, of_set in enumerate(rows) for row in of_set.tolist()]
    with inputs.progress.track("gradients of robot frames", len(order), done=sums.done) as tracker:
        for place, row in order[sums.done :]:
            item = frames.item(place, row)
            if item is not None:
                sums.add(place, gradients.unit(item, frames.preparer.pad))
            sums.done += 1
            sums.save_now_and_then()
            tracker.advance()
    empty = [s.name for s, used in zip(frames.sources, sums.used, strict=True) if not used]
    if empty:
        raise EmtError(
            f"no frame of robot set {empty[0]!r} has a gradient ({frames.refused})",
            where="measure.gradient",
            remedy="look at the frames on the page Sources; raise measure.cutoff",
        )
    target = _unit_rows(sums.total)
    np.savez(out / TARGET, target=target.astype(np.float32))
    return {
        "robot_rows": int(sums.used.sum()),
        "parameters": gradients.parameters,
        "alignment": _alignment(sums),
    }


def scorer(config: GradientMeasure, inputs: Inputs, fitted: Path) -> ScoresOf:
    """Raises EmtError where the target is of another width."""
    with np.load(fitted / TARGET, allow_pickle=False) as stored:
        target = stored["target"]
    frames = _RobotFrames(config, inputs, fitted)
    gradients = Gradients(config, inputs)

    def prepare(source: SourceRange, sample: Sample, images: list[Image.Image]) -> TrainingItem:
        return frames.prepare(source, sample, images)

    def score(items: Sequence[TrainingItem]) -> np.ndarray:
        # a product for each item: one for all of them would round by their number
        return np.array([(target @ gradients.unit(it, frames.preparer.pad)).max() for it in items])

    bounds = {"max_images": config.max_images, "cutoff": config.cutoff}
    return partial(score_windows, inputs, prepare, score, **bounds)


class Gradients:
    """Projected gradients of a VLM's loss on single samples."""

    def __init__(self, config: GradientMeasure, inputs: Inputs) -> None:
        """Loads the VLM; its own weights stay as they are. Raises EmtError where it has no layer
        that LoRA goes into."""
        from emt_core.training.midtrain.loss import SupervisedLoss

        name, revision = the_model(config, inputs)
        vlm = load_for_loss(name, revision, inputs.runtime.device, inputs.precision)
        self.vlm = vlm.requires_grad_(False)
        self.loss_of = SupervisedLoss(vlm)
        self.ups = low_rank_ups(vlm, config.rank, config.seed)
        if not self.ups:
            raise EmtError(
                "the VLM has no linear layers that LoRA goes into",
                where=name,
                remedy="its language model's layers must be named q_proj, k_proj, ... down_proj",
            )
        self.parameters = sum(up.numel() for up in self.ups)
        self.sketch = Sketch(self.parameters, config.dims, config.seed)

    def unit(self, item: TrainingItem, pad: int) -> np.ndarray:
        """float32 [dims] of length 1; NaN where the gradient is zero or not finite."""
        projected = self.sketch.of(self.full(item, pad)).cpu().numpy().astype(np.float64)
        return _unit_rows(projected[None])[0].astype(np.float32)

    def full(self, item: TrainingItem, pad: int) -> torch.Tensor:
        """float32 [parameters]: gradient of the mean loss of the supervised tokens."""
        import torch

        batch = collate([item], pad)
        weight = next(self.vlm.parameters())
        inputs = move(batch.inputs, weight.device, weight.dtype)
        loss = self.loss_of(inputs, batch.labels.to(weight.device)) / batch.supervised
        parts = torch.autograd.grad(loss, self.ups, allow_unused=True)
        whole = [
            torch.zeros_like(up) if part is None else part
            for up, part in zip(self.ups, parts, strict=True)
        ]
        return torch.cat([part.flatten() for part in whole])


def low_rank_ups(vlm: torch.nn.Module, rank: int, seed: int) -> list[torch.Tensor]:
    """Put W x + B A x into each linear layer of the language model; returns the B, all zero.

    B float32 [out, rank] in the order of the layers; A [rank, in] is drawn from `seed` and the
    layer's name, normal, of variance 1 / in.
    """
    import torch

    ups = []
    for name, layer in vlm.named_modules():
        if not (isinstance(layer, torch.nn.Linear) and re.fullmatch(LAYERS, name)):
            continue
        stream = torch.Generator().manual_seed(seed_of(seed, name))
        down = torch.randn(rank, layer.in_features, generator=stream) / layer.in_features**0.5
        device = layer.weight.device
        up = torch.zeros(layer.out_features, rank, device=device, requires_grad=True)
        layer.register_forward_hook(partial(_add_low_rank, down.to(device), up))
        ups.append(up)
    return ups


def _add_low_rank(
    down: torch.Tensor, up: torch.Tensor, layer: Any, inputs: tuple[Any, ...], output: torch.Tensor
) -> torch.Tensor:
    return output + (inputs[0].float() @ down.T @ up.T).to(output.dtype)


class Sketch:
    """A seeded projection that keeps inner products on average (count sketch, Charikar 2002).

    Each number gets a random sign and one of `dims` places, as many numbers to each place; what
    falls together is added, in an order that is the same on every device.
    """

    def __init__(self, size: int, dims: int, seed: int) -> None:
        import torch

        self.dims = dims
        self.size = size
        stream = torch.Generator().manual_seed(seed_of(seed, "sketch"))
        padded = -(-size // dims) * dims
        self.order = torch.randperm(padded, generator=stream)
        self.signs = torch.randint(0, 2, (padded,), generator=stream).mul_(2).sub_(1).to(torch.int8)

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """float32 [size] -> float32 [dims]."""
        import torch

        if self.order.device != values.device:
            self.order = self.order.to(values.device)
            self.signs = self.signs.to(values.device)
        padded = torch.nn.functional.pad(values, (0, len(self.order) - self.size))
        return (padded[self.order] * self.signs).view(-1, self.dims).sum(dim=0)


class _RobotFrames:
    """What the VLM is shown: pool rows as they are, robot frames with their action as answer."""

    def __init__(self, config: GradientMeasure, inputs: Inputs, fitted: Path | None = None) -> None:
        self.config = config
        self.index = inputs.index
        self.sources = inputs.index.of_role("robot")
        self.actions = Actions(inputs.index)
        processor = load_processor(*the_model(config, inputs))
        self.preparer = ConversationPreparer(processor, cutoff=config.cutoff)
        self.refusals = RefusedShare()
        self.refused: Refused | None = None
        """The last frame's that was."""

        if fitted is None:
            _, self.training_rows = training_rows(config, inputs.index, inputs.features)
            self.edges = {
                source.name: bin_edges(self.actions, source, rows, config.action_bins)
                for source, rows in zip(self.sources, self.training_rows, strict=True)
            }
        else:
            stored = json.loads((fitted / "actions.json").read_text(encoding="utf-8"))
            self.edges = {name: np.array(values) for name, values in stored.items()}

    def item(self, place: int, row: int) -> TrainingItem | None:
        """A robot frame; None where it cannot be shown."""
        source = self.sources[place]
        (sample,) = self.index.samples([row])
        problem = None
        try:
            images = decoded_images(sample, source.root, source.max_pixels, self.config.max_images)
            return self.prepare(source, sample, images)
        except Refused as refused:
            problem = self.refused = refused
            return None
        finally:
            self.refusals.count(source.name, problem)

    def prepare(
        self, source: SourceRange, sample: Sample, images: list[Image.Image]
    ) -> TrainingItem:
        if source.role == "robot":
            action = spoken(self.actions.of(sample), self.edges[source.name])
            sample = with_answer(sample, action)
        return self.preparer.prepare(sample, images)


class _Sums:
    """Sums of unit gradients, a row for each robot set, kept on disk now and then."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        """Goes on from what a killed run left in `folder`."""
        self.checkpoints = Checkpoints(folder, keep=1)
        self.total = np.zeros(shape)
        self.used = np.zeros(shape[0], np.int64)
        self.done = 0
        self.saved = time.monotonic()
        if (last := self.checkpoints.latest()) is not None:
            self.done = last.step
            with np.load(last.path / SUMS, allow_pickle=False) as stored:
                self.total = stored["total"]
                self.used = stored["used"]

    def add(self, place: int, unit: np.ndarray) -> None:
        if np.isfinite(unit).all():
            self.total[place] += unit
            self.used[place] += 1

    def save_now_and_then(self) -> None:
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self.checkpoints.save(self.done, self._write, {})
            self.saved = time.monotonic()

    def _write(self, folder: Path) -> None:
        np.savez(folder / SUMS, total=self.total, used=self.used)


def _alignment(sums: _Sums) -> float:
    """Length of the mean of unit gradients, averaged over the sets: 1 if all frames agree."""
    lengths = np.linalg.norm(sums.total, axis=1) / sums.used
    return float(lengths.mean())


def _unit_rows(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > 0, values / length, np.nan)
