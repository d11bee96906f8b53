"""`emt demo`: run the embedded demo, then print what its selection shows.

    python -m emt_core.cli.demo --workspace W [--json]      prints it again

Every pool sample of the demo stores who drew it (`style`: plain or sim) and what it asks
(`content`: embodied or general), in all four combinations. An estimator that only recognized a
renderer would score both sim cells alike; AUROC of embodied against general content *within* each
style says how much of the score is content.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from emt_core.cli.app import open_app
from emt_core.cli.options import out
from emt_core.cli.run import run_recipe
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import finished

if TYPE_CHECKING:
    import numpy as np

    from emt_core.data.index import Index

STYLES = ("plain", "sim")
CONTENTS = ("general", "embodied")
SHARES = {
    "relevant_share": "relevant content (planted)",
    "embodied_share": "embodied (by category)",
    "sim_share": "simulator images",
}


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
    """Figures of the demo's current selection, as JSON.

    Raises EmtError where the demo has not been run.
    """
    import numpy as np

    from emt_core.data.index import Index
    from emt_core.proximity.metrics.ranking import auroc
    from emt_core.selection.candidates import could_be_selected
    from emt_core.workspace.table import Table as Store

    select, estimator, score = _current(workspace, selection)
    style, content = _styles_and_contents(Index(workspace.parents(select)["sources"]))
    logit = Store(score.data / "scores.lance").column("logit")
    report = read_json(select.data / "report.json")
    reasons = Store(select.data / "selection.lance").column("reason")
    names, code = np.unique(reasons, return_inverse=True)
    chosen = reasons == ""
    scored = (style != "") & could_be_selected(code, names)
    embodied = content == "embodied"
    sim = style == "sim"

    def cell(style_: str, content_: str) -> dict[str, Any]:
        members = scored & (style == style_) & (content == content_)
        count = int(members.sum())
        return {
            "style": style_,
            "content": content_,
            "samples": count,
            "mean_logit": float(logit[members].mean()) if count else None,
            "selected_share": float(chosen[members].mean()) if count else None,
        }

    def shares(rows: np.ndarray) -> dict[str, float]:
        return {"before": float(rows[scored].mean()), "after": float(rows[chosen].mean())}

    within = {}
    for name in STYLES:
        rows = scored & (style == name)
        if len(set(content[rows])) == 2:
            within[name] = auroc(embodied[rows], logit[rows])
    shown = ("auroc", "average_precision", "calibration_error", "stopped", "steps")
    return {
        "pool": int(scored.sum()),
        "selected": int(chosen.sum()),
        "relevant_share": shares(embodied),
        "embodied_share": report["embodied_share"],
        "sim_share": shares(sim),
        "cells": [cell(s, c) for s in STYLES for c in CONTENTS],
        "auroc_content_within_style": within,
        "auroc_style": auroc(sim[scored], logit[scored]),
        "auroc_content": auroc(embodied[scored], logit[scored]),
        "estimator": {name: estimator.metrics.get(name) for name in shown},
        "diversity": report["diversity"],
        "mmd2_to_robot": report["mmd2_to_robot"],
        "errors": report["errors"],
    }


def _current(workspace: Workspace, selection: str) -> tuple[Artifact, Artifact, Artifact]:
    """The demo's selection, the estimator and the score behind it."""
    select = finished(workspace, "demo").get(selection)
    if select is None:
        raise EmtError(
            f"the demo's {selection} is not there", where=workspace.path, remedy="emt demo --no-app"
        )
    score = workspace.parents(select)["score"]
    return select, workspace.parents(score)["estimator"], score


def _styles_and_contents(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Style and content of each index row; "" for robot rows and rows without them."""
    import numpy as np

    pairs = []
    for batch in index.table.scan(["role", "meta"]):
        for row in batch.to_pylist():
            meta = json.loads(row["meta"]) if row["role"] == "pool" and row["meta"] else {}
            known = "style" in meta and "content" in meta
            pairs.append((meta["style"], meta["content"]) if known else ("", ""))
    both = np.array(pairs).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def render_findings(found: Mapping[str, Any]) -> Group:
    """The figures as tables for a terminal."""
    from emt_core.explore import numbers
    from emt_core.explore.tables.measured import of_selection

    summary = _table("the demo's selection", "", "pool", "selected")
    summary.add_row("samples", f"{found['pool']:,}", f"{found['selected']:,}")
    for name, label in SHARES.items():
        shares = (numbers.share(found[name][when]) for when in ("before", "after"))
        summary.add_row(label, *shares)
    before, after = (of_selection(found, when) for when in ("before", "after"))
    for name, label in (("diversity", "diversity S(D)"), ("mmd2_to_robot", "MMD² to robot data")):
        summary.add_row(label, before[name].text, after[name].text)
    columns = ("style", "content", "samples", "mean logit", "selected share")
    cells = _table("who gets selected: style x content", *columns, left=2)
    for cell in found["cells"]:
        share = cell["selected_share"]
        cells.add_row(
            cell["style"],
            cell["content"],
            f"{cell['samples']:,}",
            _number(cell["mean_logit"]),
            numbers.share(share),
        )
    ranking = _table("what the score tells apart (AUROC)", "question", "AUROC")
    ranking.add_row("robot against pool, held-out episodes", _number(found["estimator"]["auroc"]))
    ranking.add_row("embodied against general content, whole pool", _number(found["auroc_content"]))
    for style, value in found["auroc_content_within_style"].items():
        ranking.add_row(f"embodied against general content, {style} images only", _number(value))
    ranking.add_row("simulator against plain images, whole pool", _number(found["auroc_style"]))
    return Group(summary, cells, ranking)


def _table(title: str, *columns: str, left: int = 1) -> Table:
    """A table whose first `left` columns are aligned left, all others right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right")
    return table


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
        out.print(render_findings(found))


if __name__ == "__main__":
    main()
