"""Annotations of LeRobot sets: read in each published layout, shown by frame, and as pool rows."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotated_sets import (
    FRONT,
    WRIST,
    asked,
    said,
    spoken,
    write_language,
    write_numbers,
    write_spans,
    write_subtasks,
)
from pydantic import ValidationError
from source_files import lerobot_folder, robot_frame

from emt_core.data.images.decode import open_image
from emt_core.data.readers import count, fingerprint, locate, read, robot_set
from emt_core.data.readers.annotation import at_frame
from emt_core.data.sample import Reject
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource

CAMERAS = {FRONT: (32, 48), WRIST: (32, 32)}
BOX = {"detections": [{"label": "cup", "bbox": [1, 2, 3, 4]}]}


def source(*annotations: str, **more) -> LeRobotSource:
    facts = {"format": "lerobot", "name": "qa", "role": "pool", "path": "set", "camera": FRONT}
    return LeRobotSource(**{**facts, "annotations": annotations, **more})


def annotated(root, **options):
    """Episodes of 12 frames at 10 a second: 0 has everything, 1 a question for each camera."""
    lerobot_folder(root, cameras=CAMERAS, **options)
    write_language(
        root,
        {
            0: [
                said("subtask", "reach the drawer", timestamp=0.0),
                said("plan", "1. reach\n2. pull", timestamp=0.0),
                said("task_aug", "pull the drawer out", role="user", timestamp=0.0),
                said("subtask", "pull the drawer", timestamp=np.float32(0.7)),
                said("memory", "the drawer is open", timestamp=0.9),
            ]
        },
        {
            (0, 0): [spoken("On my way.")],
            (0, 4): [
                said("interjection", "use the left one", role="user"),
                spoken("The left one."),
            ],
            (0, 5): asked("Where is the cup?", BOX),
            (1, 3): [*asked("What is held?", "nothing"), *asked("What is near?", "a cup", WRIST)],
        },
    )
    return root


def told(samples):
    return [(s.episode, s.frame, *(t.text for t in s.turns)) for s in samples]


@pytest.mark.parametrize(
    ("version", "storage"), [("v3.0", "video"), ("v2.1", "video"), ("v3.0", "image")]
)
def test_questions_are_rows_with_the_picture_that_they_are_about(
    tmp_path, rows_of, version, storage
):
    root = annotated(tmp_path / "set", version=version, storage=storage)
    samples, rejects = rows_of(source("vqa"))
    assert not rejects and count(source("vqa"), root) is None
    assert told(samples) == [
        (0, 5, "<image>\nWhere is the cup?", json.dumps(BOX)),
        (1, 3, "<image>\nWhat is held?", '"nothing"'),
    ]
    both = source("vqa", camera=None, cameras=(FRONT, WRIST))
    samples, rejects = rows_of(both)
    assert [(s.id, s.meta["camera"], s.meta["style"]) for s in samples] == [
        ("qa:0", FRONT, "vqa"),
        ("qa:1", FRONT, "vqa"),
        ("qa:2", WRIST, "vqa"),
    ]
    for sample in samples:
        camera = (FRONT, WRIST).index(sample.meta["camera"])
        image = np.asarray(open_image(sample.images[0], root, 10_000), float)
        shown = robot_frame(sample.episode, sample.frame, camera)[0, 0]
        assert np.abs(image.reshape(-1, 3).mean(0) - shown).max() < 6
    tiled, _ = rows_of(source("vqa", camera=None, cameras=(FRONT, WRIST), views="tile"))
    assert [s.images for s in tiled] == [s.images for s in samples]  # grounded in one camera


def test_what_answers_no_question_answers_the_instruction_where_it_begins(tmp_path, rows_of):
    annotated(tmp_path / "set")
    samples, rejects = rows_of(source("subtask", "plan", "memory"))
    assert not rejects
    ask = "<image>\nopen the drawer"
    assert told(samples) == [
        (0, 0, ask, "1. reach\n2. pull"),
        (0, 0, ask, "reach the drawer"),
        (0, 7, ask, "pull the drawer"),
        (0, 9, ask, "the drawer is open"),
    ]
    views, _ = rows_of(source("memory", camera=None, cameras=(FRONT, WRIST)))
    assert [s.meta["camera"] for s in views] == [FRONT, WRIST]
    tiles, _ = rows_of(source("memory", camera=None, cameras=(FRONT, WRIST), views="tile"))
    assert [s.images[0].kind for s in tiles] == ["tile"]


def test_speech_answers_an_interjection(tmp_path, rows_of):
    annotated(tmp_path / "set")
    samples, rejects = rows_of(source("interjection"))
    assert not rejects and told(samples) == [
        (0, 0, "<image>\nopen the drawer", "On my way."),
        (0, 4, "<image>\nuse the left one", "The left one."),
    ]


def test_what_has_no_answer_or_is_broken_is_a_counted_reject(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", cameras=CAMERAS)
    write_language(
        root,
        {
            0: [
                said("subtask", "reach", timestamp=0.0),
                said("subtask", "too late", timestamp=9.0),
                said("subtask", None, timestamp=0.1),
                said("task_aug", "pull it", role="user", timestamp=0.0),
            ],
            1: [said("subtask", "push the block", timestamp=0.0)],
        },
        {
            (0, 1): [said("vqa", "and now?", role="user", camera=FRONT)],
            (0, 2): asked("which?", 1, "observation.images.gone"),
            (0, 3): [said("vqa", "hm", role="narrator", camera=FRONT)],
        },
    )
    samples, rejects = rows_of(source("subtask", "vqa", "task_aug"))
    assert told(samples) == [(0, 0, "<image>\nopen the drawer", "reach")]
    assert Counter(r.reason for r in rejects) == {"unreadable_row": 4, "no_answer": 3}
    details = "\n".join(r.detail for r in rejects)
    for part in (
        "frame 11: a subtask begins behind the episode's 12 frames",
        "frame 0: a subtask has no text",
        "frame 0: a task_aug without an answer",
        "frame 1: a vqa without an answer",
        "a vqa of camera 'observation.images.gone'",
        "said by 'narrator'",
        "episode 1, frame 0: the subtask repeats the instruction",
    ):
        assert part in details, part


def test_numbered_annotations_have_their_text_in_a_table(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", version="v3.0")
    write_subtasks(root, ["reach", "grasp"])
    before = fingerprint(source("subtask"), root)
    numbers = np.array([0] * 3 + [1] * 5 + [-1] * 4 + [1] * 12 + [0] * 6 + [7] * 6)
    write_numbers(root, "subtask_index", numbers)
    write_numbers(root, "annotation.human.action", np.repeat([1, 1, 0], 12))
    samples, rejects = rows_of(source("subtask"))
    asks = ["<image>\nopen the drawer", "<image>\npush the block"]
    assert told(samples) == [
        (0, 0, asks[0], "reach"),
        (0, 3, asks[0], "grasp"),
        (1, 0, asks[1], "grasp"),
        (2, 0, asks[0], "reach"),
    ]
    assert [r.detail for r in rejects] == [
        "episode 2, frame 6: subtask_index is 7, which has no text"
    ]
    samples, rejects = rows_of(source("human.action"))
    assert told(samples) == [(0, 0, asks[0], "push the block")]
    assert [r.reason for r in rejects] == ["no_answer"] * 2  # those repeat the instruction
    write_subtasks(root, ["reach", "lift"])
    assert fingerprint(source("subtask"), root)["index"] != before["index"]


def test_spans_of_the_episodes_table(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set")
    coarse = {0: [("reach", 0), ("pull", 6)], 2: [("reach", 0), ("pull", 30)]}
    write_spans(root, "sparse_", coarse)
    write_spans(root, "", coarse)  # SARM repeats them without the prefix
    write_spans(root, "dense_", {0: [("open hand", 2)]})
    samples, rejects = rows_of(source("subtask", "dense_subtask"))
    assert [(s.episode, s.frame, s.turns[1].text) for s in samples] == [
        (0, 0, "reach"),
        (0, 2, "open hand"),
        (0, 6, "pull"),
        (2, 0, "reach"),
    ]
    assert [r.reason for r in rejects] == ["unreadable_row"]


@pytest.mark.parametrize("starts", [[0], ["x", "y"], [0, -1], None])
def test_spans_without_their_frames_are_a_counted_reject(tmp_path, rows_of, starts):
    root = lerobot_folder(tmp_path / "set", episodes=1)
    path = next((root / "meta/episodes").rglob("*.parquet"))
    table = pq.read_table(path).append_column("subtask_names", pa.array([["reach", "pull"]]))
    pq.write_table(table.append_column("subtask_start_frames", pa.array([starts])), path)
    samples, rejects = rows_of(source("subtask"))
    assert not samples and [r.reason for r in rejects] == ["unreadable_row"]


def test_a_frame_shows_what_is_said_of_it(tmp_path):
    root = annotated(tmp_path / "set")
    config = source(role="robot", annotations=())
    robot = robot_set(config, root)
    found = robot.open(robot.find(0)).annotations()
    assert [a.text for a in at_frame(found, 6)] == [
        "1. reach\n2. pull",
        "reach the drawer",
        "pull the drawer out",
    ]
    at_seven = [a.text for a in at_frame(found, 7)]
    assert "pull the drawer" in at_seven and "reach the drawer" not in at_seven
    assert [(a.style, a.text) for a in at_frame(found, 4)][-2:] == [
        ("interjection", "use the left one"),
        ("speech", "The left one."),
    ]
    assert robot.open(robot.find(2)).annotations() == []


def test_a_style_that_is_nowhere_is_an_error_with_those_that_are(tmp_path):
    annotated(tmp_path / "set")
    with pytest.raises(
        EmtError, match=r"no annotation|no episode has an annotation 'vqas'"
    ) as found:
        list(read(source("vqas"), locate(source("vqas"), tmp_path)))
    assert "interjection, memory, plan, subtask, task_aug, vqa" in str(found.value)
    with pytest.raises(EmtError, match="annotations are: none"):
        root = lerobot_folder(tmp_path / "plain")
        list(read(source("vqa", path="plain"), root))


def test_a_style_of_other_cameras_alone_is_an_error_with_those_that_it_has(tmp_path):
    root = lerobot_folder(tmp_path / "set", cameras=CAMERAS)
    write_language(root, {}, {(0, 5): asked("Where is the cup?", BOX, WRIST)})
    with pytest.raises(EmtError, match=r"no 'vqa' is about a camera[\s\S]*are about: .*wrist"):
        list(read(source("vqa"), root))


@pytest.mark.parametrize("value", [pa.array(["x"] * 36), pa.array([[1]] * 36)])
@pytest.mark.parametrize("column", ["language_events", "language_persistent"])
def test_a_language_column_of_another_kind_costs_its_rows(tmp_path, column, value):
    root = lerobot_folder(tmp_path / "set")
    path = next((root / "data").rglob("*.parquet"))
    pq.write_table(pq.read_table(path).append_column(column, value), path)
    with pytest.raises(EmtError, match="no episode has an annotation 'vqa'"):
        rows = []
        for row in read(source("vqa"), root):
            rows.append(row)
    assert all(isinstance(row, Reject) for row in rows)


def test_a_missing_data_file_is_one_reject(tmp_path, rows_of):
    root = annotated(tmp_path / "set", version="v2.1")
    (root / "data/chunk-000/episode_000000.parquet").unlink()
    samples, rejects = rows_of(source("vqa"))
    assert [(r.row, r.reason) for r in rejects] == [(0, "missing_file")] and len(samples) == 1


def test_frames_are_for_robots_and_annotations_for_the_pool():
    with pytest.raises(ValidationError, match="a frame has no answer to train on"):
        source()
    with pytest.raises(ValidationError, match="`role: robot` takes none"):
        source("vqa", role="robot")
