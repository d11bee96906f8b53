"""A small nonlinear estimator: one hidden layer with ReLU on the frozen feature, trained and stopped as the linear one.

    logit(x) = v . relu(W ((x - mean) * scale) + b) + c

network.safetensors    w float32 [hidden, dim], b [hidden], v [hidden], c [1] on the scaled feature; mean, scale [dim]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.classifier import train_classifier
from emt_core.proximity.heldout import write_heldout
from emt_core.proximity.prepared import prepare, training_progress
from emt_core.proximity.stream import score_blocks
from emt_core.recipe.proximity import MlpMeasure

LOGIT = True
FILE = "network.safetensors"
BLOCK_ROWS = 1024


def fit(config: MlpMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Train it (float64, so that threads do not show) and measure it on episodes it never saw."""
    import torch
    from safetensors.numpy import save_file

    data = prepare(inputs.index, inputs.features, config)
    dim = len(data.mean)
    generator = torch.Generator().manual_seed(config.seed)

    def drawn(*shape: int, fan_in: int) -> torch.Tensor:
        """He initialisation for the layer before a ReLU."""
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * (2 / fan_in) ** 0.5
        return values.requires_grad_(True)

    w, b = (
        drawn(config.hidden, dim, fan_in=dim),
        torch.zeros(config.hidden, dtype=torch.float64, requires_grad=True),
    )
    v = torch.zeros(
        config.hidden, dtype=torch.float64, requires_grad=True
    )  # starts undecided, as the linear one
    c = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with training_progress(inputs.progress, config) as report:
        history, stopped = train_classifier(
            config,
            data.draws.batches(config.batch, config.steps),
            data.validation,
            [w, b, v, c],
            lambda x: torch.relu(x @ w.T + b) @ v + c,
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
    from safetensors.numpy import load_file

    stored = load_file(fitted / FILE)
    if stored["w"].shape[1] != inputs.features.dim:
        raise EmtError(
            f"the network takes {stored['w'].shape[1]} dimensions, the features have {inputs.features.dim}",
            where=fitted,
            remedy="give measure and score the same embed instance",
        )
    return score_blocks(
        inputs.features, BLOCK_ROWS, lambda x: network_logits(x, stored), start=start
    )


def network_logits(x: np.ndarray, stored: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [n] for float32 [n, dim]."""
    import torch

    t = {name: torch.from_numpy(value) for name, value in stored.items()}
    scaled = (torch.from_numpy(x) - t["mean"]) * t["scale"]
    return (torch.relu(torch.addmm(t["b"], scaled, t["w"].T)) @ t["v"] + t["c"]).numpy()
