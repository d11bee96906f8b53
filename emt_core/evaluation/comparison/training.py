"""How long an evaluated policy was trained, beside the paper's setting."""

from __future__ import annotations

from dataclasses import dataclass

from emt_core.evaluation.comparison.runs import Run
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.workspace.artifact import Workspace


@dataclass(frozen=True, kw_only=True)
class Trained:
    step: int
    """The checkpoint that is reported."""

    steps: int
    """Of the whole fine-tuning, as its recipe has it."""

    frames: int
    """Seen by the policy that is reported; one that was seen twice counts twice."""

    paper_steps: int
    paper_frames: int


def trained(workspace: Workspace, run: Run) -> Trained | None:
    """None where no fine-tuning of this workspace made the policy."""
    key = run.artifact.manifest["parents"].get("finetune")
    finetune = workspace.find("finetune", key) if key else None
    if finetune is None:
        return None
    fields, step = (
        FinetuneConfig.model_fields,
        run.results["chosen"],
    )  # whose defaults are the paper's
    return Trained(
        step=step,
        steps=finetune.config["steps"],
        frames=step * finetune.config["batch"],
        paper_steps=fields["steps"].default,
        paper_frames=fields["steps"].default * fields["batch"].default,
    )
