from __future__ import annotations

import json
import shutil

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import lerobot_folder, ordinary_priority, robot_frame

from emt_core.data.images.decode import ImageProblem, check_image, open_image, open_images
from emt_core.data.images.video import Video
from emt_core.data.readers import count, fingerprint, locate, read
from emt_core.data.readers.lerobot import robot_set
from emt_core.data.readers.robot_episodes import evenly_spaced
from emt_core.data.robot.lerobot_writer import LeRobotWriter
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource

LAYOUTS = [("v3.0", "video"), ("v3.0", "image"), ("v2.1", "video"), ("v2.1", "image")]


def source(**more) -> LeRobotSource:
    facts = {
        "format": "lerobot",
        "name": "arm",
        "role": "robot",
        "path": "set",
        "camera": "observation.images.front",
    }
    return LeRobotSource(**{**facts, **more})


def assert_shows(image, episode: int, frame: int) -> None:
    """The frame's own colour, give or take what the video codec costs."""
    found = np.asarray(image, float).reshape(-1, 3).mean(0)
    assert np.abs(found - robot_frame(episode, frame)[0, 0]).max() < 5, (found, episode, frame)


@pytest.mark.parametrize(("version", "storage"), LAYOUTS)
def test_every_layout_gives_the_same_samples_and_the_right_pixels(
    tmp_path, rows_of, version, storage
):
    root = lerobot_folder(tmp_path / "set", version=version, storage=storage)
    samples, rejects = rows_of(source(frames_per_episode=4))
    assert rejects == [] and len(samples) == 12 == count(source(frames_per_episode=4), root)
    assert [(s.episode, s.frame) for s in samples[:5]] == [(0, 0), (0, 4), (0, 7), (0, 11), (1, 0)]
    assert [s.turns[0].text for s in samples[::4]] == [
        "open the drawer",
        "push the block",
        "open the drawer",
    ]
    assert samples[1].meta == {"timestamp": pytest.approx(0.4), "task_index": 0}
    assert samples[0].images[0].kind == ("video" if storage == "video" else "parquet")
    for sample in samples:
        assert check_image(sample.images[0], root, 10_000) is None
    images = open_images([s.images[0] for s in reversed(samples)], root, 10_000)
    for sample, image in zip(reversed(samples), images, strict=True):
        assert image.size == (48, 32) and image.mode == "RGB"
        assert_shows(image, sample.episode, sample.frame)
    assert_shows(open_image(samples[6].images[0], root, 10_000), 1, 7)  # out of order: a seek back


