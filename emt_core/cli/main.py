"""The command `emt`: which verbs there are. Imports nothing heavy before it has to."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from emt_core import __version__
from emt_core.cli.ablation import ablation
from emt_core.cli.app import open_app
from emt_core.cli.check_benchmark import check_benchmark
from emt_core.cli.check_model import check_model
from emt_core.cli.demo import demo
from emt_core.cli.export import export
from emt_core.cli.midtrain import midtrain
from emt_core.cli.report import report
from emt_core.cli.run import run
from emt_core.cli.serve import serve
from emt_core.cli.sources import sources
from emt_core.cli.stage import stage_verb
from emt_core.cli.status import status
from emt_core.cli.verify import verify
from emt_core.errors import EmtError, Stopped
from emt_core.flow import FLOW

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

OWN_OPTIONS = {"sources": sources, "midtrain": midtrain}
"""Stages whose verb has options of its own; all others are `stage_verb`s."""

app.command("run", rich_help_panel="Pipeline")(run)
for _stage in FLOW:
    app.command(_stage.name, rich_help_panel="Stages")(
        OWN_OPTIONS.get(_stage.name) or stage_verb(_stage)
    )
for _name, _verb in {
    "app": open_app,
    "status": status,
    "verify": verify,
    "ablation": ablation,
    "check-benchmark": check_benchmark,
    "check-model": check_model,
}.items():
    app.command(_name, rich_help_panel="Look")(_verb)
for _name, _verb in {"demo": demo, "export": export, "report": report, "serve": serve}.items():
    app.command(_name, rich_help_panel="Use")(_verb)


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
