"""`emt check-benchmark NAME`: does the simulator work here? Its own privileged controller plays a
few episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from emt_core.cli.options import out
from emt_core.errors import EmtError


def check_benchmark(
    name: Annotated[
        str,
        typer.Argument(
            help="metaworld, libero, simpler_bridge, calvin_abcd or rehearsal.", metavar="NAME"
        ),
    ],
    episodes: Annotated[int, typer.Option(min=1, help="Episodes a task.")] = 3,
    python: Annotated[
        str, typer.Option(help="Interpreter that has the simulator; default: ours.")
    ] = "",
    environments: Annotated[int, typer.Option(min=1, help="Simulators side by side.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, e.g. --set suite=libero_object --set tasks=[0,1]."),
    ] = None,
) -> None:
    """Let a simulator's privileged controller play: what a perfect policy could reach."""
    from emt_core.evaluation.benchmarks.base import episodes_of
    from emt_core.evaluation.benchmarks.registry import resolve
    from emt_core.evaluation.closed_loop.results import summarize
    from emt_core.evaluation.closed_loop.rollout import Played, Simulators

    benchmark = resolve(_config(name, set_ or ()), base=Path.cwd())
    rows: list[dict[str, Any]] = []

    def ended(played: Played) -> None:
        episode = played.episode
        result = "solved" if played.success else played.failure
        cost = f"{played.steps} steps, {played.seconds:.1f} s {played.detail}".rstrip()
        line = f"{episode.task} {episode.number}: {result}, {cost}"
        out.print(line, markup=False, highlight=False)
        rows.append(
            {
                "task": episode.task,
                "checkpoint": 0,
                "success": played.success,
                "failure": played.failure,
                "goals": benchmark.goals,
                "completed": played.completed,
            }
        )

    with Simulators(benchmark, environments=environments, python=python) as simulators:
        simulators.play(episodes_of(benchmark, episodes, 0), None, on_end=ended)
        facts = simulators.facts
        out.print(f"python {facts['python']}, {facts['versions']}", markup=False)
    summary = summarize(rows, benchmark=benchmark.name, rule="last")["checkpoints"][0]
    table = Table(title=f"{benchmark.title}: its own controller", title_justify="left")
    for column in ("task", "episodes", "solved", "95 %"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in summary["tasks"]:
        if task["n"]:
            cells = (f"{task['rate']:.0%}", f"{task['low']:.0%} to {task['high']:.0%}")
        else:  # the lines above say how its simulator failed
            cells = ("-", "-")
        table.add_row(task["task"], str(task["n"]), *cells)
    out.print(table)


def _config(name: str, settings: list[str] | tuple[str, ...]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from emt_core.recipe.evaluate import BenchmarkConfig
    from emt_core.recipe.recipe import parse_overrides

    given = {"name": name, **parse_overrides(settings)}
    try:
        return TypeAdapter(BenchmarkConfig).validate_python(given)
    except ValidationError as error:
        problem = f"benchmark {name!r}: {error.errors()[0]['msg']}"
        raise EmtError(problem, remedy="emt check-benchmark --help") from error
