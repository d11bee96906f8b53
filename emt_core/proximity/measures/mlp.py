"""A small nonlinear estimator: one hidden ReLU layer on the frozen feature.

    logit(x) = v . relu(W ((x - mean) * scale) + b) + c

It is trained and stopped as the linear one.

network.safetensors    w float32 [hidden, dim], b [hidden], v [hidden], c [1] on the scaled feature;
                       mean, scale [dim]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs, ScoreOf
from emt_core.proximity.classifier import train_classifier
from emt_core.proximity.heldout import write_heldout
from emt_core.proximity.prepared import prepare, training_progress
from emt_core.proximity.stream import score_blocks
from emt_core.recipe.proximity import MlpMeasure

LOGIT = True
FILE = "network.safetensors"
BLOCK_ROWS = 1024


def fit(config: MlpMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Train it and measure it on episodes it never saw.

    In float64, so that the stored float32 weights do not depend on the number of threads.
    """
    import torch
    from safetensors.numpy import save_file

    data = prepare(inputs.index, inputs.features, config)
    dim = len(data.mean)
    generator = torch.Generator().manual_seed(config.seed)

    def drawn(*shape: int, fan_in: int) -> torch.Tensor:
        """He initialisation for the layer before a ReLU."""
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * (2 / fan_in) ** 0.5
        return values.requires_grad_(True)

    def zeros(count: int) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64, requires_grad=True)

    w = drawn(config.hidden, dim, fan_in=dim)
    b = zeros(config.hidden)
    v = zeros(config.hidden)  # starts undecided, as the linear one
    c = zeros(1)
    with training_progress(inputs.progress, config) as report:
        history, stopped = train_classifier(
            config,
            data.draws.batches(config.batch, config.steps),
            data.validation,
            [w, b, v, c],
            lambda x: (torch.relu(x @ w.T + b) @ v + c).reshape(1, -1),
            mean=data.mean,
            scale=data.scale,
            on_step=report,
        )
    parts = {"w": w, "b": b, "v": v, "c": c}
    stored = {name: value.detach().numpy().astype(np.float32) for name, value in parts.items()}
    stored |= {"mean": data.mean.astype(np.float32), "scale": data.scale.astype(np.float32)}
    save_file(stored, out / FILE)
    test = data.test()
    logits = network_logits(test.x.astype(np.float32), stored)
    metrics = write_heldout(out, logits, test, history, stopped, inputs.index)
    return {**metrics, **data.facts()}


def scores(
    config: MlpMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    score = score_of(config, fitted, inputs.features.dim)
    return score_blocks(inputs.features, BLOCK_ROWS, score, start=start)


def score_of(config: MlpMeasure, fitted: Path, dim: int) -> ScoreOf:
    from safetensors.numpy import load_file

    stored = load_file(fitted / FILE)
    width = stored["w"].shape[1]
    if width != dim:
        raise EmtError(
            f"the network takes {width} dimensions, the features have {dim}",
            where=fitted,
            remedy="give measure and score the same embed instance",
        )
    return lambda x: network_logits(x, stored)


def network_logits(x: np.ndarray, stored: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [n] for float32 [n, dim]."""
    import torch

    t = {name: torch.from_numpy(value) for name, value in stored.items()}
    scaled = (torch.from_numpy(x) - t["mean"]) * t["scale"]
    return (torch.relu(torch.addmm(t["b"], scaled, t["w"].T)) @ t["v"] + t["c"]).numpy()
