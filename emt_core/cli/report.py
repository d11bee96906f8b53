"""`emt report`: a workspace's story as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emt_core.cli.options import RanOpt, ThereOpt
from emt_core.cli.options import out as console
from emt_core.workspace.artifact import Workspace


def report(
    workspace: ThereOpt,
    recipe: RanOpt = None,
    story: Annotated[
        str | None,
        typer.Option("--story", "-s", help="Story of the Present page; default: the last saved."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File or folder; default: RECIPE-STORY.html here."),
    ] = None,
) -> None:
    """Write the story for others: one HTML file that opens offline. The workspace is only read."""
    from emt_core.explore.report.report import write_report

    space = Workspace.open(workspace, read_only=True)
    done = write_report(space, recipe=recipe, story=story, out=out)
    blocks = sum(block.content is not None for block in done.blocks)
    console.print(f"{blocks} blocks, {done.bytes / 1e6:.1f} MB -> {done.path}", markup=False)
    for heading, stages in done.left_out.items():
        missing = f"left out: {heading} (run {', '.join(stages)} first)"
        console.print(missing, markup=False, style="yellow")
