"""What the paper reports, to lay beside our figures, always labeled as the paper's."""

from __future__ import annotations

from functools import cache
from typing import Any

from emt_core.recipe.shipped import ROOT
from emt_core.workspace.files import read_json

FILE = ROOT / "assets" / "paper_results.json"
SOURCE = "EmbodiedMidtrain, arXiv 2604.20012"
BENCHMARKS = {"calvin_abcd": "calvin", "simpler_bridge": "simpler", "libero_10": "libero"}
"""Our benchmark -> its name in the paper's tables. On others the paper has no figure."""

PAPERS_OWN = "the paper"
QUOTED = "VLM4VLA, quoted by the paper"


@cache
def paper_results() -> dict[str, Any]:
    """assets/paper_results.json: `main` (Table 1), `simpler_scenes`, `ablation` (Table 2),
    `dynamics` (Fig. 3, in words: the paper prints no numbers there), `retention` (Table 7). Success
    in percent, CALVIN in goals of five."""
    return read_json(FILE)


def figures_for(benchmark: str) -> list[dict[str, Any]]:
    """The paper's rows on one benchmark: model value unit table reported_by; [] for none."""
    column = BENCHMARKS.get(benchmark)
    if column is None:
        return []
    results = paper_results()
    unit = "goals of 5" if column == "calvin" else "%"
    rows = [
        {
            "model": row["model"],
            "value": row[column]["average_length"] if column == "calvin" else row[column],
            "unit": unit,
            "table": "Table 1",
            "reported_by": QUOTED if row["quoted"] else PAPERS_OWN,
        }
        for row in results["main"]
    ]
    rows += [
        {
            "model": f"InternVL3.5-1B, mid-trained on: {row['selection']}",
            "value": row[column],
            "unit": unit,
            "table": "Table 2",
            "reported_by": PAPERS_OWN,
        }
        for row in results["ablation"]
    ]
    return rows
