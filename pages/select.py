"""Select: where to cut. Sliders show at once what a cut takes; saving makes it a selection of the workspace."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.parts.empty import needs
from pages.parts.runs import page_header
from pages.parts.select.budget import budget
from pages.parts.select.comparison import compare
from pages.parts.select.controls import caps, leave_out, sliders
from pages.parts.select.export import export
from pages.parts.select.figures import border, make_up, measures, price_of_tightening
from pages.parts.select.saving import save, saved
from pages.parts.view import View, current


def main() -> None:
    view = current()
    page_header(
        view,
        "Select",
        "Choose how much of the pool to keep, and see what that keeps.",
        ("select", "category"),
    )
    needs(
        view,
        "sources",
        "embed",
        "score",
        "category",
        shows="Here scores become a selection, tuned by eye.",
    )
    _tune(view)
    saved(view)
    compare(view)
    export(view)


@st.fragment
def _tune(view: View) -> None:
    """A slider redraws this and nothing else; the figures come first, pictures last."""
    out = leave_out(view)
    left_out = view.flags.rows(out) if out else np.empty(0, np.int64)
    left_out = left_out[view.is_pool[left_out]]
    preview = view.preview_without(left_out)
    if not preview.eligible:
        st.warning("No pool sample can be selected: none has an image, a feature and a score.")
        return
    k = sliders(view, preview)
    cut = caps(preview, k)
    made = preview.composition(cut.config())
    measures(view, preview, cut, made)
    make_up(view, preview, made)
    budget(view, preview, f"{view.chain.score.key}-{view.flag_book.version}-{out}", made)
    price_of_tightening(view, preview, made)
    border(view, preview, made)
    save(view, cut, made, left_out)


main()
