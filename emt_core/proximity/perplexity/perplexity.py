"""VLA-conditioned perplexity and delta perplexity (method section 5).

The VLM that made the features (or another) is briefly fine-tuned on robot samples with actions as
text (tuning.py, also for the files); then

    perplexity         score(x) = -log PPL_VLA(x)              lowest perplexity first
    delta_perplexity   score(x) = PPL_VLM(x) - PPL_VLA(x)      most negative PPL_VLA - PPL_VLM first

over the assistant's tokens of x given its images and questions. The logarithm changes no rank and
keeps a histogram readable; the difference is the paper's, of plain perplexities. Robot frames are
scored on their action text.

With equal settings both use one tuned VLM, and delta perplexity the losses of a finished score of
perplexity (twin.py): losses count as float32, so it has the same bits either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.index import SourceRange
from emt_core.data.sample import Sample
from emt_core.models.vlm.batch import move
from emt_core.models.vlm.load import decoder_of, load_processor
from emt_core.proximity.base import Inputs, ScoresOf
from emt_core.proximity.perplexity.action_text import Actions, spoken, with_answer
from emt_core.proximity.perplexity.tuning import take_over, tune
from emt_core.proximity.perplexity.twin import taken_over
from emt_core.proximity.vlm import load_for_loss, the_model
from emt_core.proximity.windows import score_windows
from emt_core.recipe.proximity import PerplexityMeasure
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.micro_batch import IGNORE, TrainingItem, collate
from emt_core.workspace.table import Table

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 1024
"""Tokens whose logits exist at a time."""

LOGIT = False
WORST = 80.0
"""Nats a token beyond which a perplexity is not told apart: exp of it still fits a float32."""


def fit(config: PerplexityMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Fine-tune the VLM, or take it over from the twin of the same settings."""
    if inputs.twin is None:
        return tune(config, inputs, out, *the_model(config, inputs))
    take_over(inputs.twin.data, out)
    figures = ("steps", "loss_first", "loss_last")
    return {name: inputs.twin.metrics[name] for name in figures} | taken_over(inputs.twin)


def scorer(config: PerplexityMeasure, inputs: Inputs, fitted: Path) -> ScoresOf:
    folder = str(fitted / "tuned")
    preparer = ConversationPreparer(load_processor(folder), cutoff=config.cutoff)
    stored = json.loads((fitted / "actions.json").read_text(encoding="utf-8"))
    edges = {name: np.array(values) for name, values in stored.items()}
    actions = Actions(inputs.index)
    shared = Table(inputs.twin.data / "scores.lance") if inputs.twin is not None else None
    where = (inputs.runtime.device, inputs.precision)
    tuned = load_for_loss(folder, None, *where) if shared is None else None
    origin = None
    if config.kind == "delta_perplexity":
        origin = load_for_loss(*the_model(config, inputs), *where)

    def prepare(source: SourceRange, sample: Sample, images: list[Image.Image]) -> TrainingItem:
        if source.role == "robot":
            sample = with_answer(sample, spoken(actions.of(sample), edges[source.name]))
        return preparer.prepare(sample, images)

    def score(items: Sequence[TrainingItem]) -> np.ndarray:
        if tuned is None:
            return mean_losses(origin, items, preparer.pad)
        nats = mean_losses(tuned, items, preparer.pad)
        return -nats if origin is None else delta(mean_losses(origin, items, preparer.pad), nats)

    def scores_of(start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        bounds = {"max_images": config.max_images, "cutoff": config.cutoff}
        for first, values in score_windows(inputs, prepare, score, start, stop, **bounds):
            if shared is not None:
                logit = shared.column("logit", start=first, stop=first + len(values))
                values = delta(values, -logit).astype(np.float32)
            yield first, values

    return scores_of


def delta(origin: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """PPL_VLM - PPL_VLA from mean losses in nats, float64 [n]."""
    return _perplexity(origin) - _perplexity(tuned)


def _perplexity(nats: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(nats.astype(np.float32), WORST).astype(np.float64))


def mean_losses(vlm: Any, items: Sequence[TrainingItem], pad: int) -> np.ndarray:
    """float64 [n]: mean negative log likelihood (nats) of each item's supervised tokens.

    Its exp is the perplexity.
    """
    import torch
    from torch.nn.functional import cross_entropy

    batch = collate(items, pad)
    weight = next(vlm.parameters())
    inputs = move(batch.inputs, weight.device, weight.dtype)
    with torch.inference_mode():
        hidden = decoder_of(vlm)(**inputs, use_cache=False).last_hidden_state[:, :-1]
        targets = batch.labels[:, 1:].to(weight.device)
        chosen = targets != IGNORE
        parts = zip(hidden[chosen].split(CHUNK), targets[chosen].split(CHUNK), strict=True)
        losses = torch.cat(
            [
                cross_entropy(vlm.get_output_embeddings()(states).float(), ids, reduction="none")
                for states, ids in parts
            ]
        )
        row = chosen.nonzero()[:, 0]
        total = torch.zeros(len(items), dtype=torch.float64, device=weight.device)
        total.index_add_(0, row, losses.double())
        return (total / torch.bincount(row, minlength=len(items))).cpu().numpy()
