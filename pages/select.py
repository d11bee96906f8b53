"""Select: choose a cut, see its effect at once, and save it as a selection."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.parts.empty import needs
from pages.parts.runs import page_header
from pages.parts.select.budget import budget
from pages.parts.select.comparison import compare
from pages.parts.select.controls import caps, excluded_flags, sliders
from pages.parts.select.export import export
from pages.parts.select.figures import at_the_cut, composition, measures, sweep_of_cuts
from pages.parts.select.saving import save, saved
from pages.parts.view import View, current


def main() -> None:
    view = current()
    page_header(
        view,
        "Select",
        "Choose how much of the pool to keep and see the effect.",
        ("select", "category"),
    )
    needs(
        view,
        "sources",
        "embed",
        "score",
        "category",
        shows="Here you turn scores into a selection.",
    )
    _tune(view)
    saved(view)
    compare(view)
    export(view)


@st.fragment
def _tune(view: View) -> None:
    """A slider redraws this fragment alone; numbers come first, pictures last."""
    flags = excluded_flags(view)
    excluded = view.flags.rows(flags) if flags else np.empty(0, np.int64)
    excluded = excluded[view.is_pool[excluded]]
    preview = view.preview_without(excluded)
    if not preview.eligible:
        st.warning("No pool sample can be selected: none has an image, a feature and a score.")
        return
    k = sliders(view, preview)
    cut = caps(preview, k)
    made = preview.composition(cut.config())
    measures(view, preview, cut, made, len(excluded))
    composition(view, preview, made)
    budget(view, preview, f"{view.chain.score.key}-{view.flag_book.version}-{flags}", made)
    sweep_of_cuts(view, preview, made)
    at_the_cut(view, preview, made)
    save(view, cut, made, excluded)


main()
