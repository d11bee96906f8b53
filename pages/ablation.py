"""Ablation: measures x strategies as in the paper's Table 2, one row per selection."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from emt_core.explore.figures.ablation import planted_bars
from emt_core.explore.tables.ablation import PAPER, AblationRow, ablation, table
from emt_core.workspace.artifact import Workspace
from pages.parts import glossary
from pages.parts.empty import needs
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current
from pages.parts.widgets import chart


def main() -> None:
    view = current()
    page_header(
        view,
        "Ablation",
        "Selections by measure and strategy, one row each.",
        ("measure", "score", "select"),
    )
    if not view.of_stage("select"):
        needs(view, "sources", "select", shows="This page compares selections.")
    keys = tuple(
        sorted(a.key for a in view.done.values() if a.stage in ("select", "evaluate", "trust"))
    )
    rows = _rows(str(view.workspace.path), view.recipe, keys, _view=view)
    # The peak memory of a process depends on the stages that ran in it before.
    shown = pd.DataFrame(table(rows)).drop(columns="peak memory, MB", errors="ignore")
    shown = shown.rename(columns={"memory added, MB": "MB added"})
    is_share = [n == "relevant content" or n.endswith(", success") for n in shown.columns]
    shares = shown.columns[is_share]
    shown[shares] = shown[shares].astype(float) * 100
    st.dataframe(
        shown, hide_index=True, column_config=_columns(shown), height="content", placeholder="–"
    )
    known = [row for row in rows if row.planted is not None]
    if known:
        st.subheader("Relevant content", anchor=False, help=glossary.PLANTED)
        figure = planted_bars(
            [f"{row.measure}, {row.strategy} ({short_label(row.label)})" for row in known],
            [row.planted for row in known],
            [row.kind for row in known],
            chance=known[0].chance,
        )
        chart(figure, key="planted")
    else:
        st.caption(f":material/info: {escape(NO_TRUTH)}")
    st.subheader("The paper's Table 2", anchor=False)
    st.caption(
        "InternVL3.5-1B, as published (arXiv 2604.20012): success after mid-training and "
        "fine-tuning. Not measured here."
    )
    st.dataframe(
        pd.DataFrame(
            PAPER,
            columns=["selection", "CALVIN, average length", "SimplerEnv-Bridge, %", "LIBERO-10, %"],
        ),
        hide_index=True,
        height="content",
    )


NO_TRUTH = (
    "Relevant content is unknown for these samples, so its column is empty. The demo's samples are "
    "marked; mark some of yours in the recipe: trust: {near_ids: [source:row, ...]}."
)

ADDED = (
    "The most memory that fitting the measure, scoring or selecting added to the process, with "
    "libraries that the step loaded first. – for runs made before this was recorded."
)


@st.cache_data(max_entries=8, show_spinner="Reading selections")
def _rows(workspace: str, recipe: str, keys: tuple[str, ...], *, _view: View) -> list[AblationRow]:
    """keys: of every artifact in the table, so that nothing cached is stale."""
    return ablation(Workspace.open(workspace, read_only=True), _view.done)


def _columns(shown: pd.DataFrame) -> dict:
    column = st.column_config
    formats = {
        "selected": column.NumberColumn(format="localized"),
        "relevant content": column.NumberColumn(format="%.1f %%", help=glossary.PLANTED),
        "diversity": column.TextColumn(help=glossary.DIVERSITY, alignment="right"),
        "MMD² to robot": column.TextColumn(help=glossary.MMD, alignment="right"),
        "seconds": column.NumberColumn(
            format="%.1f", help="Fitting the measure, scoring the pool and selecting."
        ),
        "MB added": column.NumberColumn(format="localized", help=ADDED),
    }
    for name in shown.columns:
        if name.endswith(", success"):
            formats[name] = column.NumberColumn(
                format="%.1f %%", help="Mean over the policies trained on the selection."
            )
        if name.endswith(", average length"):
            formats[name] = column.NumberColumn(format="%.2f", help=glossary.AVERAGE_LENGTH)
    return formats


main()
