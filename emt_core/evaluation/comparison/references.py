"""What works since the paper report, to lay beside our figures, always labeled as theirs."""

from __future__ import annotations

from functools import cache
from typing import Any

from emt_core.recipe.shipped import ROOT
from emt_core.workspace.files import read_json

FILE = ROOT / "assets" / "reference_results.json"
BENCHMARKS = {
    "simpler_bridge": "SimplerEnv Bridge",
    "libero_10": "LIBERO-10",
    "libero_goal": "LIBERO-Goal",
    "libero_object": "LIBERO-Object",
    "libero_spatial": "LIBERO-Spatial",
}
"""Our benchmark -> its name in the references. On others they have no figure."""


@cache
def works() -> list[dict[str, Any]]:
    """assets/reference_results.json: each work with link, date, protocol and rows."""
    return read_json(FILE)["works"]


def reference_rows() -> list[dict[str, Any]]:
    """One row a figure, as the works list them: benchmark value model head data work date link.
    `value` is in percent of episodes solved."""
    return [
        {
            "benchmark": benchmark,
            "value": value,
            "model": row["model"],
            "head": row["head"],
            "data": row["data"],
            "work": work["work"],
            "date": work["date"],
            "link": work["link"],
        }
        for work in works()
        for row in work["rows"]
        for benchmark, value in row["results"].items()
    ]
