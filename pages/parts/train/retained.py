"""What the VLM keeps: the mid-trained model beside its origin on the same questions, and the paper's figures."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures.retained import PAPER, before_and_after
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import labels_of
from pages.parts import glossary
from pages.parts.view import View

BARE = {"displayModeBar": False}


def retained_section(view: View) -> None:
    """Nothing where no `retain` has run."""
    labels = labels_of(view.done, "retain")[::-1]
    if not labels:
        return
    st.subheader("What the VLM keeps", anchor=False, help=glossary.RETAINED)
    label = labels[0] if len(labels) == 1 else st.selectbox("Comparison", labels, key="retain")
    results = _results(view.done[label])
    suites = list(results)
    suite = suites[0]
    if len(suites) > 1:
        suite = (
            st.segmented_control("Suite", suites, default=suites[0], required=True, key="suite")
            or suites[0]
        )
    rows = [{"category": name, **facts} for name, facts in results[suite].items()]
    st.plotly_chart(before_and_after(rows), config=BARE)
    st.dataframe(pd.DataFrame([_row(row) for row in rows]), hide_index=True, width="stretch")
    with st.expander("The paper's figures (Table 7)", icon=":material/menu_book:"):
        st.caption(
            "As reported in the paper for InternVL3.5-1B, not measured here; accuracy in per cent."
        )
        st.dataframe(pd.DataFrame(PAPER), hide_index=True, width="stretch")


def _row(row: dict[str, Any]) -> dict[str, str]:
    found = {"category": row["category"], "questions": numbers.whole(row["n"])}
    for side, title in (("origin", "origin"), ("midtrained", "mid-trained")):
        facts = row[side]
        found[title] = (
            f"{numbers.share(facts['rate'])} ({numbers.share(facts['low'])} to {numbers.share(facts['high'])})"
        )
    found["change"] = (
        numbers.change(row["midtrained"]["rate"], row["origin"]["rate"]) or numbers.MISSING
    )
    return found


def _results(artifact: Artifact) -> dict[str, Any]:
    return _read(str(artifact.path))


@st.cache_data(max_entries=8, show_spinner=False)
def _read(path: str) -> dict[str, Any]:
    from pathlib import Path

    return read_json(Path(path) / "data" / "results.json")
