"""One sample in full: images, conversation, numbers, origin, nearest robot frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from emt_core.data.images.tiles import parts_of
from emt_core.data.readers.annotation import at_frame
from emt_core.data.robot.read_sets import robot_set_of
from emt_core.data.sample import ImageRef, Sample
from emt_core.explore import numbers
from emt_core.explore.reading import category_reason, spread_of
from emt_core.explore.tables.episodes import said_of
from pages.parts import cached, flagging, glossary
from pages.parts.cards import gallery, image_bytes, webp_uri
from pages.parts.plain import shorten
from pages.parts.view import View
from pages.parts.widgets import one_page

DETAIL_PIXELS = 512
SPEAKER = {"user": "Question", "assistant": "Answer", "system": "System"}
IMAGES_AT_ONCE = 8
ANNOTATIONS_AT_ONCE = 20


def detail(view: View, row: int, *, below: Callable[[], None] | None = None) -> None:
    """Draw one index row. below: draws the buttons under the images."""
    sample = view.index.samples([row])[0]
    left, right = st.columns([2, 3], gap="large")
    with left:
        _images(view, row, sample)
        if below is not None:
            below()
    with right:
        _numbers(view, row, sample)
        flagging.buttons(view, row)
        for turn in sample.turns:
            st.caption(SPEAKER[turn.role] if sample.role == "pool" else "Instruction")
            with st.container(border=True):
                st.text(turn.text)
        _annotations(view, row, sample)
        with st.expander("Origin", icon=":material/info:"):
            _origin(view, row, sample)
    if view.chain.has("embed"):
        _neighbors(view, row)


def _annotations(view: View, row: int, sample: Sample) -> None:
    """What is said of a robot frame beside its instruction."""
    source = view.index.source_of(row)
    if sample.episode < 0 or source.facts["format"] != "lerobot":
        return
    said = at_frame(said_of(robot_set_of(view.index, source), sample.episode), sample.frame)
    shown = [one for one in said if one.problem or one.text]
    if not shown:
        return
    st.caption("Annotations of this frame", help=glossary.ANNOTATIONS)
    with st.container(border=True):
        for one in shown[:ANNOTATIONS_AT_ONCE]:
            st.text(f"{one.style}: {one.problem or one.text}")
        if len(shown) > ANNOTATIONS_AT_ONCE:
            st.caption(f"and {len(shown) - ANNOTATIONS_AT_ONCE} more")


def _images(view: View, row: int, sample: Sample) -> None:
    """The images, IMAGES_AT_ONCE to a page."""
    if not sample.images:
        st.caption(":material/notes: text only")
        return
    shown = one_page(sample.images, IMAGES_AT_ONCE, f"images-{row}")
    if len(shown) < len(sample.images):
        st.caption(f"{len(shown)} of {len(sample.images)} images")
    for ref in shown:
        st.image(webp_uri(image_bytes(view, row, ref, DETAIL_PIXELS)), width="stretch", alt="")


def _numbers(view: View, row: int, sample: Sample) -> None:
    with st.container(horizontal=True):
        if view.chain.has("score"):
            value = float(view.logits[row])
            st.metric("Score", numbers.logit(value), help=view.score_scale.help, width="content")
            if view.need("score").metrics.get("spread"):
                spread = numbers.decimal(spread_of(view.need("score"), row), 2)
                st.metric("Seed spread", spread, help=glossary.SPREAD, width="content")
            rank, total = rank_in_pool(view, row)
            if rank is not None:
                st.metric(
                    "Rank",
                    f"top {numbers.share(rank / total)}",
                    help=f"{numbers.whole(rank)} of {numbers.whole(total)} pool samples with an "
                    "image and a score.",
                    width="content",
                )
        if view.chain.has("category") and sample.role == "pool":
            name = view.categories.names[view.categories.codes[row]]
            st.metric("Category", name, help=glossary.CATEGORY, width="content")
        if view.chain.has("select"):
            reason = view.reasons.names[view.reasons.codes[row]]
            st.metric("In this selection", glossary.reason(reason), width="content")


def rank_in_pool(view: View, row: int) -> tuple[int | None, int]:
    """(1 for the best, ties by row; how many pool samples are ranked); None: it is not ranked."""
    images = cached.index_column(view.need("sources"), "n_images")
    ranked = view.is_pool & (images > 0) & np.isfinite(view.logits)
    total = np.count_nonzero(ranked)
    if not ranked[row]:
        return None, total
    better = view.logits > view.logits[row]
    better[:row] |= view.logits[:row] == view.logits[row]
    return 1 + np.count_nonzero(better & ranked), total


def _origin(view: View, row: int, sample: Sample) -> None:
    facts = {
        "id": sample.id,
        "source": sample.source,
        "row in source": str(sample.row),
        "own id": sample.own_id,
    }
    if view.chain.has("category") and sample.role == "pool":
        reason = category_reason(view.need("category"), row)
        facts |= {"category by": reason} if reason else {}
    if sample.episode >= 0:
        facts |= {"episode": str(sample.episode), "frame": str(sample.frame)}
    facts |= {f"image {i + 1}": _where(ref) for i, ref in enumerate(sample.images)}
    facts |= {name: str(value) for name, value in sample.meta.items()}
    st.text("\n".join(f"{name}: {shorten(value, 300)}" for name, value in facts.items() if value))


def _where(ref: ImageRef) -> str:
    if ref.kind == "tile":
        return "; ".join(_where(part) for part in parts_of(ref))
    parts = [ref.path, ref.member]
    if ref.kind == "video":
        parts.append(f"at {ref.time:.2f} s")
    elif ref.kind in ("parquet", "arrow", "stream"):
        parts.append(f"row {ref.index}")
    return " / ".join(part for part in parts if part)


def _neighbors(view: View, row: int) -> None:
    st.subheader("Nearest robot frames", anchor=False, help=glossary.NEAREST)
    vector = view.features.take([row])[0]
    if not np.any(vector):
        st.caption("This sample has no feature.")
        return
    bank = view.bank
    rows, distances = bank.nearest(vector, 9)
    keep = rows != row
    if not keep.any():
        st.caption("There are no robot frames with a feature.")
        return
    notes = [f":gray[distance] **{numbers.decimal(float(d), 2)}**" for d in distances[keep][:8]]
    gallery(view, rows[keep][:8], notes=notes)
    if bank.total > len(bank.rows):
        searched = f"{numbers.whole(len(bank.rows))} of {numbers.whole(bank.total)}"
        st.caption(f"Searched {searched} frames (seeded sample).")
