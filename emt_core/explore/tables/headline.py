"""An artifact's headline number, from its manifest's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emt_core.explore import numbers
from emt_core.explore.tables.measured import measured

Metrics = Mapping[str, Any]

FIGURES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "embed": ("dim", lambda dim: f"{dim} dimensions"),
    "estimator": ("auroc", lambda auroc: f"AUROC {numbers.decimal(auroc)}"),
    "measure": ("auroc", lambda auroc: f"AUROC {numbers.decimal(auroc)}"),
    "select": ("selected", lambda count: f"{numbers.short(count)} selected"),
    "midtrain": ("last_loss", lambda loss: f"loss {numbers.decimal(loss)}"),
    "finetune": ("loss", lambda loss: f"loss {numbers.decimal(loss)}"),
    "evaluate": ("success", lambda rate: f"{numbers.share(rate)} success"),
}
"""Stage -> (metric, how it is written)."""


def headline(stage: str, metrics: Metrics) -> str:
    """ "" for a stage without one, or where it was not measured."""
    if stage == "sources":
        return f"{numbers.short(metrics['pool'])} pool, {numbers.short(metrics['robot'])} robot"
    if stage == "gap":
        near = measured(metrics, "pool_to_robot")
        return "" if near.value is None else f"MMD² {near.text}"
    metric, words = FIGURES.get(stage, ("", str))
    value = metrics.get(metric)
    return words(value) if value is not None else ""
