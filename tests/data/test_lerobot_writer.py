"""LeRobotWriter: layouts on disk, exact rows, videos frame by frame, statistics, and no
half-written folder."""

from __future__ import annotations

import json
import re

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from emt_core.data.robot.lerobot_stats import FrameStats
from emt_core.data.robot.lerobot_video import VideoFile
from emt_core.data.robot.lerobot_writer import LeRobotWriter
from emt_core.errors import EmtError

CAMERA = "observation.images.front"
FPS = 20


def episode(length: int, seed: int):
    """Frames of one grey level each (so that a decoded frame tells which one it is), state and
    action."""
    rng = np.random.default_rng(seed)
    levels = (np.arange(length) * 9 + seed * 40) % 200 + 20
    frames = [np.full((32, 48, 3), level, np.uint8) for level in levels]
    return (
        frames,
        rng.normal(size=(length, 2)).astype(np.float32),
        rng.normal(size=(length, 3)).astype(np.float32),
    )


def write(root, version="v3.0", storage="video", lengths=(7, 5, 9), **kw):
    with LeRobotWriter(
        root,
        fps=FPS,
        cameras={CAMERA: (32, 48)},
        state_names=("x", "y"),
        action_names=("a", "b", "c"),
        version=version,
        storage=storage,
        **kw,
    ) as writer:
        for number, length in enumerate(lengths):
            frames, state, action = episode(length, number)
            task = "open the drawer" if number != 1 else "close the drawer"
            writer.add_episode(
                task=task,
                images={CAMERA: iter(frames)},
                state=state,
                action=action,
                extra={"seed": number},
            )


def decode(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def assert_frames(decoded, seed, length):
    frames, _, _ = episode(length, seed)
    assert len(decoded) == length
    for got, expected in zip(decoded, frames, strict=True):
        assert abs(float(got.mean()) - float(expected.mean())) < 4  # H.264 is lossy


def test_v30_layout_rows_and_video(tmp_path):
    root = tmp_path / "set"
    write(root)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 21, 2)
    assert info["features"][CAMERA]["dtype"] == "video"
    assert info["features"]["action"] == {
        "dtype": "float32",
        "shape": [3],
        "names": ["a", "b", "c"],
    }

    import pandas as pd

    tasks = pd.read_parquet(root / "meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert tasks["task_index"].to_dict() == {"open the drawer": 0, "close the drawer": 1}

    rows = pq.read_table(root / info["data_path"].format(chunk_index=0, file_index=0))
    assert rows["index"].to_pylist() == list(range(21))
    assert rows["episode_index"].to_pylist() == [0] * 7 + [1] * 5 + [2] * 9
    assert rows["task_index"].to_pylist() == [0] * 7 + [1] * 5 + [0] * 9
    assert rows["frame_index"].to_pylist()[7:12] == list(range(5))
    np.testing.assert_allclose(rows["timestamp"].to_numpy()[7:12], np.arange(5) / FPS, rtol=1e-6)
    np.testing.assert_array_equal(
        np.array(rows["action"].to_pylist(), np.float32)[12:], episode(9, 2)[2]
    )

    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes] == [
        (0, 7),
        (7, 12),
        (12, 21),
    ]
    assert episodes[1]["tasks"] == ["close the drawer"]
    assert episodes[1]["seed"] == 1
    decoded = decode(
        root / info["video_path"].format(video_key=CAMERA, chunk_index=0, file_index=0)
    )
    for number, row in enumerate(episodes):
        start = round(row[f"videos/{CAMERA}/from_timestamp"] * FPS)
        stop = round(row[f"videos/{CAMERA}/to_timestamp"] * FPS)
        assert_frames(decoded[start:stop], number, row["length"])
    assert not list(tmp_path.glob(".*partial"))


def test_v30_timestamps_and_keyframes_start_each_episode(tmp_path):
    write(tmp_path / "set")
    with av.open(str(tmp_path / "set/videos" / CAMERA / "chunk-000/file-000.mp4")) as container:
        frames = [(float(f.time), f.key_frame) for f in container.decode(video=0)]
    np.testing.assert_allclose([t for t, _ in frames], np.arange(21) / FPS, atol=1e-4)
    # The encoder may add keyframes at sharp changes; the first frame of an episode always is one.
    assert {0, 7, 12} <= {n for n, (_, key) in enumerate(frames) if key}


def test_v30_begins_new_files_past_the_size_limits(tmp_path):
    write(tmp_path / "set", lengths=(80, 80, 9), data_file_mb=1e-6, video_file_mb=1e-6)
    episodes = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [e["data/file_index"] for e in episodes] == [0, 1, 2]
    files = [e[f"videos/{CAMERA}/file_index"] for e in episodes]
    assert files == [0, 1, 2]
    last = episodes[-1]
    path = (
        tmp_path
        / "set/videos"
        / CAMERA
        / f"chunk-000/file-{last[f'videos/{CAMERA}/file_index']:03d}.mp4"
    )
    start = round(last[f"videos/{CAMERA}/from_timestamp"] * FPS)
    assert_frames(decode(path)[start : start + 9], 2, 9)


