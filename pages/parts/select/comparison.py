"""Compare two saved selections: samples added and removed, by category and source."""

from __future__ import annotations

import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures.comparison import in_and_out
from emt_core.explore.tables.compare import Comparison, examples
from emt_core.workspace.artifact import Artifact
from pages.parts import cached, glossary
from pages.parts.cards import gallery
from pages.parts.plain import escape
from pages.parts.sidebar import short_label
from pages.parts.view import View
from pages.parts.widgets import chart

EXAMPLES = 6


@st.fragment
def compare(view: View) -> None:
    """Drawn where the pool has at least two selections."""
    labels = view.labels_over("select")
    if len(labels) < 2:
        return
    st.subheader("Compare two selections", anchor=False)
    from_at, to_at = st.columns(2, gap="large")
    in_view = labels.index(view.select) if view.select in labels else 0
    after = to_at.selectbox(
        "To", labels, in_view, key="compare_to", bind="query-params", format_func=short_label
    )
    rest = [label for label in labels if label != after]
    if st.session_state.get("compare_from") not in rest:
        st.session_state.pop("compare_from", None)
    before = from_at.selectbox(
        "From", rest, key="compare_from", bind="query-params", format_func=short_label
    )
    change = _change(view.done[before], view.done[after])
    _numbers(change)
    _groups(view, change)
    logit = view.logits if view.chain.has("score") else None
    left, right = st.columns(2, gap="large")
    for column, title, rows in (
        (left, "Added", change.came_in),
        (right, "Removed", change.went_out),
    ):
        with column:
            st.markdown(f"**{title}**, best score first")
            if len(rows):
                gallery(view, examples(rows, logit, EXAMPLES), width=150)
            else:
                st.caption("None.")


def _numbers(change: Comparison) -> None:
    with st.container(horizontal=True):
        st.metric("Added", numbers.whole(len(change.came_in)), width="content")
        st.metric("Removed", numbers.whole(len(change.went_out)), width="content")
        st.metric("In both", numbers.whole(change.stayed), width="content")
        st.metric(
            "Overlap",
            numbers.share(change.overlap),
            help="Jaccard index: samples in both over samples in either.",
            width="content",
        )
    why = change.why_out()
    if why:
        words = ", ".join(
            f"{glossary.reason(name)} {numbers.whole(count)}" for name, count in why.items()
        )
        st.caption(f"Reason for removal: {escape(words)}")


def _groups(view: View, change: Comparison) -> None:
    left, right = st.columns(2, gap="large")
    caption = "Right, full: added. Left, pale: removed."
    if view.chain.has("category"):
        kinds = view.categories
        with left:
            st.markdown("**By category**", help=caption)
            figure = in_and_out(
                kinds.names, *change.by_group(kinds.codes, len(kinds.names)), view.category_colors
            )
            chart(figure, key="compare-category")
    with right:
        st.markdown("**By source**", help=caption)
        figure = in_and_out(
            view.source_names,
            *change.by_group(view.codes, len(view.source_names)),
            view.source_colors,
        )
        chart(figure, key="compare-source")


@cached.shared(max_entries=3, show_spinner="Comparing the selections")
def _change(before: Artifact, after: Artifact) -> Comparison:
    return Comparison(before=cached.reasons(before), after=cached.reasons(after))
