"""Whole episodes for the player: every layout of a LeRobot folder, bounds, names of dimensions, the
figure."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demonstrations.write_rlds import INSTRUCTIONS, LENGTHS, pixels
from demonstrations.write_rlds import action as action_of
from PIL import Image
from places import ROOT

from emt_core.data.index import SourceRange
from emt_core.data.readers import locate, robot_set
from emt_core.data.robot.lerobot_writer import LeRobotWriter
from emt_core.errors import EmtError
from emt_core.explore.figures.episodes import player
from emt_core.explore.tables import episodes as reading
from emt_core.explore.tables.episodes import (
    curve_names,
    list_episodes,
    open_episode,
    strip,
)
from emt_core.explore.tables.source_suggestions import suggestions
from emt_core.recipe.form import parse_source
from emt_core.recipe.sources import LeRobotSource
from emt_core.workspace.artifact import Workspace

CAMERA = "observation.images.front"
FRAMES = 24


def source(**more) -> LeRobotSource:
    return LeRobotSource(
        **{
            "name": "arm",
            "role": "robot",
            "format": "lerobot",
            "path": "arm",
            "camera": CAMERA,
            **more,
        }
    )


def shade(frame: int) -> int:
    return 20 + 9 * frame


def write(root: Path, *, version: str, storage: str) -> np.ndarray:
    """Three episodes whose frames grow brighter; returns the actions of the second."""
    rng = np.random.default_rng(1)
    actions = [rng.normal(size=(FRAMES, 3)) for _ in range(3)]
    with LeRobotWriter(
        root,
        fps=10,
        cameras={CAMERA: (48, 64)},
        state_names=("x", "y"),
        action_names=("dx", "dy", "grip"),
        version=version,
        storage=storage,
    ) as writer:
        for episode, action in enumerate(actions):
            pictures = [np.full((48, 64, 3), shade(frame), np.uint8) for frame in range(FRAMES)]
            writer.add_episode(
                task=("push <b>it</b>", "open")[episode % 2],
                images={CAMERA: pictures},
                state=rng.normal(size=(FRAMES, 2)),
                action=action,
            )
    return actions[1]


def place(root: Path) -> SourceRange:
    return SourceRange(
        name="arm", role="robot", start=0, stop=1, facts={"root": str(root), "max_pixels": 10_000}
    )


@pytest.mark.parametrize(
    ("version", "storage"), [("v3.0", "video"), ("v2.1", "video"), ("v3.0", "image")]
)
def test_an_episode_opens_whole(tmp_path, version, storage):
    action = write(tmp_path / "arm", version=version, storage=storage)
    root, space = tmp_path / "arm", Workspace.open(tmp_path / "ws", create=True)
    robot = robot_set(source(), root)
    listed = list_episodes(robot)
    assert [(e.index, e.length, e.instruction) for e in listed] == [
        (0, FRAMES, "push <b>it</b>"),
        (1, FRAMES, "open"),
        (2, FRAMES, "push <b>it</b>"),
    ]
    assert len(list_episodes(robot_set(source(limit=2), root))) == 2
    assert robot.cameras == [CAMERA]
    assert curve_names(robot) == ["action", "observation.state"]
    found = open_episode(robot, 1, max_frames=7)
    assert found.frames == FRAMES
    assert found.instructions == ((0, "open"),)
    assert found.seconds == pytest.approx(np.arange(FRAMES) / 10, abs=1e-6)
    assert (len(found.shown), found.shown[0], found.shown[-1]) == (7, 0, FRAMES - 1)
    curves = found.curves("action")
    assert curves.dimensions == ("dx", "dy", "grip")
    assert curves.values == pytest.approx(action, abs=1e-6)
    pictures = strip(space, place(root), found)
    seen = [np.asarray(Image.open(io.BytesIO(content)))[..., :3].mean() for content in pictures]
    assert seen == pytest.approx([shade(frame) for frame in found.shown], abs=6)
    with pytest.raises(EmtError, match="lacks the columns \\['wheel'\\]"):
        found.curves("wheel")
    with pytest.raises(EmtError, match="there is no episode 9"):
        open_episode(robot, 9)


def test_decoding_stops_in_time_and_goes_on_from_the_cache(tmp_path):
    write(tmp_path / "arm", version="v3.0", storage="video")
    space, found = (
        Workspace.open(tmp_path / "ws", create=True),
        open_episode(robot_set(source(), tmp_path / "arm"), 0),
    )
    assert len(strip(space, place(tmp_path / "arm"), found, seconds=0)) == 1
    assert len(strip(space, place(tmp_path / "arm"), found, seconds=60)) == FRAMES


def test_wide_features_are_bounded_and_named_by_number(tmp_path):
    root = tmp_path / "arm"
    write(root, version="v3.0", storage="image")
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["wide"] = {"dtype": "float32", "shape": [40], "names": None}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (path,) = root.glob("data/*/*.parquet")
    table = pq.read_table(path)
    wide = [[float(i) for i in range(40)]] * len(table)
    pq.write_table(table.append_column("wide", pa.array(wide)), path)
    curves = open_episode(robot_set(source(), root), 0).curves("wide")
    assert curves.values.shape == (FRAMES, reading.MAX_DIMENSIONS)
    assert curves.left_out == 8
    assert curves.dimensions[1] == "wide[1]"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a", "b"], ("a", "b")),
        ({"motors": ["a", "b"]}, ("a", "b")),
        ({"b": 1, "a": 0}, ("a", "b")),
        (None, ("0", "1")),
        (["only one"], ("0", "1")),
    ],
)
def test_names_of_dimensions_in_every_shape_of_info_json(tmp_path, names, found):
    root = tmp_path / "arm"
    write(root, version="v3.0", storage="image")
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["observation.state"]["names"] = names
    (root / "meta" / "info.json").write_text(json.dumps(info))
    assert robot_set(source(), root).dimensions("observation.state") == found


def test_the_player_moves_frames_and_mark_together():
    encoded = io.BytesIO()
    Image.new("RGB", (64, 48), (1, 2, 3)).save(encoded, "JPEG")
    seconds = np.arange(3000) / 10
    values = np.stack([np.sin(seconds), np.full(3000, 2.0)], axis=1)
    figure = player(
        [encoded.getvalue()] * 4,
        [0, 1000, 2000, 2999],
        seconds,
        size=(64, 48),
        dimensions=("<b>x</b>", "constant"),
        values=values,
    )
    assert [frame.name for frame in figure.frames] == ["0", "1000", "2000", "2999"]
    mark, picture = figure.frames[2].data
    assert list(mark.x) == [200.0, 200.0]
    assert picture.source.startswith("data:image/jpeg;base64,")
    assert figure.frames[2].traces == (2, 3)
    assert len(figure.data[0].x) <= 1000
    assert np.isfinite(figure.data[1].y).all()
    assert "<b>" not in figure.layout.yaxis.ticktext[1].removesuffix("</span>").replace("<br>", "")
    assert [step.label for step in figure.layout.sliders[0].steps] == [
        "0 · 0.00 s",
        "1000 · 100.00 s",
        "2000 · 200.00 s",
        "2999 · 299.90 s",
    ]
    counted = player(
        [encoded.getvalue()],
        [7],
        np.arange(9.0),
        size=(64, 48),
        dimensions=("x",),
        values=values[:9, :1],
        timed=False,
    )
    assert counted.layout.xaxis.title.text == "frame"
    assert [step.label for step in counted.layout.sliders[0].steps] == ["7"]


OTHERS = {
    "rlds": ({"path": "rlds/libero", "camera": "wrist_image"}, "action", None),
    "hdf5": (
        {"path": "robomimic.hdf5", "camera": "robot0_eye_in_hand_image", "instruction": "lift"},
        "actions",
        20.0,
    ),
}


@pytest.mark.parametrize("format_", OTHERS)
def test_episodes_of_other_formats_open_in_the_same_way(tmp_path, format_):
    settings, column, fps = OTHERS[format_]
    config = parse_source({"name": "arm", "role": "robot", "format": format_, **settings})
    robot = robot_set(config, locate(config, ROOT / "tests/worlds/demonstrations"))
    listed = list_episodes(robot)
    assert [line.length for line in listed[:3]] == list(LENGTHS[:3])
    texts = ["lift"] * 3 if format_ == "hdf5" else [*INSTRUCTIONS, INSTRUCTIONS[0]]
    assert [line.instruction for line in listed[:3]] == texts
    assert curve_names(robot)[0] == column
    found = open_episode(robot, 2)
    assert found.fps == fps and found.frames == LENGTHS[2]
    steps = np.arange(LENGTHS[2]) / (fps or 1)  # without a rate the frames' numbers
    assert found.seconds == pytest.approx(steps)
    assert found.instructions == ((0, texts[2]),)
    curves = found.curves(column)
    assert curves.dimensions[6] == f"{column}[6]"
    np.testing.assert_array_equal(curves.values[3], action_of(2, 3))
    space = Workspace.open(tmp_path / "ws", create=True)
    pictures = strip(space, place(robot.root), found, size=64)
    seen = np.asarray(Image.open(io.BytesIO(pictures[3])))[-1, -1].astype(int)
    assert np.abs(seen - pixels(2, 3, 1)[-1, -1]).max() < 8


def test_the_form_offers_the_cameras_of_every_format():
    base = ROOT / "tests/worlds/demonstrations"
    assert suggestions("rlds", base / "rlds/libero") == {
        "camera": ["image", "wrist_image"],
        "cameras": ["image", "wrist_image"],
    }
    offered = suggestions("hdf5", base / "robomimic.hdf5")
    assert offered["camera"] == ["agentview_image", "robot0_eye_in_hand_image"]
    assert suggestions("rlds", base) == suggestions("hdf5", base / "write_rlds.py") == {}
