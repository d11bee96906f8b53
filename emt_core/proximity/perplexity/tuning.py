"""The brief fine-tuning of a VLM on robot actions as text (method section 5).

checkpoints/    one, until the commit: a kill costs at most SAVE_SECONDS
tuned/          the fine-tuned VLM (`from_pretrained`)
actions.json    source -> inner edges of the bins of each action dimension
steps.jsonl     step, loss (nats a token), learning_rate
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.images import decoded_images
from emt_core.models.prepared import Refused
from emt_core.models.refusals import RefusedShare
from emt_core.models.vlm.batch import move
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.proximity.base import Inputs
from emt_core.proximity.batches import robot_rows
from emt_core.proximity.perplexity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.split import training_rows
from emt_core.recipe.proximity import PerplexityMeasure
from emt_core.run.device import choose_device
from emt_core.training.checkpoints import Checkpoints, read_training_state, write_training_state
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.micro_batch import MicroBatch, collate
from emt_core.training.schedule import cosine_rate, seed_step, set_rate, warmup_steps
from emt_core.workspace.files import write_json, write_text

WARMUP = 0.1
SAVE_SECONDS = 60.0
"""A checkpoint is three times the weights: writing it more often would cost more than it saves."""


def tune(
    config: PerplexityMeasure, inputs: Inputs, out: Path, model: str, revision: str | None
) -> dict[str, Any]:
    """Fine-tune all parameters, each robot set equally likely; cosine rate, a tenth of it warm-up.

    What is drawn depends on the step alone, so a resumed run ends with the same weights. Returns
    figures of it. Raises EmtError where the loss is not finite or no robot frame can be shown.
    """
    import torch

    from emt_core.training.midtrain.loss import SupervisedLoss

    frames = RobotFrames(config, inputs, load_processor(model, revision))
    vlm = load_vlm(model, revision, device=choose_device(inputs.runtime.device)).train()
    device = next(vlm.parameters()).device
    loss_of = SupervisedLoss(vlm)
    optimizer = torch.optim.AdamW(vlm.parameters(), lr=config.learning_rate, weight_decay=0.0)
    warmup = warmup_steps(config.steps, WARMUP)
    rates = [
        cosine_rate(step, peak=config.learning_rate, steps=config.steps, warmup=warmup)
        for step in range(1, config.steps + 1)
    ]
    checkpoints = Checkpoints(out / "checkpoints", keep=1)
    losses: list[float] = []
    if (checkpoint := checkpoints.latest()) is not None:
        read_training_state(checkpoint.path, vlm, optimizer)
        losses += checkpoint.facts["losses"]
    saved = time.monotonic()
    with inputs.progress.track(
        "tuning on robot data", config.steps, done=len(losses), unit="steps"
    ) as tracker:
        for step in range(len(losses) + 1, config.steps + 1):
            seed_step(config.seed, step)
            batch = frames.batch(step)
            if batch is None:
                raise EmtError(
                    f"none of the robot frames drawn can be shown to the VLM ({frames.refused})",
                    where=model,
                )
            loss = loss_of(move(batch.inputs, device), batch.labels.to(device)) / batch.supervised
            if not torch.isfinite(loss):
                raise EmtError(
                    f"the loss is not finite at step {step}",
                    where="measure.learning_rate",
                    remedy="lower learning_rate",
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vlm.parameters(), 1.0)
            set_rate(optimizer, rates[step - 1])
            optimizer.step()
            losses.append(loss.item())
            tracker.doing = f"tuning on robot data, loss {losses[-1]:.3f}"
            tracker.advance()
            if time.monotonic() - saved >= SAVE_SECONDS:
                checkpoints.save(
                    step,
                    lambda folder: write_training_state(folder, vlm, optimizer),
                    {"losses": losses},
                )
                saved = time.monotonic()
    vlm.save_pretrained(out / "tuned")
    frames.preparer.processor.save_pretrained(out / "tuned")
    edges = {name: values.tolist() for name, values in frames.edges.items()}
    write_json(out / "actions.json", edges)
    lines = [
        json.dumps({"step": step, "loss": loss, "learning_rate": rate}) + "\n"
        for step, (loss, rate) in enumerate(zip(losses, rates, strict=True), 1)
    ]
    write_text(out / "steps.jsonl", "".join(lines))
    return {"steps": len(losses), "loss_first": losses[0], "loss_last": float(np.mean(losses[-5:]))}


class RobotFrames:
    """Frames of the training part, each with its action as the assistant's answer."""

    def __init__(self, config: PerplexityMeasure, inputs: Inputs, processor: Any) -> None:
        self.config = config
        self.index = inputs.index
        self.preparer = ConversationPreparer(processor, cutoff=config.cutoff)
        self.refusals = RefusedShare()
        self.refused: Refused | None = None
        """The last frame's that was."""

        self.sources = inputs.index.of_role("robot")
        self.actions = Actions(inputs.index)
        _, self.rows = training_rows(config, inputs.index, inputs.features)
        self.edges = {
            source.name: bin_edges(self.actions, source, rows, config.action_bins)
            for source, rows in zip(self.sources, self.rows, strict=True)
        }

    def batch(self, step: int) -> MicroBatch | None:
        """The frames of a step that can be shown; None where there is none."""
        stream = np.random.default_rng([self.config.seed, 7, step])
        which, rows = robot_rows(self.rows, stream, self.config.batch)
        items = []
        for place, sample in zip(which, self.index.samples(rows), strict=True):
            source = self.sources[place]
            action = spoken(self.actions.of(sample), self.edges[sample.source])
            problem = None
            try:
                images = decoded_images(
                    sample, source.root, source.max_pixels, self.config.max_images
                )
                items.append(self.preparer.prepare(with_answer(sample, action), images))
            except Refused as refused:
                problem = self.refused = refused
            self.refusals.count(source.name, problem)
        return collate(items, self.preparer.pad) if items else None


def take_over(tuned: Path, out: Path) -> None:
    """The files of a finished tuning, as hard links where possible: a VLM is gigabytes."""
    for name in ("actions.json", "steps.jsonl"):
        shutil.copyfile(tuned / name, out / name)
    shutil.rmtree(out / "tuned", ignore_errors=True)  # of a run that was killed here
    shutil.copytree(tuned / "tuned", out / "tuned", copy_function=_linked)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
