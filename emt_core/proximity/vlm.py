"""The VLM that a measure asks: which one it is, loaded for losses and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emt_core.errors import EmtError
from emt_core.models.device import Precision, choose_dtype
from emt_core.models.identity import locate_model
from emt_core.models.vlm.load import load_vlm
from emt_core.proximity.base import Inputs
from emt_core.recipe.proximity import VlmMeasure
from emt_core.run.device import choose_device

if TYPE_CHECKING:
    import torch


def the_model(config: VlmMeasure, inputs: Inputs) -> tuple[str, str | None]:
    """(folder or hub name, revision) of the VLM: the measure's own, else that of the features."""
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


def load_for_loss(
    model: str, revision: str | None, device: str, precision: Precision = "auto"
) -> torch.nn.Module:
    """The VLM in evaluation mode."""
    chosen = choose_device(device)
    dtype = choose_dtype(precision, chosen)
    return load_vlm(model, revision, device=chosen, dtype=dtype).eval()
