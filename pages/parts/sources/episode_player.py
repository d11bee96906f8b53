"""Robot episodes: a list, and a player with the camera and the action curves."""

from __future__ import annotations

import io

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from emt_core.data.index import SourceRange
from emt_core.data.readers import robot_set
from emt_core.data.readers.robot_set import RobotSet
from emt_core.data.robot.read_sets import robot_set_of
from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.figures.episodes import player
from emt_core.explore.tables.episodes import (
    EpisodeLine,
    Playback,
    annotation_rows,
    curve_names,
    list_episodes,
    open_episode,
    strip,
)
from emt_core.recipe.sources import RobotSource
from pages.parts import glossary
from pages.parts.plain import escape, shorten, show_problem
from pages.parts.view import View
from pages.parts.widgets import action, chart, side_by_side

LISTED = 10
TABLES = ("meta/info.json", "dataset_info.json")
"""Files of a set that are written anew when it changes."""


ANNOTATION_COLUMNS = {
    "Frame": st.column_config.NumberColumn(width=60),
    "Kind": st.column_config.TextColumn(width=110),
    "Camera": st.column_config.TextColumn(width=70),
    "Text": st.column_config.TextColumn(width=330),
}


def episodes(view: View, source: SourceRange, config: RobotSource) -> None:
    st.subheader("Episodes", anchor=False, help=glossary.FRAMES)
    try:
        found = _listed(
            str(view.chain.sources.path),
            source.name,
            _changed_at(source),
            _robot=robot_set_of(view.index, source),
        )
        list_at, player_at = st.columns([3, 7], gap="medium")
        with list_at:
            index = _pick(found)
        with player_at:
            if index is not None:
                _play(view, source, config, index)
    except EmtError as error:
        show_problem(error)


@st.cache_resource(max_entries=8, show_spinner="Reading the list of episodes")
def _listed(artifact: str, name: str, changed_at: int, *, _robot: RobotSet) -> list[EpisodeLine]:
    return list_episodes(_robot)


def _pick(found: list[EpisodeLine]) -> int | None:
    """Draw a page of the list; returns the episode that the address names, else the first."""
    wanted = st.text_input(
        "Instruction contains",
        key="episode-text",
        icon=":material/search:",
        placeholder="Instruction contains",
    )
    shown = [e for e in found if wanted.lower() in e.instruction.lower()] if wanted else found
    total = numbers.counted(len(shown), "episode")
    st.caption(f"{total}" + (f" of {numbers.whole(len(found))}" if wanted else ""))
    if not shown:
        return None
    asked = st.query_params.get("episode", "")
    place = next((i for i, e in enumerate(shown) if str(e.index) == asked), 0)
    pages = -(-len(shown) // LISTED)
    page = place // LISTED + 1
    if pages > 1:
        # A pagination cannot be set from outside, so another episode or list gets a new one.
        key = f"episodes-{asked}-{wanted}"
        page = st.pagination(pages, default=page, max_visible_pages=5, key=key)
    listed = shown[(page - 1) * LISTED : page * LISTED]
    key = f"episode-{page}-{asked}-{wanted}"
    st.radio(
        "Episode",
        [episode.index for episode in listed],
        index=place - (page - 1) * LISTED if place // LISTED == page - 1 else None,
        format_func={
            e.index: f"{e.index} · {escape(shorten(e.instruction, 60))} :gray[({e.length})]"
            for e in listed
        }.get,
        key=key,
        on_change=_choose,
        args=(key,),
        label_visibility="collapsed",
        help="Number, instruction and (frames).",
    )
    return shown[place].index


def _choose(key: str) -> None:
    st.query_params["episode"] = str(st.session_state[key])


def _play(view: View, source: SourceRange, config: RobotSource, index: int) -> None:
    st.query_params["episode"] = str(index)
    robot = robot_set_of(view.index, source)
    names = curve_names(robot)
    seen = list(config.all_cameras) if robot.remote else robot.cameras
    with st.container(horizontal=True, vertical_alignment="bottom"):
        curve = None
        if names:
            curve = st.selectbox("Curves", names, key="curves", width=240, help=glossary.ACTION)
        camera = config.all_cameras[0]
        if len(seen) > 1:
            camera = st.selectbox("Camera", seen, index=seen.index(camera), key="camera", width=300)
    again = f"_decode-{source.name}-{index}-{camera}"
    with st.spinner("Decoding the episode", show_time=True):
        figure, playback, decoded = _figure(
            str(view.chain.sources.path),
            source.name,
            index,
            camera,
            curve or "",
            _changed_at(source),
            st.session_state.get(again, 0),
            _view=view,
            _source=source,
            _robot=robot_set(
                config.model_copy(update={"camera": camera, "cameras": ()}), robot.data
            ),
        )
    for place, (first, text) in enumerate(playback.instructions):
        if len(playback.instructions) > 1:
            st.caption(f"From frame {first}")
        st.text(text or "(no instruction)")
        if place == 9:
            st.caption(f"and {len(playback.instructions) - 10} more changes of instruction")
            break
    if figure is not None:
        chart(figure, key=f"player-{source.name}-{index}-{camera}-{curve}")
    facts = [numbers.counted(playback.frames, "frame")]
    if playback.fps is not None:
        facts.append(f"{playback.fps:g} frames/s")
    if len(playback.shown) < playback.frames:
        facts.append(f"{len(playback.shown)} of them shown, evenly spaced")
    st.caption(" · ".join(facts))
    if playback.annotations:
        st.markdown("**Annotations**", help=glossary.ANNOTATIONS)
        st.dataframe(annotation_rows(playback), hide_index=True, column_config=ANNOTATION_COLUMNS)
    if decoded < len(playback.shown):
        with side_by_side():
            st.caption(
                f"Slow decoding: showing the first {decoded} of {len(playback.shown)} frames."
            )
            action("Continue decoding", _go_on, again, icon="resume", key="decode-on")


def _go_on(again: str) -> None:
    st.session_state[again] = st.session_state.get(again, 0) + 1


def _changed_at(source: SourceRange) -> int:
    """When the data set's folder or its table was last written, in ns; 0 where they are gone."""
    places = (source.root, *(source.root / name for name in TABLES))
    return max((place.stat().st_mtime_ns for place in places if place.exists()), default=0)


@st.cache_resource(max_entries=6, show_spinner=False)
def _figure(
    artifact: str,
    name: str,
    index: int,
    camera: str,
    curve: str,
    changed_at: int,
    attempt: int,
    *,
    _view: View,
    _source: SourceRange,
    _robot: RobotSet,
) -> tuple[go.Figure | None, Playback, int]:
    """(player, episode, number of decoded frames); 1 to 5 MB per episode."""
    playback = open_episode(_robot, index)
    if not playback.frames:
        return None, playback, 0
    pictures = strip(_view.workspace, _source, playback)
    if curve:
        curves = playback.curves(curve)
        dimensions = curves.dimensions
        values = curves.values
    else:
        dimensions = ()
        values = np.empty((playback.frames, 0))
    figure = player(
        pictures,
        playback.shown,
        playback.seconds,
        size=Image.open(io.BytesIO(pictures[0])).size,
        dimensions=dimensions,
        values=values,
        timed=playback.fps is not None,
    )
    return figure, playback, len(pictures)
