"""Samples as cards. Text from the data goes through st.text, which never parses it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st

from emt_core.data.images.thumbnails import thumbnail
from emt_core.data.index import SourceRange
from emt_core.data.sample import ImageRef, Sample
from emt_core.explore import numbers
from emt_core.explore.curation.flags import FLAGS
from pages.parts import flagging
from pages.parts.plain import escape, shorten
from pages.parts.router import link_to
from pages.parts.view import EMBODIED, TEXT_HEAVY, View

CARD_TEXT = 76
BADGE = {**dict.fromkeys(EMBODIED, "green"), **dict.fromkeys(TEXT_HEAVY, "violet")}


def gallery(
    view: View,
    rows: Sequence[int] | np.ndarray,
    *,
    notes: Sequence[str] = (),
    width: int = 168,
    query: Mapping[str, list[str]] | None = None,
    flags: str = "",
) -> None:
    """One card per row, in this order.

    notes: a Markdown line per card, instead of score and category. query: parameters that links
    carry besides the sample (the filters of the gallery). flags: unique name of the gallery where
    its cards can be flagged.
    """
    samples = view.index.samples(np.asarray(rows, np.int64))
    codes = view.flags.codes
    with st.grid("auto", min_column_width=width, gap="small"):
        for place, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            with st.container(border=True, gap="xsmall", height="stretch"):
                picture(view, sample, int(row))
                words = notes[place] if notes else _facts(view, int(row), sample)
                flag = FLAGS[codes[row]]
                st.markdown(f"{words}  {flagging.badge(flag)}" if flag else words)
                st.text(shorten(first_words(sample), CARD_TEXT) or "(no text)")
                if flags:
                    flagging.card_control(view, int(row), flags)
                address = {**(query or {}), **link(view, sample.id)}
                link_to("browse", "Open", icon="open_in_full", query=address)


def link(view: View, sample_id: str) -> dict[str, str]:
    """Parameters of the permanent link to a sample."""
    return {"sample": sample_id, "recipe": view.recipe}


def _facts(view: View, row: int, sample: Sample) -> str:
    """`+2.31 · spatial · source` as Markdown."""
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
    """The first turn with text, without image placeholders."""
    for turn in sample.turns:
        words = turn.text.replace("<image>", " ").strip()
        if words:
            return words
    return ""


def picture(view: View, sample: Sample, row: int, *, size: int = 256) -> None:
    """The first image as a thumbnail, or "text only"."""
    if not sample.images:
        st.caption(":material/notes: text only")
        return
    st.image(webp_uri(image_bytes(view, row, sample.images[0], size)), width="stretch", alt="")


def image_bytes(view: View, row: int, ref: ImageRef, size: int) -> bytes:
    source: SourceRange = view.index.source_of(row)
    return thumbnail(view.workspace, source, ref, size=size, embed=view.chain.embed, row=row)


def webp_uri(content: bytes) -> str:
    """The picture as a data URI.

    Given bytes, st.image encodes them as PNG or JPEG at every draw, and the browser then asks the
    server for each picture.
    """
    return "data:image/webp;base64," + base64.b64encode(content).decode()
