"""Robot data with several cameras and annotations: the episode player and a frame's details."""

from __future__ import annotations

from pathlib import Path

import pytest
from robot_views import run_views


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("robot")
    run_views(base)
    return base / "ws"


def test_the_player_lists_what_is_said_beside_the_instruction(open_page, space):
    app = open_page("sources", space, source="each", episode="2")
    assert not app.exception
    assert app.selectbox(key="camera").options == [
        "observation.images.front",
        "observation.images.wrist",
    ]
    lines = app.dataframe[0].value
    assert lines["Text"].tolist() == [
        "reach cup 2",
        "Where is cup 2?",
        '{"point": [2, 2]}',
        "1. go",
    ]
    assert lines["Kind"].tolist() == ["subtask", "vqa, user", "vqa, assistant", "plan"]
    assert lines["Frame"].tolist() == [0, 5, 5, 6]
    app.selectbox(key="camera").set_value("observation.images.wrist").run()
    assert not app.exception


def test_a_frame_has_what_is_said_of_it(open_page, space):
    app = open_page("browse", space, sample="each:17")  # episode 2, frame 11, the wrist
    assert not app.exception
    texts = [text.value for text in app.text]
    assert "subtask: reach cup 2" in texts and "plan: 1. go" in texts
    assert not any(text.startswith("vqa") for text in texts)  # of frame 5 alone
    tile = open_page("browse", space, sample="tile:0")
    assert not tile.exception
    origin = "\n".join(text.value for text in tile.text)
    assert "observation.images.front" in origin and "observation.images.wrist" in origin