def test_many_video_and_data_files(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", episodes=4, video_file_mb=0.0, data_file_mb=0.0)
    assert (
        len(list(root.glob("videos/*/*/*.mp4"))) > 1
        and len(list(root.glob("data/*/*.parquet"))) > 1
    )
    samples, _ = rows_of(source(frames_per_episode=2))
    assert len(samples) == 8
    for sample in samples:
        assert_shows(open_image(sample.images[0], root, 10_000), sample.episode, sample.frame)


@pytest.mark.parametrize(("version", "storage"), LAYOUTS)
def test_an_episode_can_be_played(tmp_path, version, storage):
    root = lerobot_folder(tmp_path / "set", version=version, storage=storage)
    robot = robot_set(source(), root)
    refs = robot.frames(robot.find(1), "observation.images.front")
    for frame, image in enumerate(open_images(refs, root, 10_000)):
        assert_shows(image, 1, frame)
    assert set(robot.columns) == {"observation.state", "action"}
    steps = robot.open(robot.find(1))
    assert len(refs) == 12 and steps.values("action").shape == (12, 3)
    assert steps.values("observation.state")[0].tolist() == [1.0, 1.0]
    assert steps.seconds.tolist() == pytest.approx([frame / 10 for frame in range(12)])
    with pytest.raises(EmtError, match="no episode 9"):
        robot.find(9)


@pytest.mark.parametrize(("version", "storage"), LAYOUTS)
def test_pictures_are_turned_when_asked(tmp_path, rows_of, version, storage):
    root = tmp_path / "set"
    corner = np.zeros((32, 48, 3), np.uint8)
    corner[:16, :24] = 255
    camera = "observation.images.front"
    facts = {"fps": 10, "state_names": ("x",), "action_names": ("x",), "version": version}
    with LeRobotWriter(root, cameras={camera: (32, 48)}, storage=storage, **facts) as writer:
        zeros = np.zeros((2, 1), np.float32)
        writer.add_episode(task="go", images={camera: [corner] * 2}, state=zeros, action=zeros)
    for flip, place in (("none", (0, 0)), ("vertical", (-1, 0)), ("both", (-1, -1))):
        samples, _ = rows_of(source(frames_per_episode=1, flip=flip))
        seen = np.asarray(open_image(samples[0].images[0], root, 10_000)).min(axis=2)
        assert seen[place] > 240 and (seen > 240).mean() < 0.3


def test_limit_counts_episodes_and_one_episode_is_legal(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set")
    samples, _ = rows_of(source(limit=1, frames_per_episode=100))
    assert {s.episode for s in samples} == {0} and len(samples) == 12
    assert count(source(limit=1), root) == 8


def test_unknown_camera_lists_the_cameras(tmp_path):
    lerobot_folder(tmp_path / "set")
    with pytest.raises(EmtError, match=r"its cameras are: observation\.images\.front"):
        list(read(source(camera="wrist"), tmp_path / "set"))


def test_task_may_change_inside_an_episode_and_one_without_text_is_rejected(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", episodes=1)
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("task_index")
    table = table.set_column(at, "task_index", pa.array([0] * 4 + [1] * 4 + [9] * 4))
    pq.write_table(table, path)
    tasks = root / "meta/tasks.parquet"
    two = pa.table({"task_index": [0, 1], "task": ["reach", "grasp"]})
    pq.write_table(two, tasks)
    samples, rejects = rows_of(source(frames_per_episode=12))
    assert [s.turns[0].text for s in samples] == ["reach"] * 4 + ["grasp"] * 4
    assert [(r.row, r.reason) for r in rejects] == [(n, "empty_text") for n in range(8, 12)]


def test_missing_videos_and_data_files_are_rejects(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set")
    shutil.rmtree(root / "videos")
    samples, _ = rows_of(source())
    assert check_image(samples[0].images[0], root, 10_000)[0] == "missing_image"
    assert fingerprint(source(), root)["files"] > 0
    shutil.rmtree(root / "data")
    samples, rejects = rows_of(source())
    assert not samples and {r.reason for r in rejects} == {"missing_file"}
    assert "data file of episode 0 is missing: data/chunk-000/file-000" in rejects[0].detail
    assert fingerprint(source(), root)["files"] > 0


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_one_missing_data_file_costs_its_episodes_alone(tmp_path, rows_of, version):
    root = lerobot_folder(tmp_path / "set", episodes=4, version=version, data_file_mb=0.0)
    sorted((root / "data").rglob("*.parquet"))[1].unlink()
    samples, rejects = rows_of(source(frames_per_episode=2))
    assert [s.episode for s in samples] == [0, 0, 2, 2, 3, 3]
    assert [(r.row, r.reason) for r in rejects] == [(2, "missing_file"), (3, "missing_file")]


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda path: path.write_bytes(b"x"), "cannot be read as parquet"),
        (lambda path: pq.write_table(pq.read_table(path).slice(0, 30), path), "12 in the episodes"),
        (lambda path: _change_column(path, "task_index", ["grasp"] * 36), "string, no numbers"),
        (lambda path: pq.write_table(pq.read_table(path).drop("timestamp"), path), "lacks the col"),
    ],
)
def test_episodes_of_a_data_file_that_is_wrong_are_rejects(tmp_path, rows_of, break_it, says):
    root = lerobot_folder(tmp_path / "set")
    break_it(root / "data/chunk-000/file-000.parquet")
    samples, rejects = rows_of(source())
    assert len(samples) + len(rejects) == 24 and rejects
    assert {r.reason for r in rejects} == {"unreadable_row"} and says in rejects[-1].detail


def _change_column(path, name, values):
    table = pq.read_table(path)
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(values)), path)


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_an_instruction_is_never_the_word_none(tmp_path, rows_of, version):
    root = lerobot_folder(tmp_path / "set", version=version)
    if version == "v2.1":
        lines = (root / "meta/tasks.jsonl").read_text().splitlines()
        nothing = [json.dumps(json.loads(line) | {"task": None}) for line in lines]
        (root / "meta/tasks.jsonl").write_text("\n".join(nothing))
    else:
        _change_column(root / "meta/tasks.parquet", "task", pa.nulls(2, pa.string()))
    samples, rejects = rows_of(source())
    assert not samples and {r.reason for r in rejects} == {"empty_text"}
    assert "whose instruction is empty" in rejects[0].detail


