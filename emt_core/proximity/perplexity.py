"""VLA-conditioned perplexity and delta perplexity (method section 5).

The VLM that made the features (or another) is briefly fine-tuned on robot samples with actions as text; then

    perplexity         score(x) = -log PPL_VLA(x)              lowest perplexity first
    delta_perplexity   score(x) = PPL_VLM(x) - PPL_VLA(x)      most negative PPL_VLA - PPL_VLM first

over the assistant's tokens of x given its images and questions. The logarithm changes no rank and keeps a histogram
readable; the difference is the paper's, of plain perplexities. Robot frames are scored on their action text.

tuned/          the fine-tuned VLM (`from_pretrained`)
actions.json    source -> inner edges of the bins of each action dimension
steps.jsonl     step, loss (nats a token), learning_rate
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.artifact import write_json
from emt_core.encoders.reuse import source_config
from emt_core.errors import EmtError
from emt_core.index import SourceRange
from emt_core.measure_config import MeasureConfig
from emt_core.proximity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.base import Inputs, training_rows
from emt_core.proximity.windows import score_windows
from emt_core.sample import Sample

LOGIT = False
WARMUP = 0.1
WORST = 80.0
"""Nats a token beyond which a perplexity is not told apart: exp of it still fits a float32."""


def the_model(config: MeasureConfig, inputs: Inputs) -> tuple[str, str | None]:
    """(folder or hub name, revision) of the VLM. Raises EmtError where none made the features and none is named."""
    from emt_core.model_identity import locate_model

    if config.model:
        return str(locate_model(config.model, inputs.base)), config.revision
    embed = inputs.embed.manifest
    if embed["config"].get("encoder") != "vlm":
        raise EmtError(
            "the features were not made by a VLM, so there is none to take perplexities with",
            where="measure.model",
            remedy="name a VLM: a folder or a hub name",
        )
    revision = (embed["identity"] or {}).get("revision") or embed["config"].get("revision")
    return str(locate_model(embed["config"]["model"], inputs.base)), revision


def fit(config: MeasureConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Fine-tune all parameters on robot samples, each set equally likely; cosine rate with a warm-up of a tenth."""
    import torch

    from emt_core.encoders.base import choose_device
    from emt_core.policies.backbone import load_vlm
    from emt_core.proximity.token_loss import Reader
    from emt_core.training.batches import collate
    from emt_core.training.loss import SupervisedLoss
    from emt_core.training.schedule import cosine_rate, set_rate, warmup_steps

    _, robots = training_rows(config, inputs)
    sources = inputs.index.of_role("robot")
    actions = Actions(inputs.index)
    edges = {s.name: bin_edges(actions, s, rows, config.action_bins) for s, rows in zip(sources, robots, strict=True)}
    model, revision = the_model(config, inputs)
    reader = Reader(model, revision, cutoff=config.max_text_tokens, max_images=config.max_images)
    vlm = load_vlm(model, revision).to(choose_device(inputs.runtime.device), torch.float32).train()
    device = next(vlm.parameters()).device
    loss_of = SupervisedLoss(vlm)
    optimizer = torch.optim.AdamW(vlm.parameters(), lr=config.tune_rate, weight_decay=0.0)
    stream = np.random.default_rng([config.seed, 7])
    losses: list[float] = []
    bounds = {s.name: source_config(inputs.index, s)["max_pixels"] for s in sources}
    torch.manual_seed(config.seed)
    with (
        inputs.progress.track("tuning on robot data", config.tune_steps, unit="steps") as tracker,
        (out / "steps.jsonl").open("w", encoding="utf-8") as log,
    ):
        for step in range(1, config.tune_steps + 1):
            which = stream.integers(len(robots), size=config.tune_batch)
            rows = [
                int(robots[w][int(p * len(robots[w]))]) for w, p in zip(which, stream.random(len(which)), strict=True)
            ]
            items = []
            for sample, w in zip(inputs.index.samples(rows), which, strict=True):
                spoken_sample = with_answer(sample, spoken(actions.of(sample), edges[sample.source]))
                item = reader.item(spoken_sample, sources[w].root, bounds[sample.source])
                if item is not None:
                    items.append(item)
            if not items:
                raise EmtError("none of the robot frames drawn can be shown to the VLM", where=model)
            batch = collate(items, reader.pad)
            moved = {name: value.to(device) for name, value in batch.inputs.items()}
            loss = loss_of(moved, batch.labels.to(device)) / batch.supervised
            if not torch.isfinite(loss):
                raise EmtError(
                    f"the loss is not finite at step {step}", where="measure.tune_rate", remedy="lower tune_rate"
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vlm.parameters(), 1.0)
            rate = cosine_rate(
                step, peak=config.tune_rate, steps=config.tune_steps, warmup=warmup_steps(config.tune_steps, WARMUP)
            )
            set_rate(optimizer, rate)
            optimizer.step()
            losses.append(loss.item())
            log.write(json.dumps({"step": step, "loss": losses[-1], "learning_rate": rate}) + "\n")
            tracker.doing = f"tuning on robot data, loss {losses[-1]:.3f}"
            tracker.advance()
    vlm.save_pretrained(out / "tuned")
    reader.preparer.processor.save_pretrained(out / "tuned")
    write_json(out / "actions.json", {name: found.tolist() for name, found in edges.items()})
    return {"steps": len(losses), "loss_first": losses[0], "loss_last": float(np.mean(losses[-5:]))}


def scores(config: MeasureConfig, inputs: Inputs, fitted: Path, start: int) -> Iterator[tuple[int, np.ndarray]]:
    from emt_core.proximity.token_loss import Reader, load_for_loss, mean_losses

    reader = Reader(str(fitted / "tuned"), None, cutoff=config.max_text_tokens, max_images=config.max_images)
    tuned = load_for_loss(str(fitted / "tuned"), None, inputs.runtime.device)
    origin = load_for_loss(*the_model(config, inputs), inputs.runtime.device) if config.kind != "perplexity" else None
    stored = json.loads((fitted / "actions.json").read_text(encoding="utf-8"))
    edges = {name: np.array(found) for name, found in stored.items()}
    actions = Actions(inputs.index)

    def score(source: SourceRange, samples: Sequence[Sample]) -> np.ndarray:
        bound = source_config(inputs.index, source)["max_pixels"]
        if source.role == "robot":
            samples = [with_answer(s, spoken(actions.of(s), edges[source.name])) for s in samples]
        items = [reader.item(sample, source.root, bound) for sample in samples]
        good = [place for place, item in enumerate(items) if item is not None]
        found = np.full(len(samples), np.nan, np.float32)
        if good:
            shown = [item for item in items if item is not None]
            nats = mean_losses(tuned, shown, reader.pad)
            found[good] = -nats if origin is None else delta(mean_losses(origin, shown, reader.pad), nats)
        return found

    return score_windows(
        inputs.index,
        score,
        start=start,
        batch_size=inputs.runtime.batch_size,
        max_images=config.max_images,
        max_text_tokens=config.max_text_tokens,
    )


def delta(origin: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """PPL_VLM - PPL_VLA from mean losses in nats, float64 [n]."""
    return np.exp(np.minimum(origin, WORST)) - np.exp(np.minimum(tuned, WORST))
