"""A robot frame with its nearest pool samples, a pool sample with its nearest robot frames."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.tables.neighbor_pairs import Frames, drawn, nearest_of_all, row_in_role
from emt_core.proximity.neighbors import BANK_ROWS, FeatureBank, pool_bank
from emt_core.workspace.artifact import Artifact
from pages.parts import cached, glossary
from pages.parts.cards import first_words, gallery, image_bytes, link, webp_uri
from pages.parts.plain import shorten, show_problem
from pages.parts.router import link_to
from pages.parts.view import View
from pages.parts.widgets import action, side_by_side

NEAREST = 6
OTHER = {"robot": "pool", "pool": "robot"}
PARAMETER = {"robot": "frame", "pool": "sample"}
"""The address's parameter that names the sample of each role."""


def pairs(view: View) -> None:
    st.subheader("Sample by sample", anchor=False, help=glossary.NEAREST_PAIRS)
    left, right = st.columns(2, gap="large")
    with left:
        _side(view, "robot", "Nearest pool samples of a robot frame")
    with right:
        _side(view, "pool", "Nearest robot frames of a pool sample")


def _side(view: View, role: str, title: str) -> None:
    st.markdown(f"**{title}**")
    try:
        row = _asked(view, role)
        if row is None:
            st.caption("No sample here has a vector.")
            return
        with st.container(height="content"):
            row = _pick(view, role, row)
        _picked(view, row)
        _nearest(view, role, row)
    except EmtError as error:
        show_problem(error)


def _asked(view: View, role: str) -> int | None:
    """The sample that the address names, else a seeded one."""
    asked = st.query_params.get(PARAMETER[role])
    if asked:
        try:
            return row_in_role(view.index, asked, role)
        except EmtError as error:
            show_problem(error)
    return drawn(view.index, view.features, role, 0)


def _pick(view: View, role: str, row: int) -> int:
    sample = view.index.samples([row])[0]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        key = f"gap-id-{role}-{row}"
        change = {"on_change": _by_id, "args": (role, key)}
        st.text_input("Id", sample.id, key=key, width=190, help="`source:row`", **change)
        if role == "robot":
            frames = _frames(view.chain.sources, sample.source)
            episode_key, frame_key = f"gap-episode-{row}", f"gap-frame-{row}"
            st.number_input(
                "Episode",
                int(frames.episode.min()),
                int(frames.episode.max()),
                sample.episode,
                key=episode_key,
                on_change=_by_episode,
                args=(view, sample.source, episode_key),
                width=120,
            )
            rows = frames.rows_of(sample.episode)
            st.selectbox(
                "Frame",
                rows.tolist(),
                index=int(np.flatnonzero(rows == row)[0]),
                format_func=lambda r: str(frames.frame[r - frames.start]),
                key=frame_key,
                on_change=_by_row,
                args=(view, role, frame_key),
                width=100,
            )
        action("Random", _random, view, role, icon="shuffle", key=f"gap-random-{role}")
    return row


@cached.shared(max_entries=8)
def _frames(sources: Artifact, name: str) -> Frames:
    index = cached.index(sources)
    return Frames.of(index, next(source for source in index.sources if source.name == name))


def _by_id(role: str, key: str) -> None:
    st.query_params[PARAMETER[role]] = st.session_state[key].strip()


def _by_row(view: View, role: str, key: str) -> None:
    st.query_params[PARAMETER[role]] = view.index.samples([st.session_state[key]])[0].id


def _by_episode(view: View, source: str, key: str) -> None:
    frames = _frames(view.chain.sources, source)
    rows = frames.rows_of(frames.nearest_episode(int(st.session_state[key])))
    st.query_params[PARAMETER["robot"]] = view.index.samples([int(rows[0])])[0].id


def _random(view: View, role: str) -> None:
    seed = st.session_state["_gap_seed"] = st.session_state.get("_gap_seed", 0) + 1
    row = drawn(view.index, view.features, role, seed)
    if row is not None:
        st.query_params[PARAMETER[role]] = view.index.samples([row])[0].id


def _picked(view: View, row: int) -> None:
    sample = view.index.samples([row])[0]
    with st.container(border=True, horizontal=True, vertical_alignment="top"):
        if sample.images:
            st.image(webp_uri(image_bytes(view, row, sample.images[0], 256)), width=150, alt="")
        with st.container(gap="xsmall", width="stretch"):
            st.text(shorten(first_words(sample), 160) or "(no text)")
            link_to("browse", "Open", icon="open_in_full", query=link(view, sample.id))


def _nearest(view: View, role: str, row: int) -> None:
    other = OTHER[role]
    everything = f"_gap_all-{role}-{row}"
    chain = view.chain
    bank = view.bank if other == "robot" else _pool_bank(chain.sources, chain.embed)
    if st.session_state.get(everything):
        rows, distances, searched = _exact(chain.sources, chain.embed, row, other)
        _cards(view, rows, distances)
        st.caption(f"Searched all {numbers.whole(searched)} {_words(other)} with a vector.")
        return
    vector = view.features.take([row])[0]
    if not np.any(vector):
        st.caption("This sample has no feature.")
        return
    rows, distances = bank.nearest(vector, NEAREST)
    _cards(view, rows, distances)
    with side_by_side():
        has_all = bank.total <= BANK_ROWS
        searched = f"{numbers.whole(len(bank.rows))} of {numbers.whole(bank.total)}"
        which = "all with a vector" if has_all else "a seeded sample"
        st.caption(f"Searched {searched} {_words(other)} ({which}).")
        if not has_all:
            action(
                "Search all",
                _search_all,
                everything,
                icon="manage_search",
                key=f"gap-all-{role}",
                help="Reads the features of all samples once; the result is kept.",
            )


def _search_all(name: str) -> None:
    st.session_state[name] = True


def _words(role: str) -> str:
    return "robot frames" if role == "robot" else "pool samples"


def _cards(view: View, rows: np.ndarray, distances: np.ndarray) -> None:
    if not len(rows):
        st.caption("No sample on the other side has a vector.")
        return
    notes = [f":gray[distance] **{numbers.decimal(float(value), 2)}**" for value in distances]
    gallery(view, rows, notes=notes, width=120)


@cached.shared(max_entries=2, show_spinner="Reading pool features")
def _pool_bank(sources: Artifact, embed: Artifact) -> FeatureBank:
    return pool_bank(cached.index(sources), cached.features(embed))


@cached.copied(max_entries=256, show_spinner="Searching all features")
def _exact(
    sources: Artifact, embed: Artifact, row: int, role: str
) -> tuple[np.ndarray, np.ndarray, int]:
    pool = cached.pool_rows(sources)
    return nearest_of_all(cached.features(embed), row, pool if role == "pool" else ~pool, NEAREST)
