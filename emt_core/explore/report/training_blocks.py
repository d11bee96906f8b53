"""Blocks on training, retained skills and closed-loop results (method sections 8 to 10)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures import curves
from emt_core.explore.figures.layout import interval, plain
from emt_core.explore.figures.palette import SOURCE_CYCLE
from emt_core.explore.reading import Reading
from emt_core.explore.report.content import Content, Figure, Table
from emt_core.workspace.files import read_json
from emt_core.workspace.words import and_list

CURVE_POINTS = 300
MOST_LINES = 2_000_000
MOST_RUNS = 24


def training(reading: Reading) -> Content:
    """Loss curves of every finished mid-training and fine-tuning run."""
    runs = {**reading.of_stage("midtrain"), **reading.of_stage("finetune")}
    shown = dict(islice(runs.items(), MOST_RUNS))
    colors = curves.run_colors(list(shown))
    lines = []
    rows = []
    for label, artifact in shown.items():
        steps = _thinned(artifact.data / "steps.jsonl")
        if not steps:
            continue
        x = np.array([line["step"] for line in steps], float)
        y = np.array([line["loss"] for line in steps], float)
        lines.append(curves.Line(name=label, color=colors[label], x=x, y=y, shown=y))
        last = steps[-1]
        rows.append(
            (
                label,
                numbers.whole(last["step"]),
                numbers.short(last.get("samples")),
                numbers.decimal(last["loss"]),
                f"{numbers.decimal(artifact.manifest['seconds'] / 60, 1)} min",
            )
        )
    figure = curves.curve(lines, x="step", y="training loss", height=340, number=".3f")
    count = {stage: len(reading.of_stage(stage)) for stage in ("midtrain", "finetune")}
    names = {"midtrain": "mid-training run", "finetune": "fine-tuning run"}
    finished = and_list([numbers.counted(n, names[stage]) for stage, n in count.items() if n])
    sentences = [
        f"{finished} finished. Compare starting points by closed-loop success, not by loss."
    ]
    if len(runs) > len(shown):
        sentences.append(f"The first {MOST_RUNS} are drawn.")
    columns = ("run", "steps", "samples", "last loss", "time")
    items = (
        Figure(title="Training loss", figure=figure),
        Table(title="Training runs", columns=columns, rows=tuple(rows)),
    )
    return Content(
        sentences=tuple(sentences), items=items if rows else (), artifacts=tuple(shown.values())
    )


def _thinned(path: Path) -> list[dict[str, Any]]:
    """At most CURVE_POINTS of the lines with a loss, with the last one."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        lines = list(islice(_losses(file), MOST_LINES))
    step = max(1, -(-len(lines) // CURVE_POINTS))
    return lines[::-1][::step][::-1]


def _losses(file: Any) -> Iterator[dict[str, Any]]:
    for text in file:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("loss"), int | float) and "step" in line:
            yield {name: line.get(name) for name in ("step", "loss", "samples")}


def retained(reading: Reading) -> Content:
    """Question sets before and after mid-training."""
    artifacts = reading.of_stage("retain")
    rows = []
    for label, artifact in artifacts.items():
        for name, facts in _suites(read_json(artifact.data / "results.json")):
            rows.append(
                (
                    label,
                    name,
                    numbers.whole(facts["n"]),
                    _rate(facts.get("origin")),
                    _rate(facts.get("midtrained")),
                )
            )
    columns = ("run", "question set", "questions", "before", "after mid-training")
    words = "Share of correct answers, greedy decoding, with the 95 % interval (Wilson)."
    table = Table(title="What the VLM keeps", columns=columns, rows=tuple(rows), text_columns=2)
    return Content(sentences=(words,), items=(table,), artifacts=tuple(artifacts.values()))


def _suites(results: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`suite / category`, entry) of every entry that counts questions, however nested."""
    if isinstance(results, list):
        for entry in results:
            name = (
                entry.get("category") or entry.get("suite") or entry.get("name")
                if isinstance(entry, dict)
                else None
            )
            yield from _suites(entry, (*path, str(name)) if name else path)
    elif isinstance(results, dict):
        if "n" in results and "origin" in results:
            yield " / ".join(path) or "all", results
        for name, entry in results.items():
            if isinstance(entry, dict | list) and name not in ("origin", "midtrained"):
                plural = name in ("suites", "categories", "all")
                yield from _suites(entry, path if plural else (*path, name))


def results(reading: Reading) -> Content:
    """Closed-loop success of every evaluated run, at its chosen checkpoint."""
    artifacts = reading.of_stage("evaluate")
    rows = []
    figure = go.Figure()
    rules = {}
    for place, (label, artifact) in enumerate(artifacts.items()):
        found = read_json(artifact.data / "results.json")
        rules[str(found.get("rule_text", ""))] = None
        chosen = next((c for c in found["checkpoints"] if c["checkpoint"] == found["chosen"]), None)
        if chosen is None:
            continue
        rows.append(
            (
                label,
                str(found["benchmark"]),
                str(found["chosen"]),
                numbers.whole(chosen["mean"].get("n")),
                _rate(chosen["mean"]),
                numbers.decimal(chosen.get("average_length")),
            )
        )
        if place < MOST_RUNS:
            figure.add_trace(
                _task_bars(label, chosen["tasks"], SOURCE_CYCLE[place % len(SOURCE_CYCLE)])
            )
    plain(figure, height=340, y="success")
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    columns = (
        "run",
        "benchmark",
        "checkpoint",
        "episodes",
        "mean success, 95 % interval",
        "average length",
    )
    if all(row[5] == numbers.MISSING for row in rows):
        columns, rows = columns[:5], [row[:5] for row in rows]
    words = [
        f"{numbers.counted(len(artifacts), 'run')} evaluated in closed loop.",
        *(rule for rule in rules if rule),
    ]
    items = (
        Table(title="Closed-loop success", columns=columns, rows=tuple(rows), text_columns=3),
        Figure(title="Success by task, with 95 % intervals", figure=figure),
    )
    return Content(
        sentences=tuple(words), items=items if rows else (), artifacts=tuple(artifacts.values())
    )


def _task_bars(label: str, tasks: list[dict[str, Any]], color: str) -> go.Bar:
    tasks = [task for task in tasks if task["rate"] is not None]
    rates, low, high = ([task[name] for task in tasks] for name in ("rate", "low", "high"))
    name = escape(label, quote=False)
    return go.Bar(
        x=[escape(task["task"], quote=False) for task in tasks],
        y=rates,
        name=name,
        marker={"color": color, "line": {"width": 0}},
        error_y=interval(rates, low, high),
        customdata=[[task["successes"], task["n"]] for task in tasks],
        hovertemplate="%{x}: %{customdata[0]} of %{customdata[1]}<extra>" + name + "</extra>",
    )


def _rate(facts: Mapping[str, Any] | None) -> str:
    """`62.5 % (40.6 % to 80.4 %)`."""
    if not facts or facts.get("rate") is None:
        return numbers.MISSING
    words = numbers.share(facts["rate"])
    if facts.get("low") is not None and facts.get("high") is not None:
        words += f" ({numbers.share(facts['low'])} to {numbers.share(facts['high'])})"
    return words
