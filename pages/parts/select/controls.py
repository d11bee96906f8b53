"""The controls of a cut: threshold, K, fraction, caps, and flags whose samples are excluded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.curation.flags import FLAGS
from emt_core.explore.tables.select import Cut, from_fraction, from_threshold
from emt_core.selection import Preview
from pages.parts import flagging, glossary
from pages.parts.score_slider import Slider, score_slider
from pages.parts.view import View

DEFAULT_SHARE = 0.25


def excluded_flags(view: View) -> tuple[str, ...]:
    """Flags whose samples the selection excludes; drawn only where something is flagged."""
    counts = {flag: count for flag, count in view.flags.counts().items() if count}
    if not counts:
        return ()
    chosen = st.pills(
        "Exclude flagged",
        [flag for flag in FLAGS if flag in counts],
        selection_mode="multi",
        default=["exclude"] if "exclude" in counts else None,
        key="leave_out",
        format_func=lambda flag: (
            f":material/{flagging.ICON[flag]}: {flag} ({numbers.short(counts.get(flag, 0))})"
        ),
        help="The saved selection lists their ids under `exclude`.",
    )
    return tuple(chosen)


def sliders(view: View, preview: Preview) -> int:
    """Threshold, K and fraction, each moving the others; returns K (kept in the address)."""
    threshold = _threshold(preview)
    state, eligible = st.session_state, preview.eligible
    scope = view.chain.score.key
    if state.get("_cut_scope") != scope or "cut_k" not in state:
        # other scores are in view, or the page was left and opened again
        asked = st.query_params.get("k", "")
        known = state["_k"] if state.get("_cut_scope") == scope else _current_k(view, preview)
        k = int(asked) if asked.isdecimal() else known
        state["_cut_scope"] = scope
        _set_all(preview, min(max(k, 1), eligible))
    if state["_k"] > eligible:  # more samples are excluded now
        _set_all(preview, eligible)
    with st.container(border=True):
        columns = st.columns(3, gap="large")
        columns[0].slider(
            f"Threshold ({view.score_scale.name})",
            threshold.low,
            threshold.high,
            step=threshold.step,
            format=threshold.format,
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


def _threshold(preview: Preview) -> Slider:
    return score_slider(preview.eligible, lambda ranks: -preview.rising[ranks])


def _current_k(view: View, preview: Preview) -> int:
    """The size of the selection in view if it was ranked by score, else a quarter of the pool."""
    if view.chain.has("select") and view.chain.select.config.get("strategy") == "top":
        selected = int(view.selected.sum())
        if selected:
            return selected
    return from_fraction(preview, DEFAULT_SHARE)


def _moved(preview: Preview, by: str) -> None:
    state = st.session_state
    if by == "threshold":
        at = state["cut_threshold"]
        k = preview.eligible if at <= _threshold(preview).low else from_threshold(preview, at)
    elif by == "fraction":
        k = from_fraction(preview, state["cut_fraction"] / 100)
    else:
        k = state["cut_k"]
    _set_all(preview, k, but=by)


def _set_all(preview: Preview, k: int, *, but: str = "") -> None:
    """Set every slider to K, except `but`, the one that was moved."""
    state = st.session_state
    state["_k"] = k
    if but != "k":
        state["cut_k"] = k
    if but != "threshold":
        ends = _threshold(preview)
        state["cut_threshold"] = float(np.clip(preview.threshold_of(k), ends.low, ends.high))
    if but != "fraction":
        state["cut_fraction"] = round(100 * k / preview.eligible, 1)


def caps(preview: Preview, k: int) -> Cut:
    """The cut of K rows with the caps that the reader entered in two tables."""
    entered: dict[str, dict[str, int]] = {}
    known, state = preview.candidates, st.session_state
    keys = {by: f"caps_{by}_{state['_cut_scope']}" for by in ("source", "category")}
    box = st.expander(
        "Caps by source and category",
        icon=":material/vertical_align_top:",
        on_change="rerun",
        key="caps",
    )
    if not box.open and not any(state[key]["edited_rows"] for key in keys.values() if key in state):
        # A closed box draws nothing. One with caps has to be drawn: tables that are not drawn
        # forget what was entered.
        return Cut(k=k)
    with box:
        st.caption(glossary.CAPS)
        for column, by, names, totals in zip(
            st.columns(2, gap="large"),
            ("source", "category"),
            (known.pool_sources, list(known.categories)),
            (preview.totals.sum(axis=1), preview.totals.sum(axis=0)),
            strict=True,
        ):
            places = {
                name: i
                for i, name in enumerate(known.sources if by == "source" else known.categories)
            }
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
                key=keys[by],
                column_config={
                    "in the pool": st.column_config.NumberColumn(format="localized"),
                    "cap": st.column_config.NumberColumn(
                        "cap", min_value=0, step=1, format="localized"
                    ),
                },
            )
            capped = edited.dropna(subset="cap")
            entered[by] = dict(zip(capped[by], capped["cap"].astype(int).tolist(), strict=True))
    return Cut(k=k, caps_source=entered["source"], caps_category=entered["category"])