def test_v21_layout(tmp_path):
    root = tmp_path / "set"
    write(root, version="v2.1")
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v2.1"
    assert (info["total_videos"], info["total_chunks"]) == (3, 1)
    lines = {
        name: [json.loads(line) for line in (root / f"meta/{name}.jsonl").read_text().splitlines()]
        for name in ("tasks", "episodes", "episodes_stats")
    }
    assert lines["tasks"][1] == {"task_index": 1, "task": "close the drawer"}
    assert lines["episodes"][2] == {
        "episode_index": 2,
        "tasks": ["open the drawer"],
        "length": 9,
        "seed": 2,
    }
    np.testing.assert_allclose(
        lines["episodes_stats"][0]["stats"]["action"]["mean"], episode(7, 0)[2].mean(0), rtol=1e-5
    )
    for number, length in enumerate((7, 5, 9)):
        names = {"episode_chunk": 0, "episode_index": number, "video_key": CAMERA}
        assert pq.read_table(root / info["data_path"].format(**names)).num_rows == length
        assert_frames(decode(root / info["video_path"].format(**names)), number, length)


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_images_inside_the_data_files(tmp_path, version):
    import io

    from PIL import Image

    root = tmp_path / "set"
    write(root, version=version, storage="image")
    info = json.loads((root / "meta/info.json").read_text())
    assert info["features"][CAMERA]["dtype"] == "image"
    assert info["video_path"] is None
    names = {"chunk_index": 0, "file_index": 0, "episode_chunk": 0, "episode_index": 0}
    cell = pq.read_table(root / info["data_path"].format(**names))[CAMERA][3].as_py()
    picture = np.asarray(Image.open(io.BytesIO(cell["bytes"])))
    assert abs(float(picture.mean()) - float(episode(7, 0)[0][3].mean())) < 2
    assert not (root / "videos").exists()


def test_set_statistics_are_those_of_all_frames(tmp_path):
    write(tmp_path / "set")
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    action = np.concatenate([episode(n, i)[2] for i, n in enumerate((7, 5, 9))]).astype(np.float64)
    np.testing.assert_allclose(stats["action"]["mean"], action.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["std"], action.std(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["min"], action.min(0), rtol=1e-5)
    assert stats["action"]["count"] == [21]
    pixels = np.concatenate([np.stack(episode(n, i)[0]) for i, n in enumerate((7, 5, 9))]) / 255.0
    assert np.shape(stats[CAMERA]["mean"]) == (3, 1, 1)
    np.testing.assert_allclose(np.ravel(stats[CAMERA]["mean"]), pixels.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(np.ravel(stats[CAMERA]["std"]), pixels.std((0, 1, 2)), rtol=1e-9)


def test_frame_quantiles_are_exact():
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, size=(4, 30, 40, 3), dtype=np.uint8)
    stats = FrameStats()
    for frame in frames:
        stats.add(frame)
    expected = np.quantile(frames.reshape(-1, 3) / 255.0, 0.9, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(stats.result()["q90"].ravel(), expected)


def test_same_episodes_give_the_same_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert (
                path.read_bytes()
                == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
            ), path.name


def test_all_blocks_of_a_frame_have_one_quantizer(tmp_path):
    # a block's own quantizer follows from the encoder's look-ahead, which differed between two runs
    import av
    from av import logging as av_logging

    video = VideoFile(tmp_path / "v.mp4", fps=10, size=(64, 64), quantizer=20)
    rng = np.random.default_rng(0)
    frame = np.zeros((64, 64, 3), np.uint8)
    for number in range(30):
        frame[16:48, number : number + 32] = rng.integers(0, 256, (32, 32, 3))
        video.add(frame)
    video.close()
    before = av_logging.get_level()
    av_logging.set_level(av_logging.DEBUG)
    try:
        with av.open(str(tmp_path / "v.mp4")) as container, av_logging.Capture() as lines:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"debug": "qp"}
            frames = sum(1 for _ in container.decode(stream))
    finally:
        av_logging.set_level(before)
    rows = [re.fullmatch(r"\s*\d+ ((?:[ \d]\d){4})\s*", text) for _, _, text in lines]
    used = [set(re.findall("..", row[1])) for row in rows if row]
    assert frames == 30
    assert len(used) == 4 * frames  # four rows of four blocks
    per_frame = [set().union(*used[4 * n : 4 * n + 4]) for n in range(frames)]
    assert all(len(quantizers) == 1 for quantizers in per_frame), per_frame


def test_an_exception_leaves_nothing(tmp_path):
    with (
        pytest.raises(RuntimeError, match="stop"),
        LeRobotWriter(
            tmp_path / "set",
            fps=FPS,
            cameras={CAMERA: (32, 48)},
            state_names="xy",
            action_names="abc",
        ) as writer,
    ):
        frames, state, action = episode(4, 0)
        writer.add_episode(task="t", images={CAMERA: frames}, state=state, action=action)
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_named(tmp_path):
    frames, state, action = episode(4, 0)

    def add(**changed):
        with LeRobotWriter(
            tmp_path / "set",
            fps=FPS,
            cameras={CAMERA: (32, 48)},
            state_names="xy",
            action_names="abc",
        ) as writer:
            given = {
                "task": "t",
                "images": {CAMERA: frames},
                "state": state,
                "action": action,
            } | changed
            writer.add_episode(**given)

    for changed, words in (
        ({"images": {CAMERA: frames[:2]}}, "2 frames but 4 states"),
        ({"images": {"other": frames}}, "Cameras"),
        ({"action": action[:, :2]}, "Action has shape"),
        ({"state": state[:0]}, "State has shape"),
        ({"images": {CAMERA: [f[:8] for f in frames]}}, "not uint8"),
    ):
        with pytest.raises(EmtError, match=words):
            add(**changed)
        assert not (tmp_path / "set").exists()
    with (
        pytest.raises(EmtError, match="at least one episode"),
        LeRobotWriter(tmp_path / "set", fps=FPS, cameras={}, state_names="x", action_names="a"),
    ):
        pass
    (tmp_path / "set").mkdir()
    with pytest.raises(EmtError, match="exists"):
        LeRobotWriter(tmp_path / "set", fps=FPS, cameras={}, state_names="x", action_names="a")
