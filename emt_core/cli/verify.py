"""`emt verify`: are the inputs, byte for byte, what they were?"""

from __future__ import annotations

from typing import Annotated

import typer

from emt_core.cli.options import ThereOpt, check_ran
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import finished, labels_of


def verify(
    workspace: ThereOpt,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe that ran here; default: all.")
    ] = None,
) -> None:
    """Hash every input file: kept the first time, compared later (exit code 2 names changes).

    Keys hold sizes, times and the hashes of index files only, which is quick; this is for when
    that is not enough.
    """
    from emt_core.data.verify import verify as run
    from emt_core.workspace.progress import Progress

    space = Workspace.open(workspace)
    known = check_ran(space, recipe)
    artifacts = {}
    for name in [recipe] if recipe else known:
        done = finished(space, name)
        artifacts |= {done[label].key: done[label] for label in labels_of(done, "sources")}
    if not artifacts:
        raise EmtError(
            "no sources were read here yet",
            where=space.path,
            remedy="emt sources RECIPE --workspace ...",
        )
    for artifact in artifacts.values():
        verdict = run(space, artifact, Progress(label=f"verify {artifact.key[:8]}"))
        size = f"{verdict.files:,} files, {verdict.bytes / 2**20:,.1f} MB"
        if verdict.recorded:
            print(f"sources {artifact.key}: {size}; hashes kept in {verdict.record}")
            continue
        if verdict.changed:
            some = ", ".join(
                f"{line['file']}{'' if line['is'] else ' (gone)'}" for line in verdict.changed[:5]
            )
            raise EmtError(
                f"{len(verdict.changed):,} of {verdict.files:,} input files are not what they "
                f"were: {some}",
                where=verdict.record.with_suffix(".changed.jsonl"),
                remedy="bring the files back, or delete the record beside this list and run the "
                "recipe again",
            )
        print(f"sources {artifact.key}: {size}, all as they were")
