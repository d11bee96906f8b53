"""The one figure of an artifact that people ask for first, from its manifest's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emt_core.figures import numbers

Metrics = Mapping[str, Any]

HEADLINES: dict[str, Callable[[Metrics], str]] = {
    "sources": lambda m: f"{numbers.short(m['pool'])} pool, {numbers.short(m['robot'])} robot",
    "embed": lambda m: f"{m['dim']} dimensions",
    "gap": lambda m: f"MMD² {numbers.decimal(m['pool_to_robot'])}",
    "estimator": lambda m: f"AUROC {numbers.decimal(m['auroc'])}",
    "measure": lambda m: f"AUROC {numbers.decimal(m['auroc'])}",
    "select": lambda m: f"{numbers.short(m['selected'])} selected",
    "midtrain": lambda m: f"loss {numbers.decimal(m['loss'])}",
    "finetune": lambda m: f"loss {numbers.decimal(m['loss'])}",
    "evaluate": lambda m: f"{numbers.share(m['success'])} success",
}


def headline(stage: str, metrics: Metrics) -> str:
    """Empty for a stage without one, or where an earlier version of it did not measure it."""
    try:
        return HEADLINES[stage](metrics)
    except (KeyError, TypeError, ValueError):
        return ""
