"""VLA-conditioned perplexity and delta perplexity (method section 5).

The VLM that made the features (or another) is briefly fine-tuned on robot samples with actions as text (tuning.py, also
for the files); then

    perplexity         score(x) = -log PPL_VLA(x)              lowest perplexity first
    delta_perplexity   score(x) = PPL_VLM(x) - PPL_VLA(x)      most negative PPL_VLA - PPL_VLM first

over the assistant's tokens of x given its images and questions. The logarithm changes no rank and keeps a histogram
readable; the difference is the paper's, of plain perplexities. Robot frames are scored on their action text.

With equal settings both use one tuned VLM, and delta perplexity the losses of a finished score of perplexity (twin.py):
losses count as float32, so it has the same bits either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.index import SourceRange
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.perplexity.action_text import Actions, spoken, with_answer
from emt_core.proximity.perplexity.tuning import take_over, tune
from emt_core.proximity.perplexity.twin import taken_over
from emt_core.proximity.windows import score_windows
from emt_core.recipe.proximity import PerplexityMeasure
from emt_core.workspace.table import Table

if TYPE_CHECKING:
    from PIL import Image

    from emt_core.training.midtrain.conversations import TrainingItem

LOGIT = False
WORST = 80.0
"""Nats a token beyond which a perplexity is not told apart: exp of it still fits a float32."""


def the_model(config: PerplexityMeasure, inputs: Inputs) -> tuple[str, str | None]:
    """(folder or hub name, revision) of the VLM. Raises EmtError where none made the features and none is named."""
    from emt_core.models.identity import locate_model

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


def fit(config: PerplexityMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Fine-tune the VLM, or take it over from the twin of the same settings."""
    if inputs.twin is None:
        return tune(config, inputs, out, *the_model(config, inputs))
    take_over(inputs.twin.data, out)
    figures = ("steps", "loss_first", "loss_last")
    return {name: inputs.twin.metrics[name] for name in figures} | taken_over(inputs.twin)


def scores(
    config: PerplexityMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    from emt_core.proximity.perplexity.token_loss import Reader, load_for_loss, mean_losses

    reader = Reader(str(fitted / "tuned"), None, cutoff=config.cutoff)
    stored = json.loads((fitted / "actions.json").read_text(encoding="utf-8"))
    edges = {name: np.array(found) for name, found in stored.items()}
    actions = Actions(inputs.index)
    shared = Table(inputs.twin.data / "scores.lance") if inputs.twin is not None else None
    origin, tuned = None, None
    if shared is None:
        tuned = load_for_loss(str(fitted / "tuned"), None, inputs.runtime.device)
    if config.kind == "delta_perplexity":
        origin = load_for_loss(*the_model(config, inputs), inputs.runtime.device)

    def prepare(source: SourceRange, sample: Sample, images: list[Image.Image]) -> TrainingItem:
        if source.role == "robot":
            sample = with_answer(sample, spoken(actions.of(sample), edges[source.name]))
        return reader.item(sample, images)

    def score(items: Sequence[TrainingItem]) -> np.ndarray:
        if tuned is None:
            return mean_losses(origin, items, reader.pad)
        nats = mean_losses(tuned, items, reader.pad)
        return -nats if origin is None else delta(mean_losses(origin, items, reader.pad), nats)

    parts = score_windows(
        inputs,
        prepare,
        score,
        start=start,
        max_images=config.max_images,
        max_text_tokens=config.cutoff,
    )
    for at, found in parts:
        if shared is not None:
            found = delta(found, -shared.column("logit", start=at, stop=at + len(found))).astype(
                np.float32
            )
        yield at, found


def delta(origin: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """PPL_VLM - PPL_VLA from mean losses in nats, float64 [n]."""
    before, after = (
        np.minimum(nats.astype(np.float32), WORST).astype(np.float64) for nats in (origin, tuned)
    )
    return np.exp(before) - np.exp(after)
