"""`emt check-model NAME`: can this VLM be mid-trained here, and is it understood rightly?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MARK = {
    "ok": "[green]ok[/]",
    "look": "[yellow]look[/]",
    "failed": "[red]failed[/]",
    "left out": "[yellow]left out[/]",
}


def check_model(
    name: Annotated[str, typer.Argument(help="Hub name, or folder of a model.", metavar="NAME")],
    revision: Annotated[str | None, typer.Option(help="Hub revision; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    cutoff: Annotated[
        int, typer.Option(min=64, help="Sequence length of the training that is meant.")
    ] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Its global batch, on this one device.")] = 256,
) -> None:
    """Count what mid-training a VLM would take, then load it and try all that is needed of it:
    class, image tokens, template, label mask, padding, an answer, a training step. Each check
    prints as it ends; one that does not fit into memory is left out. Writes nothing; exit code 2
    where something failed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from emt_core.errors import EmtError
    from emt_core.models.identity import locate_model, model_identity
    from emt_core.training.midtrain.model_check import ModelCheck, repository_hint

    # a name that does not exist fails here, before a minute of the hub client's retries
    try:
        if isinstance(locate_model(name, Path.cwd()), str):
            model_identity(name, revision, Path.cwd())
    except EmtError as error:
        hint = repository_hint(name)
        raise EmtError(error.what, where=error.where, remedy=hint or error.remedy) from error
    check = ModelCheck(name, revision=revision, device=device, cutoff=cutoff, batch=batch)
    console = Console()
    found = []
    with console.status("") as status:  # on a terminal: what is at work
        for finding in check.findings(status.update):
            found.append(finding)
            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_column(width=18)
            line.add_column(width=8)
            line.add_column(overflow="fold")
            line.add_row(finding.question, MARK[finding.verdict], escape(finding.says))
            console.print(line)
    failed = [finding.question for finding in found if finding.verdict == "failed"]
    if failed:
        raise EmtError(
            f"{name} cannot be mid-trained as it is: {', '.join(failed)}",
            remedy="the lines above say why; supported are InternVL- and Qwen3-VL-class models",
        )
