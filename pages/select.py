"""Select: where to cut. Sliders show at once what a cut takes; saving makes it a selection of the workspace."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore.cutting import Cut, at_threshold, embodied_share, from_fraction, from_threshold
from emt_core.explore.lineage import labels_of
from emt_core.explore.saving import add_selection
from emt_core.figures import composition, numbers
from emt_core.figures.sweep import sweep
from emt_core.selection import Composition, Preview
from pages.parts import glossary
from pages.parts import view as reading
from pages.parts.cards import gallery
from pages.parts.empty import needs
from pages.parts.plain import escape, show_problem
from pages.parts.runs import page_header, start
from pages.parts.sidebar import short_label
from pages.parts.view import EMBODIED, View, current

BORDER_CARDS = 6
DEFAULT_SHARE = 0.25
BARE = {"displayModeBar": False}


def main() -> None:
    view = current()
    page_header(view, "Select", "Choose how much of the pool to keep, and see what that keeps.", ("select", "category"))
    needs(view, "sources", "embed", "score", "category", shows="Here scores become a selection, tuned by eye.")
    preview = view.preview
    if not preview.eligible:
        st.warning("No pool sample can be selected: none has an image, a feature and a score.")
        return
    k = _sliders(view, preview)
    cut = _caps(preview, k)
    made = preview.composition(cut.config())
    _numbers(view, preview, cut, made)
    _composition(view, preview, made)
    _sweep(view, preview, made)
    _border(view, preview, made)
    _save(view, cut, made)
    _saved(view)


def _sliders(view: View, preview: Preview) -> int:
    """Threshold, K and fraction, each moving the others. K is what counts and what the link carries."""
    low, high = preview.range
    state, eligible = st.session_state, preview.eligible
    scope = view.chain.score.key
    if state.get("_cut_scope") != scope or "cut_k" not in state:  # new scores, or back from another page
        asked = st.query_params.get("k", "")
        known = state["_k"] if state.get("_cut_scope") == scope else _current_k(view, preview)
        k = int(asked) if asked.isdecimal() else known
        state["_cut_scope"] = scope
        _set_all(preview, min(max(k, 1), eligible))
    with st.container(border=True):
        columns = st.columns(3, gap="large")
        columns[0].slider(
            "Threshold (logit)",
            float(np.floor(low * 100) / 100),
            float(np.ceil(high * 100) / 100) + 0.01,
            step=0.01 if high - low > 1 else 0.001,
            key="cut_threshold",
            on_change=_moved,
            args=(preview, "threshold"),
            help=glossary.THRESHOLD,
        )
        columns[1].slider(
            "K, samples kept",
            1,
            max(eligible, 2),
            key="cut_k",
            on_change=_moved,
            args=(preview, "k"),
            help=glossary.TOP_K,
        )
        columns[2].slider(
            "Fraction of the pool",
            0.0,
            100.0,
            step=0.1,
            format="%.1f %%",
            key="cut_fraction",
            on_change=_moved,
            args=(preview, "fraction"),
            help=glossary.FRACTION,
        )
    st.query_params["k"] = str(state["_k"])
    return state["_k"]


def _current_k(view: View, preview: Preview) -> int:
    """The size of the selection in view where it was made from this score by rank, else a quarter of the pool."""
    if view.chain.has("select") and view.chain.select.config.get("strategy") == "top":
        selected = int((view.reasons.codes == 0).sum())
        if selected:
            return selected
    return from_fraction(preview, DEFAULT_SHARE)


def _moved(preview: Preview, by: str) -> None:
    state = st.session_state
    if by == "threshold":
        k = from_threshold(preview, state["cut_threshold"])
    elif by == "fraction":
        k = from_fraction(preview, state["cut_fraction"] / 100)
    else:
        k = state["cut_k"]
    _set_all(preview, k, but=by)


def _set_all(preview: Preview, k: int, *, but: str = "") -> None:
    """Set every slider to K, but not the one that was moved: it stays where the hand left it."""
    state = st.session_state
    state["_k"] = k
    if but != "k":
        state["cut_k"] = k
    if but != "threshold":
        state["cut_threshold"] = float(preview.threshold_of(k))
    if but != "fraction":
        state["cut_fraction"] = round(100 * k / preview.eligible, 1)


def _caps(preview: Preview, k: int) -> Cut:
    """Optional caps in two small tables."""
    found: dict[str, dict[str, int]] = {}
    known = preview.candidates
    with st.expander("Caps by source and category", icon=":material/vertical_align_top:"):
        st.caption(glossary.CAPS)
        for column, by, names, totals in zip(
            st.columns(2, gap="large"),
            ("source", "category"),
            (known.pool_sources, list(known.categories)),
            (preview.totals.sum(axis=1), preview.totals.sum(axis=0)),
            strict=True,
        ):
            places = {name: i for i, name in enumerate(known.sources if by == "source" else known.categories)}
            table = pd.DataFrame(
                {
                    by: names,
                    "in the pool": [int(totals[places[name]]) for name in names],
                    "cap": pd.array([None] * len(names), dtype="Int64"),
                }
            )
            edited = column.data_editor(
                table,
                hide_index=True,
                disabled=[by, "in the pool"],
                key=f"caps_{by}_{st.session_state['_cut_scope']}",
                column_config={
                    "in the pool": st.column_config.NumberColumn(format="localized"),
                    "cap": st.column_config.NumberColumn("cap", min_value=0, step=1, format="localized"),
                },
            )
            found[by] = {row[by]: int(row["cap"]) for _, row in edited.iterrows() if pd.notna(row["cap"])}
    return Cut(k=k, caps_source=found["source"], caps_category=found["category"])


def _numbers(view: View, preview: Preview, cut: Cut, made: Composition) -> None:
    table = reading.parquet(str(view.chain.score.path), "sweep.parquet")
    here = at_threshold(table, made.threshold)
    whole = at_threshold(table, -np.inf)
    names = preview.candidates.categories
    before = embodied_share(preview.totals.sum(axis=0), names, EMBODIED)
    after = embodied_share(made.by_category, names, EMBODIED)
    short = cut.k - made.total
    with st.grid(6, min_column_width=118, gap="small"):
        st.metric(
            "Selected",
            numbers.whole(made.total),
            f"caps leave {numbers.whole(short)} places empty" if short > 0 else None,
            delta_color="off",
            delta_arrow="off",
            border=True,
            height="stretch",
            help=f"Of {numbers.whole(preview.eligible)} eligible pool samples.",
        )
        st.metric(
            "Pool share",
            numbers.share(made.total / preview.eligible),
            help=glossary.FRACTION,
            border=True,
            height="stretch",
        )
        st.metric("Lowest score", numbers.logit(made.threshold), help=glossary.SCORE, border=True, height="stretch")
        st.metric(
            "Embodied",
            numbers.share(after),
            numbers.change(after, before),
            help=glossary.EMBODIED,
            border=True,
            height="stretch",
        )
        st.metric(
            "Diversity",
            numbers.decimal(here["diversity"]),
            _difference(here["diversity"], whole["diversity"]),
            help=glossary.DIVERSITY,
            border=True,
            height="stretch",
        )
        st.metric(
            "MMD²",
            numbers.decimal(here["mmd2_to_robot"]),
            _difference(here["mmd2_to_robot"], whole["mmd2_to_robot"]),
            delta_color="inverse",
            help=glossary.MMD,
            border=True,
            height="stretch",
        )


def _difference(after: float | None, before: float | None) -> str | None:
    return None if after is None or before is None else f"{after - before:+.3f}"


def _composition(view: View, preview: Preview, made: Composition) -> None:
    known = preview.candidates
    left, right = st.columns(2, gap="large")
    caption = "Pale: share of the pool. Full: share of the selection."
    with left:
        st.subheader("By category", anchor=False, help=f"{glossary.CATEGORY} {caption}")
        st.plotly_chart(
            composition.before_after(
                known.categories, preview.totals.sum(axis=0), made.by_category, view.category_colours
            ),
            config=BARE,
            key="by_category",
        )
    with right:
        st.subheader("By source", anchor=False, help=caption)
        places = [known.sources.index(name) for name in known.pool_sources]
        st.plotly_chart(
            composition.before_after(
                known.pool_sources, preview.totals.sum(axis=1)[places], made.by_source[places], view.source_colours
            ),
            config=BARE,
            key="by_source",
        )


def _sweep(view: View, preview: Preview, made: Composition) -> None:
    with st.expander("What tightening the cut costs and gains", icon=":material/show_chart:", expanded=False):
        table = reading.parquet(str(view.chain.score.path), "sweep.parquet")
        st.caption(
            f"Diversity and squared MMD for every cut, on a seeded subsample of {numbers.whole(len(table))} pool "
            "samples. Caps are not part of it."
        )
        share = preview.k_of(made.threshold) / preview.eligible if np.isfinite(made.threshold) else None
        st.plotly_chart(sweep(table.to_pandas(), at_share=share), config=BARE, key="sweep")


def _border(view: View, preview: Preview, made: Composition) -> None:
    if not np.isfinite(made.threshold):
        return
    inside, outside = preview.rows_near(made.threshold, BORDER_CARDS)
    st.subheader("On either side of the cut", anchor=False, help=glossary.BORDER)
    left, right = st.columns(2, gap="large")
    with left:
        st.caption(":material/check: just inside")
        gallery(view, inside, width=150)
    with right:
        st.caption(":material/block: just outside")
        gallery(view, outside, width=150)


def _save(view: View, cut: Cut, made: Composition) -> None:
    st.subheader("Save as a selection", anchor=False)
    with st.form("save", border=True):
        name_at, text_at, button_at = st.columns([3, 5, 2], vertical_alignment="bottom")
        name = name_at.text_input(
            "Name", placeholder="for example near-quarter", max_chars=40, help="Letters, digits, '-' and '_'."
        )
        caps = len(cut.caps_source) + len(cut.caps_category)
        with_caps = f", {caps} caps" if caps else ""
        text_at.markdown(
            f"Top **{numbers.whole(cut.k)}** by score, {numbers.whole(made.total)} taken{with_caps}.  \n"
            f":gray[Adds one entry to the workspace's copy of recipe {escape(view.recipe or '')} and runs it.]"
        )
        pressed = button_at.form_submit_button(
            "Save and run", type="primary", icon=":material/save:", width="stretch", disabled=not made.total
        )
    if pressed:
        config = cut.config().model_dump(exclude_defaults=True, mode="json")
        try:
            label = add_selection(view.workspace, view.recipe or "", name.strip(), config, view.chain, view.done)
        except EmtError as error:
            show_problem(error)
            return
        start(view, label, title=f"Selection {name.strip()}")
        st.rerun()
    problem = st.session_state.pop("_launch_problem", None)
    if problem is not None:
        show_problem(problem)


def _saved(view: View) -> None:
    labels = labels_of(view.done, "select")[::-1]
    if not labels:
        return
    st.subheader("Selections", anchor=False)
    rows = [_report_row(label, view.done[label].manifest) for label in labels]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "selected": st.column_config.NumberColumn(format="localized"),
            "diversity": st.column_config.NumberColumn(format="%.3f", help=glossary.DIVERSITY),
            "MMD² to robot": st.column_config.NumberColumn(format="%.3f", help=glossary.MMD),
            "lowest score": st.column_config.NumberColumn(format="%.2f", help=glossary.SCORE),
            "embodied": st.column_config.NumberColumn(format="percent", help=glossary.EMBODIED),
            "finished": st.column_config.DatetimeColumn(format="D MMM, HH:mm"),
        },
    )
    with st.container(horizontal=True):
        for label in labels[:6]:
            pressed = st.button(
                f"Browse {escape(short_label(label))}",
                key=f"browse-{label}",
                icon=":material/photo_library:",
                type="tertiary",
                on_click=_show,
                args=(label,),
            )
            if pressed:
                st.switch_page("pages/browse.py")


def _show(label: str) -> None:
    """Make it the selection in view: a link's parameters do not reach a select box that is on the page already."""
    st.session_state["selection"] = label


def _report_row(label: str, manifest: dict) -> dict:
    metrics = manifest["metrics"]
    return {
        "name": short_label(label),
        "strategy": manifest["config"]["strategy"],
        "selected": metrics["selected"],
        "lowest score": metrics["cut_logit"],
        "embodied": metrics["embodied_share"]["after"],
        "diversity": metrics["diversity"]["after"],
        "MMD² to robot": metrics["mmd2_to_robot"].get("all", {}).get("after"),
        "finished": pd.Timestamp(manifest["finished"], unit="s"),
    }


main()
