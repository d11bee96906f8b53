"""The command `emt` (also `python -m emt_core.cli`): which verbs there are.

A verb's own file imports what is heavy only inside its function: `emt --help` loads no torch.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from emt_core import __version__
from emt_core.cli.ablation import ablation
from emt_core.cli.app import open_app
from emt_core.cli.check_benchmark import check_benchmark
from emt_core.cli.check_model import check_model
from emt_core.cli.demo import demo
from emt_core.cli.doctor import doctor
from emt_core.cli.export import export
from emt_core.cli.job import run_job
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
from emt_core.workspace.machine_faults import machine_fault

app = typer.Typer(
    name="emt",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Find, select and study mid-training data for vision-language-action models "
        "(arXiv 2604.20012).\n\n"
        "Start with `emt demo`. With data of your own: write a recipe (recipes/ has examples), "
        "look at it with `emt sources RECIPE`, run it with `emt run RECIPE --workspace W`, "
        "open it with `emt app --workspace W`."
    ),
)

OWN_OPTIONS = {"sources": sources, "midtrain": midtrain}
"""Stages whose verb has options of its own; all others are `stage_verb`s."""

LOOK = {
    "app": open_app,
    "status": status,
    "verify": verify,
    "doctor": doctor,
    "ablation": ablation,
    "check-benchmark": check_benchmark,
    "check-model": check_model,
}
USE = {"demo": demo, "export": export, "report": report, "serve": serve}

app.command("run", rich_help_panel="Pipeline")(run)
for _stage in FLOW:
    _verb = OWN_OPTIONS.get(_stage.name) or stage_verb(_stage)
    app.command(_stage.name, rich_help_panel="Stages")(_verb)
for _panel, _verbs in {"Look": LOOK, "Use": USE}.items():
    for _name, _verb in _verbs.items():
        app.command(_name, rich_help_panel=_panel)(_verb)


@app.command(hidden=True)
def job(folder: Path) -> None:
    """Run the command line of a job's folder; what a page starts."""
    raise typer.Exit(run_job(folder, main))


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
    """Run a command line; returns the exit code: 0 done, 2 a problem the user can mend, 130
    stopped."""
    earlier = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        typer.main.get_command(app)(args=argv, prog_name="emt")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    except Exception as error:
        told = error if isinstance(error, EmtError) else machine_fault(error, "")
        if told is None:
            raise
        print(f"error: {told.message()}", file=sys.stderr)
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


if __name__ == "__main__":  # a worker process imports this file once more
    entry()
