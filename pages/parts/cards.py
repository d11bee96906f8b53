"""Samples as cards and in detail. Data text only through st.text: it is never parsed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from emt_core.figures import numbers
from emt_core.index import SourceRange
from emt_core.sample import ImageRef, Sample
from emt_core.thumbnails import thumbnail
from pages.parts import glossary
from pages.parts.plain import escape, shorten
from pages.parts.view import EMBODIED, TEXT_HEAVY, View

CARD_TEXT = 76
DETAIL_PIXELS = 512
BADGE = {**dict.fromkeys(EMBODIED, "green"), **dict.fromkeys(TEXT_HEAVY, "violet")}
SPEAKER = {"user": "Question", "assistant": "Answer", "system": "System"}


def gallery(view: View, rows: Sequence[int] | np.ndarray, *, notes: Sequence[str] = (), width: int = 168) -> None:
    """A card a row, in this order. notes: one line of ours a card, instead of score and category."""
    samples = view.index.samples(np.asarray(rows, np.int64))
    with st.grid("auto", min_column_width=width, gap="small"):
        for place, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            with st.container(border=True, gap="xsmall", height="stretch"):
                _card(view, int(row), sample, notes[place] if notes else "")


def _card(view: View, row: int, sample: Sample, note: str) -> None:
    picture(view, sample, row)
    if note:
        st.markdown(note)
    else:
        st.markdown(_facts(view, row, sample))
    st.text(shorten(first_words(sample), CARD_TEXT) or "(no text)")
    st.page_link("pages/browse.py", label="Open", icon=":material/open_in_full:", query_params=link(view, sample.id))


def link(view: View, sample_id: str) -> dict[str, str]:
    """Query parameters of the permanent link to a sample."""
    found = {"sample": sample_id}
    if view.recipe:
        found["recipe"] = view.recipe
    return found


def _facts(view: View, row: int, sample: Sample) -> str:
    """`+2.31 · spatial · source`, in Markdown of ours."""
    parts = []
    if view.chain.has("score"):
        parts.append(f"**{numbers.logit(float(view.logits[row]))}**")
    if sample.role == "robot":
        parts.append(":orange-badge[robot data]")
    elif view.chain.has("category"):
        name = view.categories.names[view.categories.codes[row]]
        parts.append(f":{BADGE.get(name, 'gray')}-badge[{escape(name)}]")
    return " ".join(parts) + f"  \n:small[:gray[{escape(sample.source)}]]"


def first_words(sample: Sample) -> str:
    """What the sample asks or says first, without image placeholders."""
    for turn in sample.turns:
        words = turn.text.replace("<image>", " ").strip()
        if words:
            return words
    return ""


def picture(view: View, sample: Sample, row: int, *, size: int = 256) -> None:
    """The first image as a thumbnail, or a line that says there is none."""
    if not sample.images:
        st.caption(":material/notes: text only")
        return
    st.image(image_bytes(view, row, sample.images[0], size), width="stretch", alt="")


def image_bytes(view: View, row: int, ref: ImageRef, size: int) -> bytes:
    source: SourceRange = view.index.source_of(row)
    return thumbnail(view.workspace, source, ref, size=size, embed=view.chain.embed, row=row)


def detail(view: View, sample_id: str) -> None:
    """Everything about one sample, and the robot frames nearest to it. Raises EmtError where there is none such."""
    row = view.index.row_of(sample_id)
    sample = view.index.samples([row])[0]
    left, right = st.columns([2, 3], gap="large")
    with left:
        for ref in sample.images[:4]:
            st.image(image_bytes(view, row, ref, DETAIL_PIXELS), width="stretch", alt="")
        if len(sample.images) > 4:
            st.caption(f"and {len(sample.images) - 4} more images")
        if not sample.images:
            st.caption(":material/notes: text only")
    with right:
        _numbers(view, row, sample)
        for turn in sample.turns:
            st.caption(SPEAKER[turn.role] if sample.role == "pool" else "Instruction")
            with st.container(border=True):
                st.text(turn.text)
        with st.expander("Origin", icon=":material/info:"):
            _origin(view, row, sample)
    if view.chain.has("embed"):
        _neighbours(view, row)


def _numbers(view: View, row: int, sample: Sample) -> None:
    with st.container(horizontal=True):
        if view.chain.has("score"):
            value = float(view.logits[row])
            st.metric("Score", numbers.logit(value), help=glossary.SCORE, width="content")
            if np.isfinite(value):
                share = np.searchsorted(-view.logits[view.order], -value, side="right") / max(len(view.order), 1)
                st.metric(
                    "Rank", f"top {numbers.share(float(share))}", help="Among all scored samples.", width="content"
                )
        if view.chain.has("category") and sample.role == "pool":
            name = view.categories.names[view.categories.codes[row]]
            st.metric("Category", name, help=glossary.CATEGORY, width="content")
        if view.chain.has("select"):
            reason = view.reasons.names[view.reasons.codes[row]]
            st.metric("In this selection", glossary.reason(reason), width="content")


def _origin(view: View, row: int, sample: Sample) -> None:
    facts = {"id": sample.id, "source": sample.source, "row in source": str(sample.row), "own id": sample.own_id}
    if sample.role == "robot":
        facts |= {"episode": str(sample.episode), "frame": str(sample.frame)}
    facts |= {f"image {i + 1}": _where(ref) for i, ref in enumerate(sample.images)}
    facts |= {name: str(value) for name, value in sample.meta.items()}
    st.text("\n".join(f"{name}: {shorten(value, 300)}" for name, value in facts.items() if value))


def _where(ref: ImageRef) -> str:
    parts = [ref.path, ref.member]
    if ref.kind == "video":
        parts.append(f"at {ref.time:.2f} s")
    elif ref.kind in ("parquet", "arrow", "stream"):
        parts.append(f"row {ref.index}")
    return " / ".join(part for part in parts if part)


def _neighbours(view: View, row: int) -> None:
    st.subheader("Nearest robot frames", anchor=False, help=glossary.NEAREST)
    vector = view.features.take([row])[0]
    if not np.any(vector):
        st.caption("This sample has no feature, so nothing is near it.")
        return
    bank = view.bank
    rows, distances = bank.nearest(vector, 9)
    keep = rows != row
    if not keep.any():
        st.caption("There are no robot frames with a feature.")
        return
    notes = [f":gray[distance] **{numbers.decimal(float(d), 2)}**" for d in distances[keep][:8]]
    gallery(view, rows[keep][:8], notes=notes, width=150)
    if bank.total > len(bank.rows):
        st.caption(f"Searched {numbers.whole(len(bank.rows))} of {numbers.whole(bank.total)} frames (seeded sample).")
