"""The effect of a cut: counts, measures, composition, and the samples next to it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures.select import before_after
from emt_core.explore.figures.sweep import sweep
from emt_core.explore.tables.measured import of_selection
from emt_core.explore.tables.select import Cut, at_threshold, is_cut
from emt_core.selection import Composition, Preview
from emt_core.selection.report import embodied_share
from pages.parts import cached, glossary
from pages.parts.cards import gallery
from pages.parts.view import View
from pages.parts.widgets import chart, metrics

BORDER_CARDS = 6


def measures(view: View, preview: Preview, cut: Cut, made: Composition, excluded: int) -> None:
    """The cut's figures: those of the selection in view where it is that one."""
    select = view.chain.select
    if select is not None and is_cut(select, cut, made.total, excluded):
        here, whole = (of_selection(select.metrics, when) for when in ("after", "before"))
    else:
        table = cached.parquet(view.chain.score, "sweep.parquet")
        here, whole = (at_threshold(table, end) for end in (made.threshold, -np.inf))
    names = preview.candidates.categories
    before, after = (
        embodied_share(dict(zip(names, counts, strict=True)))
        for counts in (preview.totals.sum(axis=0), made.by_category)
    )
    unfilled = cut.k - made.total
    whole_pool = f"Of {numbers.whole(preview.eligible)} eligible pool samples."
    metrics(
        ("Selected", numbers.whole(made.total), whole_pool),
        ("Pool share", numbers.share(made.total / preview.eligible), glossary.FRACTION),
        ("Lowest score", numbers.logit(made.threshold), view.score_scale.help),
        ("Embodied", numbers.share(after), glossary.EMBODIED, numbers.change(after, before)),
        (
            "Diversity",
            here["diversity"].text,
            glossary.DIVERSITY,
            here["diversity"].change_from(whole["diversity"]),
        ),
        (
            "MMD²",
            here["mmd2_to_robot"].text,
            glossary.MMD,
            here["mmd2_to_robot"].change_from(whole["mmd2_to_robot"]),
            "inverse",
        ),
        width=190,
    )
    if unfilled > 0:
        st.caption(f"{numbers.counted(unfilled, 'place')} unfilled because of caps.")


def composition(view: View, preview: Preview, made: Composition) -> None:
    known = preview.candidates
    left, right = st.columns(2, gap="large")
    caption = "Pale: share of the pool. Full: share of the selection."
    with left:
        st.subheader("By category", anchor=False, help=f"{glossary.CATEGORY} {caption}")
        chart(
            before_after(
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
            before_after(
                known.pool_sources,
                preview.totals.sum(axis=1)[places],
                made.by_source[places],
                view.source_colors,
            ),
            key="by_source",
        )


def sweep_of_cuts(view: View, preview: Preview, made: Composition) -> None:
    box = st.expander(
        "Diversity and distance for every cut",
        icon=":material/show_chart:",
        on_change="rerun",
        key="tightening",
    )
    if not box.open:  # a closed box draws nothing: each slider would pay for it
        return
    with box:
        table = cached.parquet(view.chain.score, "sweep.parquet")
        size = numbers.whole(len(table))
        st.caption(f"Measured on a seeded subsample of {size} pool samples, without caps.")
        share = (
            preview.k_of(made.threshold) / preview.eligible if np.isfinite(made.threshold) else None
        )
        chart(sweep(table.to_pandas(), at_share=share), key="sweep")


def at_the_cut(view: View, preview: Preview, made: Composition) -> None:
    if not np.isfinite(made.threshold):
        return
    inside, outside = preview.rows_near(made.threshold, BORDER_CARDS)
    st.subheader("Samples at the cut", anchor=False, help=glossary.BORDER)
    left, right = st.columns(2, gap="large")
    with left:
        st.caption(":material/check: last selected")
        gallery(view, inside, width=150)
    with right:
        st.caption(":material/block: first rejected")
        gallery(view, outside, width=150)
