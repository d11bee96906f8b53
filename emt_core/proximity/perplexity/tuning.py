"""The brief fine-tuning of a VLM on robot samples with actions as text that perplexities need (method section 5).

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
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.batches import robot_rows
from emt_core.proximity.perplexity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.split import training_rows
from emt_core.proximity.windows import NoScore, decoded
from emt_core.recipe.proximity import PerplexityMeasure
from emt_core.workspace.files import write_json, write_text

WARMUP = 0.1
SAVE_SECONDS = 60.0
"""A checkpoint is three times the weights: more often would cost a large model more than it saves."""


def tune(
    config: PerplexityMeasure, inputs: Inputs, out: Path, model: str, revision: str | None
) -> dict[str, Any]:
    """Fine-tune all parameters, each robot set equally likely; cosine rate with a warm-up of a tenth.

    What is drawn depends on the step alone, so a resumed run ends with the same weights. Returns figures of it. Raises
    EmtError where the loss is not finite or no robot frame can be shown.
    """
    import torch

    from emt_core.models.encoders.base import choose_device
    from emt_core.models.vlm.load import load_vlm
    from emt_core.proximity.perplexity.token_loss import Reader
    from emt_core.training.checkpoints import Checkpoints, read_training_state, write_training_state
    from emt_core.training.midtrain.batches import collate
    from emt_core.training.midtrain.loss import SupervisedLoss
    from emt_core.training.schedule import cosine_rate, seed_step, set_rate, warmup_steps

    _, robots = training_rows(config, inputs.index, inputs.features)
    sources = inputs.index.of_role("robot")
    actions = Actions(inputs.index)
    edges = {
        s.name: bin_edges(actions, s, rows, config.action_bins)
        for s, rows in zip(sources, robots, strict=True)
    }
    reader = Reader(model, revision, cutoff=config.cutoff)
    vlm = load_vlm(model, revision).to(choose_device(inputs.runtime.device), torch.float32).train()
    device = next(vlm.parameters()).device
    loss_of = SupervisedLoss(vlm)
    optimizer = torch.optim.AdamW(vlm.parameters(), lr=config.learning_rate, weight_decay=0.0)
    warmup = warmup_steps(config.steps, WARMUP)
    rates = [
        cosine_rate(s + 1, peak=config.learning_rate, steps=config.steps, warmup=warmup)
        for s in range(config.steps)
    ]
    checkpoints, losses = Checkpoints(out / "checkpoints", keep=1), list[float]()
    if (found := checkpoints.latest()) is not None:
        read_training_state(found.path, vlm, optimizer)
        losses += found.facts["losses"]
    saved = time.monotonic()
    with inputs.progress.track(
        "tuning on robot data", config.steps, done=len(losses), unit="steps"
    ) as tracker:
        for step in range(len(losses) + 1, config.steps + 1):
            seed_step(config.seed, step)
            which, rows = robot_rows(
                robots, np.random.default_rng([config.seed, 7, step]), config.batch
            )
            items = []
            for place, sample in zip(which, inputs.index.samples(rows), strict=True):
                answered = with_answer(sample, spoken(actions.of(sample), edges[sample.source]))
                with suppress(NoScore):
                    images = decoded(inputs, sources[place], sample, config.max_images)
                    items.append(reader.item(answered, images))
            if not items:
                raise EmtError(
                    "none of the robot frames drawn can be shown to the VLM", where=model
                )
            batch = collate(items, reader.pad)
            moved = {name: value.to(device) for name, value in batch.inputs.items()}
            loss = loss_of(moved, batch.labels.to(device)) / batch.supervised
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
    reader.preparer.processor.save_pretrained(out / "tuned")
    write_json(out / "actions.json", {name: found.tolist() for name, found in edges.items()})
    log = [
        {"step": s, "loss": v, "learning_rate": r}
        for s, (v, r) in enumerate(zip(losses, rates, strict=True), 1)
    ]
    write_text(out / "steps.jsonl", "".join(json.dumps(line) + "\n" for line in log))
    return {"steps": len(losses), "loss_first": losses[0], "loss_last": float(np.mean(losses[-5:]))}


def take_over(tuned: Path, out: Path) -> None:
    """The files of a finished tuning, as hard links where the file system has them: a VLM is gigabytes."""
    for name in ("actions.json", "steps.jsonl"):
        shutil.copyfile(tuned / name, out / name)
    shutil.rmtree(out / "tuned", ignore_errors=True)  # of a run that was killed here
    shutil.copytree(tuned / "tuned", out / "tuned", copy_function=_linked)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
