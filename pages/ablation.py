"""Ablation: measure x strategy, in the shape of the paper's Table 2, filled from what was run."""

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
        "What another measure or strategy would have chosen: one row for every selection that was made.",
        ("measure", "score", "select"),
    )
    if not any(
        artifact.stage == "select" for artifact in view.done.values()
    ):  # of any score, not the one in view
        needs(view, "sources", "select", shows="Selections are compared here, measure by measure.")
    keys = tuple(
        sorted(a.key for a in view.done.values() if a.stage in ("select", "evaluate", "trust"))
    )
    rows = _rows(str(view.workspace.path), view.recipe, keys, _view=view)
    shown = pd.DataFrame(table(rows)).drop(
        columns="peak memory, MB", errors="ignore"
    )  # it follows run order
    shown = shown.rename(columns={"memory added, MB": "MB added"})
    shares = [
        name for name in shown.columns if name == "near content" or name.endswith(", success")
    ]
    shown[shares] = shown[shares].astype(float) * 100
    st.dataframe(
        shown, hide_index=True, column_config=_columns(shown), height="content", placeholder="–"
    )
    known = [row for row in rows if row.planted is not None]
    if known:
        st.subheader("Near content found", anchor=False, help=glossary.PLANTED)
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
        "InternVL3.5-1B, as published (arXiv 2604.20012): success after mid-training and fine-tuning. Not ours."
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
    "No sample says whether its content is near, so precision is left empty. The demo's samples do; for yours, mark "
    "some in the recipe: trust: {near_ids: [source:row, ...]}."
)

ADDED = (
    "The most that fitting the measure, scoring or selecting added to what the process held when that step began. "
    "Libraries that a step was the first to load count. – where the run was made before this was recorded."
)


@st.cache_data(max_entries=8, show_spinner="Reading selections")
def _rows(workspace: str, recipe: str, keys: tuple[str, ...], *, _view: View) -> list[AblationRow]:
    """keys: of every artifact that the table is made of, so that what is cached cannot be stale."""
    return ablation(Workspace.open(workspace, read_only=True), _view.done)


def _columns(shown: pd.DataFrame) -> dict:
    column = st.column_config
    found = {
        "selected": column.NumberColumn(format="localized"),
        "near content": column.NumberColumn(format="%.1f %%", help=glossary.PLANTED),
        "diversity": column.NumberColumn(format="%.3f", help=glossary.DIVERSITY),
        "MMD² after": column.NumberColumn(format="%.3f", help=glossary.MMD),
        "seconds": column.NumberColumn(
            format="%.1f", help="Fitting the measure, scoring the pool, selecting."
        ),
        "MB added": column.NumberColumn(format="localized", help=ADDED),
    }
    for name in shown.columns:
        if name.endswith(", success"):
            found[name] = column.NumberColumn(
                format="%.1f %%", help="Mean over the policies trained on the selection."
            )
        if name.endswith(", average length"):
            found[name] = column.NumberColumn(format="%.2f", help=glossary.AVERAGE_LENGTH)
    return found


main()