def test_frames_without_task_or_time_are_named(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", episodes=1)
    path = root / "data/chunk-000/file-000.parquet"
    _change_column(path, "task_index", [None, *[0] * 11])
    _change_column(path, "timestamp", [*(n / 10 for n in range(11)), None])
    samples, rejects = rows_of(source(frames_per_episode=12))
    assert [s.frame for s in samples] == list(range(1, 11))
    assert [(r.row, r.reason) for r in rejects] == [(0, "empty_text"), (11, "unreadable_row")]
    assert "episode 0, frame 0 has no task_index" in rejects[0].detail
    assert "episode 0, frame 11 has no timestamp" in rejects[1].detail


def test_an_episode_that_stands_twice_counts_once_or_is_an_error(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set")
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(1, 1)]), path)
    samples, _ = rows_of(source(frames_per_episode=2))
    assert [s.episode for s in samples] == [0, 0, 1, 1, 2, 2]
    _change_column(path, "length", [12, 12, 12, 7])
    with pytest.raises(EmtError, match="episode 1 stands twice"):
        list(read(source(), root))


@pytest.mark.parametrize("rate", [10, 15])
def test_a_video_at_another_rate_than_its_timestamps_shows_no_wrong_frame(tmp_path, rows_of, rate):
    """Written at 10 frames a second; then timestamps (and info.json) say 15."""
    root = lerobot_folder(tmp_path / "set", episodes=1)
    _change_info(root, fps=rate)
    path = root / "data/chunk-000/file-000.parquet"
    _change_column(path, "timestamp", [n / rate for n in range(12)])
    samples, rejects = rows_of(source())
    if rate == 10:
        assert len(samples) == 8 and not rejects
    else:
        assert not samples and {r.reason for r in rejects} == {"wrong_rate"}
        assert "has 10 frames a second" in rejects[0].detail and rejects[0].detail.endswith(" 15")


def test_a_line_of_tasks_without_its_key_is_named(tmp_path):
    root = lerobot_folder(tmp_path / "set", version="v2.1")
    for line, says in (('{"task_index": 0}', "line 1 has no task,"), ("[0]", "line 1 is no JSON")):
        (root / "meta/tasks.jsonl").write_text(line)
        with pytest.raises(EmtError, match=says) as caught:
            list(read(source(), root))
        assert caught.value.where.endswith("tasks.jsonl")


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda root: (root / "meta/info.json").unlink(), "no LeRobot folder"),
        (lambda root: (root / "meta/info.json").write_text("{"), "not valid JSON"),
        (lambda root: (root / "meta/tasks.parquet").unlink(), "tasks.parquet is missing"),
        (
            lambda root: (root / "meta/tasks.parquet").write_bytes(b"PAR1"),
            "cannot be read as parquet",
        ),
        (lambda root: shutil.rmtree(root / "meta/episodes"), "no episodes table"),
        (lambda root: _change_info(root, total_episodes=5), "total_episodes is 5, but"),
        (lambda root: _change_info(root, data_path="{chunk}"), "data_path is '{chunk}', which"),
        (lambda root: _change_info(root, codebase_version="v1.6"), "v1.6 is not read"),
        (lambda root: _change_info(root, fps=float("nan")), "fps is nan"),
        (lambda root: _change_episodes(root, "length", [12, -3, 12]), "length is -3"),
        (lambda root: _change_episodes(root, "length", [12, 3.5, 12]), "length is 3.5"),
        (
            lambda root: _change_episodes(
                root, "videos/observation.images.front/from_timestamp", [0.0, np.nan, 2.4]
            ),
            "from_timestamp is nan",
        ),
        (
            lambda root: _change_info(root, data_path="../{chunk_index}{file_index}"),
            "outside the folder",
        ),
    ],
)
def test_a_broken_folder_is_one_clear_error(tmp_path, break_it, says):
    root = lerobot_folder(tmp_path / "set")
    break_it(root)
    with pytest.raises(EmtError, match=says) as caught:
        list(read(source(), locate(source(), tmp_path)))
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("size", [0, None])
def test_a_chunks_size_that_is_no_count_is_named(tmp_path, size):
    root = lerobot_folder(tmp_path / "set", version="v2.1")
    _change_info(root, chunks_size=size)
    with pytest.raises(EmtError, match=f"chunks_size is {size}") as caught:
        list(read(source(), root))
    assert caught.value.where.endswith("info.json")


