"""`emt export`: a selection in a trainer's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emt_core.cli.options import ThereOpt, out
from emt_core.workspace.artifact import Workspace


def export(
    workspace: ThereOpt,
    to: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to write: new or empty (but see --overwrite)."),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="llamafactory, swift (ms-swift), starvla, llava, openai (messages), hf, parquet "
            "or webdataset.",
        ),
    ] = "llamafactory",
    selection: Annotated[
        str | None,
        typer.Option(
            "--selection", "-s", help="Label (select.quarter) or key; default: the only one there."
        ),
    ] = None,
    images: Annotated[str, typer.Option(help="copy, link or embed.")] = "copy",
    backbone: Annotated[
        str | None,
        typer.Option(help="Model that the training file is for; default: the recipe's backbone."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace an earlier export in the folder; anything else is refused."
        ),
    ] = False,
) -> None:
    """Write a selection in a trainer's format, with a provenance file beside it."""
    from emt_core.selection.export.export import export_selection, find_selection

    space = Workspace.open(workspace)
    report = export_selection(
        space,
        find_selection(space, selection),
        format=format_,
        out=to,
        images=images,
        backbone=backbone,
        overwrite=overwrite,
    )
    out.print(report.summary())
