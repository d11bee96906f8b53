"""`emt demo`: run the embedded demo, then print what its selection shows: the selection before and
after, and whether nearness means content or only style.

    python -m emt_core.cli.demo --workspace W [--json]

Every pool sample of the demo stores who drew it (`style`: plain or sim) and what it asks
(`content`: embodied or general), crossed. An estimator that only told a renderer would score both
sim cells alike; AUROC of embodied against general content *within* each style says how much of the
score is content.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Group
from rich.table import Table

from emt_core.cli.app import open_app
from emt_core.cli.options import out
from emt_core.cli.run import run_recipe
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json

STYLES, CONTENTS = ("plain", "sim"), ("general", "embodied")


def demo(
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Where the demo's results go.")
    ] = Path("workspace-demo"),
    show: Annotated[
        bool, typer.Option("--app/--no-app", help="Open the app when the stages are done.")
    ] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the app.")] = 8501,
) -> None:
    """Run the embedded demo from sources to select, then open the app. Needs no download and no
    GPU."""
    run_recipe(Path("demo"), workspace, None)
    out.print(render_findings(findings(Workspace.open(workspace))))
    if show:
        out.print(f"\nThe app opens at http://127.0.0.1:{port} (Ctrl-C ends it).")
        open_app(workspace, port=port, address="127.0.0.1", browser=True)


def findings(workspace: Workspace, *, selection: str = "select.quarter") -> dict[str, Any]:
    """Figures of the demo's current selection, as JSON. Raises EmtError where the demo has not been
    run."""
    from emt_core.proximity.metrics.ranking import auroc
    from emt_core.workspace.table import Table as Store

    select, estimator, score = _current(workspace, selection)
    index = Index(workspace.parents(select)["sources"])
    style, content = _factors(index)
    logit = Store(score.data / "scores.lance").column("logit")
    chosen = Store(select.data / "selection.lance").column("reason") == ""
    report = read_json(select.data / "report.json")
    scored = (style != "") & np.isfinite(logit)
    cells = [
        _cell(scored & (style == s) & (content == c), logit, chosen, style=s, content=c)
        for s in STYLES
        for c in CONTENTS
    ]
    within = {
        s: auroc(content[scored & (style == s)] == "embodied", logit[scored & (style == s)])
        for s in STYLES
        if len(set(content[scored & (style == s)])) == 2
    }
    by_style = auroc(style[scored] == "sim", logit[scored])
    embodied = content == "embodied"
    return {
        "pool": int(scored.sum()),
        "selected": int(chosen.sum()),
        "embodied_share": {
            "before": float(embodied[scored].mean()),
            "after": float(embodied[chosen].mean()),
        },
        "sim_share": {
            "before": float((style[scored] == "sim").mean()),
            "after": float((style[chosen] == "sim").mean()),
        },
        "cells": cells,
        "auroc_content_within_style": within,
        "auroc_style": by_style,
        "auroc_content": auroc(embodied[scored], logit[scored]),
        "estimator": {
            name: estimator.metrics.get(name)
            for name in ("auroc", "average_precision", "calibration_error", "stopped", "steps")
        },
        "diversity": report.get("diversity"),
        "mmd2_to_robot": report.get("mmd2_to_robot", {}).get("all"),
    }


def _current(workspace: Workspace, selection: str) -> tuple[Artifact, Artifact, Artifact]:
    state = workspace.path / "state" / "demo.json"
    keys: Mapping[str, str] = read_json(state) if state.exists() else {}
    found = workspace.find("select", keys.get(selection, ""))
    if found is None:
        raise EmtError(
            f"the demo's {selection} is not there", where=workspace.path, remedy="emt demo --no-app"
        )
    score = workspace.parents(found)["score"]
    return found, workspace.parents(score)["estimator"], score


def _factors(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Style and content of each index row; "" for robot rows and rows without factors."""
    styles, contents = [], []
    for batch in index.table.scan(["role", "meta"]):
        for role, meta in zip(
            batch.column("role").to_pylist(), batch.column("meta").to_pylist(), strict=True
        ):
            facts = json.loads(meta) if role == "pool" and meta else {}
            both = "style" in facts and "content" in facts
            styles.append(facts["style"] if both else "")
            contents.append(facts["content"] if both else "")
    return np.array(styles), np.array(contents)


def _cell(
    members: np.ndarray, logit: np.ndarray, chosen: np.ndarray, *, style: str, content: str
) -> dict[str, Any]:
    count = int(members.sum())
    return {
        "style": style,
        "content": content,
        "samples": count,
        "mean_logit": float(logit[members].mean()) if count else None,
        "selected_share": float(chosen[members].mean()) if count else None,
    }


def render_findings(found: Mapping[str, Any]) -> Group:
    """The figures as tables for a terminal."""
    summary = Table(title="the demo's selection", title_justify="left", header_style="bold")
    for column in ("", "pool", "selected"):
        summary.add_column(column, justify="left" if not column else "right")
    summary.add_row("samples", f"{found['pool']:,}", f"{found['selected']:,}")
    for name, label in (("embodied_share", "embodied content"), ("sim_share", "simulator images")):
        summary.add_row(label, f"{found[name]['before']:.1%}", f"{found[name]['after']:.1%}")
    for name, label in (("diversity", "diversity S(D)"), ("mmd2_to_robot", "MMD² to robot data")):
        values = found[name] or {}
        if "before" in values and "after" in values:
            summary.add_row(label, _number(values["before"]), _number(values["after"]))
    cells = Table(
        title="who gets selected: style x content", title_justify="left", header_style="bold"
    )
    for column in ("style", "content", "samples", "mean logit", "selected share"):
        cells.add_column(column, justify="left" if column in ("style", "content") else "right")
    for cell in found["cells"]:
        share = cell["selected_share"]
        cells.add_row(
            cell["style"],
            cell["content"],
            f"{cell['samples']:,}",
            _number(cell["mean_logit"]),
            f"{share:.1%}" if share is not None else "",
        )
    ranking = Table(
        title="what the score tells apart (AUROC)", title_justify="left", header_style="bold"
    )
    ranking.add_column("question")
    ranking.add_column("AUROC", justify="right")
    ranking.add_row("robot against pool, held-out episodes", _number(found["estimator"]["auroc"]))
    ranking.add_row("embodied against general content, whole pool", _number(found["auroc_content"]))
    for style, value in found["auroc_content_within_style"].items():
        ranking.add_row(f"embodied against general content, {style} images only", _number(value))
    ranking.add_row("simulator against plain images, whole pool", _number(found["auroc_style"]))
    return Group(summary, cells, ranking)


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of the demo's selection.")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--selection", default="select.quarter")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = findings(Workspace.open(arguments.workspace), selection=arguments.selection)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        from rich.console import Console

        Console().print(render_findings(found))


if __name__ == "__main__":
    main()
