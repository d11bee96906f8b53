"""`emt ...`: every stage a verb, plus run, status, export, app and demo. Imports nothing heavy before it has to."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from emt_core import __version__
from emt_core.artifact import Workspace
from emt_core.commands.ablation import ablation
from emt_core.commands.app import checkout_file, open_app
from emt_core.commands.check_benchmark import check_benchmark
from emt_core.commands.check_model import check_model
from emt_core.commands.report import report
from emt_core.commands.serve import serve
from emt_core.commands.verify import verify
from emt_core.errors import EmtError, Stopped
from emt_core.flow import FLOW, Stage

app = typer.Typer(
    name="emt",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Find, select and study mid-training data for vision-language-action models (arXiv 2604.20012).\n\n"
        "Start with `emt demo`. With data of your own: write a recipe (recipes/ has examples), look at it with "
        "`emt sources RECIPE`, run it with `emt run RECIPE --workspace W`, open it with `emt app --workspace W`."
    ),
)

RecipeArg = Annotated[
    Path,
    typer.Argument(
        help="Recipe file (.yaml), or the name of one that comes with the product (demo).", metavar="RECIPE"
    ),
]
WorkspaceOpt = Annotated[
    Path, typer.Option("--workspace", "-w", help="Folder that holds all results; made if it is not there.")
]
SetOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a setting of the recipe, e.g. --set select.quarter.fraction=0.5. May be repeated."
    ),
]
out = Console()


@app.command(rich_help_panel="Pipeline")
def run(
    recipe: RecipeArg,
    workspace: WorkspaceOpt,
    until: Annotated[
        str | None, typer.Option(help="Stop after this stage (or one instance, e.g. select.quarter) and what it needs.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Begin at this stage: everything before it must be there already.")
    ] = None,
    set_: SetOpt = None,
) -> None:
    """Run a recipe: whatever is missing, in order. Finished stages are found, interrupted ones resumed."""
    _run(recipe, workspace, set_, until=until, start=start)


def _run(
    recipe: Path, workspace: Path, set_: list[str] | None, *, until: str | None = None, start: str | None = None
) -> dict[str, Any]:
    from emt_core.job_record import asked_for, enlisted
    from emt_core.plan import make_plan
    from emt_core.recipe import load_recipe
    from emt_core.runner import run_plan

    loaded = load_recipe(recipe, set_ or ())
    assert loaded.file is not None
    plan = make_plan(loaded)
    space = Workspace.open(workspace, create=True)
    asked = asked_for(space, loaded.file, until=until, start=start, overrides=set_ or ())
    with enlisted(space, asked):
        return run_plan(plan, space, until=until, start=start)


def _add_stage_verb(stage: Stage) -> None:
    def verb(recipe: RecipeArg, workspace: WorkspaceOpt, set_: SetOpt = None) -> None:
        _run(recipe, workspace, set_, until=stage.name)

    parents = [*stage.needs, *([" or ".join(stage.one_of)] if stage.one_of else [])]
    needs = f" Needs: {', '.join(parents)} (run first where missing)." if parents else ""
    asks = f" Where the recipe's settings ask for it, also: {', '.join(stage.may_use)}." if stage.may_use else ""
    verb.__doc__ = f"{stage.sentence}{needs}{asks}"
    app.command(stage.name, rich_help_panel="Stages")(verb)


@app.command(rich_help_panel="Stages")
def sources(
    recipe: RecipeArg,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Also run the stage and keep its index here.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Look only at the first rows of each source.")] = None,
    thumbnails: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of a few images per source into this folder.")
    ] = None,
    set_: SetOpt = None,
) -> None:
    """Look at all sources before any model is loaded: counts, rejects with reasons, sizes, a few thumbnails."""
    from emt_core.preflight import check, preflight, render
    from emt_core.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or ())
    reports = []
    for instance in loaded.instances:
        if instance.stage == "sources":
            found = preflight(instance.config, loaded.base, thumbnails=thumbnails, limit=limit)  # type: ignore[arg-type]
            out.print(render(found))
            reports += found
    check(reports, loaded.base)
    if workspace is not None:
        _run(recipe, workspace, set_, until="sources")


def midtrain(
    recipe: RecipeArg,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Folder that holds all results; made if it is not there.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much memory it would take, and how a step would be cut up.")
    ] = False,
    set_: SetOpt = None,
) -> None:
    """Mid-train the VLM on a selection. Needs: sources, select (run first where missing)."""
    if dry_run:
        from emt_core.commands.midtrain_dry_run import midtrain_dry_run

        midtrain_dry_run(recipe, set_ or ())
        return
    if workspace is None:
        raise typer.BadParameter("give a folder for the results, or --dry-run", param_hint="--workspace")
    _run(recipe, workspace, set_, until="midtrain")


for _stage in FLOW:
    if _stage.name == "midtrain":
        app.command("midtrain", rich_help_panel="Stages")(midtrain)
    elif _stage.name != "sources":
        _add_stage_verb(_stage)

app.command("app", rich_help_panel="Look")(open_app)
app.command(rich_help_panel="Look")(verify)
app.command(rich_help_panel="Look")(ablation)
app.command(rich_help_panel="Use")(report)
app.command(rich_help_panel="Use")(serve)
app.command("check-benchmark", rich_help_panel="Look")(check_benchmark)
app.command("check-model", rich_help_panel="Look")(check_model)


@app.command(rich_help_panel="Look")
def status(
    workspace: WorkspaceOpt,
    recipe: Annotated[Path | None, typer.Argument(help="Recipe; default: all that ran in this workspace.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """What is done, running, stale, failed or missing, and what each artifact holds."""
    from emt_core.plan import make_plan
    from emt_core.recipe import load_recipe
    from emt_core.status import plan_status

    space = Workspace.open(workspace)
    recipes = [recipe] if recipe else sorted((space.path / "recipes").glob("*.yaml"))
    if not recipes:
        raise EmtError("no recipe ran in this workspace yet", where=space.path, remedy="emt run RECIPE --workspace ...")
    found = {path.stem: plan_status(make_plan(load_recipe(path)), space) for path in recipes}
    if as_json:
        print(json.dumps({name: [s.as_dict() for s in states] for name, states in found.items()}, indent=1))
        return
    for name, states in found.items():
        out.print(_status_table(name, states))


COLOURS = {"done": "green", "running": "cyan", "stale": "yellow", "failed": "red", "interrupted": "yellow"}


def _status_table(name: str, states: Sequence[Any]) -> Table:
    from emt_core.progress import duration

    table = Table(title=f"recipe {name}", title_justify="left", header_style="bold")
    for column in ("instance", "state", "rows", "time", "memory", "key", ""):
        numeric = column in ("rows", "time", "memory")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=column != "")
    for state in states:
        colour = COLOURS.get(state.state, "dim")
        note = state.message.splitlines()[0] if state.message else ""
        if state.progress and state.state in ("running", "interrupted"):
            doing = state.progress
            note = f"{doing['doing']}: {doing['done']:,}" + (f"/{doing['total']:,}" if doing["total"] else "")
            if state.state == "running" and doing["seconds_left"] is not None:
                note += f", {duration(doing['seconds_left'])} left"
        table.add_row(
            state.label,
            f"[{colour}]{state.state}[/]",
            f"{state.rows:,}" if state.rows is not None else "",
            duration(state.seconds) if state.seconds is not None else "",
            f"{state.peak_memory_mb:,} MB" if state.peak_memory_mb is not None else "",
            state.key[:8],
            note.replace("[", r"\["),
        )
    return table


@app.command(rich_help_panel="Use")
def export(
    workspace: WorkspaceOpt,
    to: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: new or empty (but see --overwrite).")],
    format_: Annotated[
        str, typer.Option("--format", "-f", help="llamafactory, llava, hf, parquet or webdataset.")
    ] = "llamafactory",
    selection: Annotated[
        str | None,
        typer.Option("--selection", "-s", help="Label (select.quarter) or key; default: the only one there."),
    ] = None,
    images: Annotated[str, typer.Option(help="copy, link or embed.")] = "copy",
    backbone: Annotated[
        str | None, typer.Option(help="Model that the training file is for; default: the recipe's backbone.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in the folder; anything else is refused.")
    ] = False,
) -> None:
    """Write a selection in a trainer's format, with a provenance file beside it."""
    from emt_core.export import export_selection, find_selection

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


@app.command(rich_help_panel="Use")
def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Where the demo's results go.")] = Path(
        "workspace-demo"
    ),
    show: Annotated[bool, typer.Option("--app/--no-app", help="Open the app when the stages are done.")] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the app.")] = 8501,
) -> None:
    """Run the embedded demo from sources to select, then open the app. Needs no download and no GPU."""
    from emt_core.demo.findings import findings, render_findings

    _run(checkout_file("recipes/demo.yaml"), workspace, None)
    out.print(render_findings(findings(Workspace.open(workspace))))
    if show:
        out.print(f"\nThe app opens at http://127.0.0.1:{port} (Ctrl-C ends it).")
        open_app(workspace, port=port, address="127.0.0.1", browser=True)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 2 a problem the user can mend, 130 stopped."""
    earlier = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        typer.main.get_command(app)(args=argv, prog_name="emt")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    except EmtError as error:
        print(f"error: {error.message()}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return 130
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return 0


def _stop(*_: object) -> None:
    raise Stopped


def entry() -> None:
    sys.exit(main())


if __name__ == "__main__":
    entry()
