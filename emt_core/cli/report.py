"""`emt report`: a workspace's story as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from emt_core.workspace.artifact import Workspace


def report(
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder that holds all results.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Name of a recipe that ran there; default: the last."),
    ] = None,
    story: Annotated[
        str | None,
        typer.Option(
            "--story", "-s", help="A story saved on the Present page; default: the last saved."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File or folder to write; default: RECIPE-STORY.html here."
        ),
    ] = None,
) -> None:
    """Write the story for collaborators: one HTML file that opens offline. Changes nothing in the
    workspace."""
    from emt_core.explore.report.write import write_report

    done = write_report(
        Workspace.open(workspace, read_only=True), recipe=recipe, story=story, out=out
    )
    console = Console()
    told = sum(block.content is not None for block in done.told)
    console.print(f"{told} blocks, {done.bytes / 1e6:.1f} MB -> {done.path}", markup=False)
    for heading, stages in done.left_out.items():
        console.print(
            f"left out: {heading} (run {', '.join(stages)} first)", markup=False, style="yellow"
        )