def _change_episodes(root, name, values):
    _change_column(root / "meta/episodes/chunk-000/file-000.parquet", name, values)


def _change_info(root, **changes):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_broken_video_and_time_beyond_its_end(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set")
    samples, _ = rows_of(source())
    video = next(root.glob("videos/*/*/*.mp4"))
    ref = samples[0].images[0]
    late = type(ref)(kind="video", path=ref.path, time=99.0)
    assert check_image(late, root, 10_000)[0] == "missing_image"
    assert check_image(ref, root, 100)[0] == "pixel_bomb"
    video.write_bytes(b"no video")
    assert check_image(ref, root, 10_000)[0] == "undecodable_image"
    with pytest.raises(ImageProblem):
        open_image(ref, root, 10_000)


@pytest.mark.parametrize(("length", "wanted"), [(1, 8), (2, 8), (8, 8), (9, 8), (1000, 8), (5, 1)])
def test_frames_are_spread_from_first_to_last(length, wanted):
    frames = evenly_spaced(length, wanted)
    assert frames[0] == 0 and len(frames) == min(length, wanted) == len(set(frames))
    assert wanted == 1 or frames[-1] == length - 1
    assert len(frames) < 3 or np.ptp(np.diff(frames)) <= 1


CODECS = {
    "libx264": {"g": "24", "crf": "20", "bf": "3"},
    "libsvtav1": {"g": "24", "crf": "20"},
    "libx265": {"g": "4", "crf": "20", "bf": "3", "x265-params": "open-gop=1:log-level=none"},
}


@pytest.mark.parametrize("codec", list(CODECS))
def test_any_order_of_frames_whatever_the_groups_of_pictures(tmp_path, codec):
    """LeRobot's own videos: B-frames, keyframes seconds apart, open groups; times out of order."""
    path = tmp_path / "v.mp4"
    with ordinary_priority(), av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width = 64
        stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.options = CODECS[codec]
        for n in range(90):
            frame = av.VideoFrame.from_ndarray(
                np.full((64, 64, 3), 20 + 2 * n, np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    order = np.random.default_rng(0).permutation(90)
    refs = [ImageRef(kind="video", path="v.mp4", time=n / 30) for n in order]
    one_by_one = [open_image(ref, tmp_path, 10_000) for ref in refs]
    together = open_images(refs, tmp_path, 10_000)
    for n, first, second in zip(order, one_by_one, together, strict=True):
        assert first.tobytes() == second.tobytes()  # however it was reached, a frame is the same
        assert abs(np.asarray(first).mean() - (20 + 2 * n)) < 1.5, n


def test_frames_in_order_are_decoded_once(tmp_path, monkeypatch):
    root = lerobot_folder(tmp_path / "set", episodes=2, length=24)
    robot = robot_set(source(), root)
    refs = [
        ref
        for episode in robot.episodes()
        for ref in robot.frames(episode, "observation.images.front")
    ]
    decoded = 0
    original = Video._frame_at

    def counting(self, time):
        nonlocal decoded
        if self._frames is None:
            inner = self.container.decode

            def counted(stream):
                nonlocal decoded
                for frame in inner(stream):
                    decoded += 1
                    yield frame

            monkeypatch.setattr(self, "container", _Proxy(self.container, counted))
        return original(self, time)

    monkeypatch.setattr(Video, "_frame_at", counting)
    assert len(open_images(refs, root, 10_000)) == 48
    assert 48 <= decoded <= 50


class _Proxy:
    def __init__(self, container, decode) -> None:
        self.container, self.decode = container, decode

    def __getattr__(self, name):
        return getattr(self.container, name)
