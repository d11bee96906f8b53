"""What the VLM retains: the same questions before and after mid-training."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures.retained import PAPER, before_and_after
from emt_core.workspace.lineage import labels_of
from pages.parts import cached, glossary
from pages.parts.view import View
from pages.parts.widgets import chart, choice


def retained_section(view: View) -> None:
    """Drawn where a `retain` stage has run."""
    labels = labels_of(view.done, "retain")[::-1]
    if not labels:
        return
    st.subheader("What the VLM retains", anchor=False, help=glossary.RETAINED)
    label = labels[0] if len(labels) == 1 else st.selectbox("Comparison", labels, key="retain")
    results = cached.json_file(view.done[label], "results.json")
    suites = list(results)
    suite = suites[0]
    if len(suites) > 1:
        suite = choice("Suite", suites, key="suite", in_url=False)
    rows = [{"category": name, **facts} for name, facts in results[suite].items()]
    chart(before_and_after(rows))
    st.dataframe(pd.DataFrame([_row(row) for row in rows]), hide_index=True, width="stretch")
    with st.expander("Results of the paper (Table 7)", icon=":material/menu_book:"):
        st.caption("Accuracy in %, reported in the paper for InternVL3.5-1B; not measured here.")
        st.dataframe(pd.DataFrame(PAPER), hide_index=True, width="stretch")


def _row(row: dict[str, Any]) -> dict[str, str]:
    cells = {"category": row["category"], "questions": numbers.whole(row["n"])}
    for side, title in (("origin", "origin"), ("midtrained", "mid-trained")):
        rate, low, high = (numbers.share(row[side][name]) for name in ("rate", "low", "high"))
        cells[title] = f"{rate} ({low} to {high})"
    change = numbers.change(row["midtrained"]["rate"], row["origin"]["rate"])
    return cells | {"change": change or numbers.MISSING}
