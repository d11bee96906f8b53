"""What a cut means: counts, measures, composition, budget, and the samples on either side of it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import select as composition
from emt_core.explore.figures.sweep import sweep
from emt_core.explore.tables.select import Cut, at_threshold, embodied_share
from emt_core.selection import Composition, Preview
from pages.parts import cached, glossary
from pages.parts.cards import gallery
from pages.parts.view import EMBODIED, View
from pages.parts.widgets import chart

BORDER_CARDS = 6


def measures(view: View, preview: Preview, cut: Cut, made: Composition) -> None:
    table = cached.parquet(view.chain.score, "sweep.parquet")
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
        st.metric(
            "Lowest score",
            numbers.logit(made.threshold),
            help=view.score_scale.help,
            border=True,
            height="stretch",
        )
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


def make_up(view: View, preview: Preview, made: Composition) -> None:
    known = preview.candidates
    left, right = st.columns(2, gap="large")
    caption = "Pale: share of the pool. Full: share of the selection."
    with left:
        st.subheader("By category", anchor=False, help=f"{glossary.CATEGORY} {caption}")
        chart(
            composition.before_after(
                known.categories,
                preview.totals.sum(axis=0),
                made.by_category,
                view.category_colors,
            ),
            key="by_category",
        )
    with right:
        st.subheader("By source", anchor=False, help=caption)
        places = [known.sources.index(name) for name in known.pool_sources]
        chart(
            composition.before_after(
                known.pool_sources,
                preview.totals.sum(axis=1)[places],
                made.by_source[places],
                view.source_colors,
            ),
            key="by_source",
        )


def price_of_tightening(view: View, preview: Preview, made: Composition) -> None:
    box = st.expander(
        "What tightening the cut costs and gains",
        icon=":material/show_chart:",
        on_change="rerun",
        key="tightening",
    )
    if not box.open:  # a closed box draws nothing: each slider would pay for it
        return
    with box:
        table = cached.parquet(view.chain.score, "sweep.parquet")
        st.caption(
            f"Diversity and squared MMD for every cut, on a seeded subsample of {numbers.whole(len(table))} pool "
            "samples. Caps are not part of it."
        )
        share = (
            preview.k_of(made.threshold) / preview.eligible if np.isfinite(made.threshold) else None
        )
        chart(sweep(table.to_pandas(), at_share=share), key="sweep")


def border(view: View, preview: Preview, made: Composition) -> None:
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
