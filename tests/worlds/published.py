"""Small files in the layouts of the paper's public sources (docs/formats.md): own words, own
pictures. Folders and fields are as their publishers distribute them."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from question_suites import write_suites
from source_files import encoded, picture, save_pictures, write_json, write_tar

ROWS = 4
"""Of each file."""


def publish(base: Path) -> Path:
    """Everything that the paper's recipes name below `data/`."""
    llava_instruct(base / "llava_instruct")
    img2dataset(base / "laion400m_subset", "laion")
    img2dataset(base / "cc12m_blip", "blip")
    vcr(base / "vcr1")
    refspatial(base / "RefSpatial")
    embspatial(base / "EmbSpatial-Bench")
    robo2vlm(base / "Robo2VLM-1" / "data")
    robopoint(base / "robopoint-data")
    robots(base)
    calvin = base / "calvin" / "task_ABC_D" / "validation"
    calvin.mkdir(parents=True)
    suites(base)
    return base


def turns(*texts: str) -> list[dict[str, str]]:
    speakers = ("human", "gpt")
    return [{"from": speakers[n % 2], "value": text} for n, text in enumerate(texts)]


def llava_instruct(folder: Path) -> None:
    """llava_v1_5_mix665k.json: images by the folder of their set; texts of ShareGPT have none."""
    images = (
        "coco/train2017/000000000001.jpg",
        "gqa/images/2.jpg",
        "ocr_vqa/images/0030.jpg",
        "textvqa/train_images/4f.jpg",
        "vg/VG_100K/5.jpg",
        "vg/VG_100K_2/6.jpg",
    )
    save_pictures(folder, images)
    short = "Answer the question using a single word or phrase."
    rows: list[dict[str, Any]] = [
        {
            "id": Path(name).stem,
            "image": name,
            "conversations": turns(f"<image>\nWhat colour is it?\n{short}", "Grey", "Sure?", "Yes"),
        }
        for name in images
    ]
    rows.append(
        {"id": "t", "model": "", "conversations": turns("Name a river.", "The Loire is one.")}
    )
    write_json(folder / "llava_v1_5_mix665k.json", rows)


def img2dataset(folder: Path, words: str) -> None:
    """`--output_format webdataset`: tars of jpg, txt and json, and a table beside each that also has
    the rows whose download failed."""
    members: dict[str, bytes] = {}
    table = []
    for number in range(ROWS + 1):
        key = f"{number:09d}"
        failed = number == 2
        facts = {
            "url": f"http://example.org/{number}.jpg",
            "caption": f"{words} caption {number}: a grey wall",
            "key": key,
            "status": "failed_to_download" if failed else "success",
            "error_message": "timed out" if failed else None,
            "width": None if failed else 24,
            "height": None if failed else 16,
            "exif": None if failed else "{}",
            "similarity": 0.31,
        }
        table.append(facts)
        if not failed:
            members[f"{key}.jpg"] = encoded(picture(number), "JPEG")
            members[f"{key}.txt"] = facts["caption"].encode()
            members[f"{key}.json"] = json.dumps(facts, indent=4).encode()
    write_tar(folder / "00000.tar", members)
    pq.write_table(pa.Table.from_pylist(table), folder / "00000.parquet")
    write_json(folder / "00000_stats.json", {"count": ROWS + 1, "successes": ROWS})


def img2dataset_parquet(folder: Path) -> None:
    """`--output_format parquet`: bytes in `jpg`, the caption in `txt`; both null where it failed."""
    folder.mkdir(parents=True)
    rows = [
        {
            "key": f"{number:09d}",
            "jpg": None if number == 1 else encoded(picture(number), "JPEG"),
            "txt": None if number == 1 else f"a grey wall, number {number}",
            "caption": f"a grey wall, number {number}",
            "status": "failed_to_download" if number == 1 else "success",
        }
        for number in range(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")


def vcr(folder: Path) -> None:
    image = "movieclips_A_Film/clip@3.jpg"
    save_pictures(folder / "vcr1images", [image])
    metadata = {
        "boxes": [[0, 0, 12, 16, 0.99], [12, 4, 24, 16, 0.98], [2.4, 8, 6, 16, 0.7]],
        "segms": [[], [], []],
        "names": ["person", "person", "bottle"],
        "width": 24,
        "height": 16,
    }
    write_json(folder / "vcr1images" / "movieclips_A_Film" / "clip@3.json", metadata)
    row = {
        "movie": "A Film",
        "objects": ["person", "person", "bottle"],
        "interesting_scores": [0, 1],
        "answer_likelihood": "likely",
        "img_fn": image,
        "metadata_fn": image.replace(".jpg", ".json"),
        "question": ["Why", "do", "n't", [0, 1], "take", [2], "?"],
        "answer_choices": [["No", "."], [[1], "'s", "not", "thirsty", "."], ["So", "."], ["X"]],
        "answer_label": 1,
        "rationale_choices": [[[1], "looks", "away", "."], ["A"], ["B"], ["C"]],
        "rationale_label": 0,
        "img_id": "train-0",
        "question_number": 0,
        "annot_id": "train-0",
    }
    unlabelled = {name: value for name, value in row.items() if "label" not in name}
    for split, rows in (("train", [row] * ROWS), ("test", [unlabelled])):
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        (folder / f"{split}.jsonl").write_text(lines)


def refspatial(folder: Path) -> None:
    """LLaVA rows with a second picture, the depth map, and a mark for it in the text."""
    for file, images in (
        ("2D/choice_qa.json", "image"),
        ("2D/reasoning_template_qa.json", "image"),
        ("3D/choice_qa.json", "image"),
        ("3D/reasoning_template_qa.json", "image"),
        ("3D/vacant_qa.json", "image"),
        ("3D/multi_view_qa.json", "image_multi_view"),
        ("3D/visual_choice_qa.json", "image_visual_choice"),
        ("Simulator/metadata.json", "image"),
    ):
        views = 2 if "multi_view" in file else 1
        names = [f"scene{n}.png" for n in range(views)]
        place = (folder / file).parent / images
        save_pictures(place, names)
        marks = "<image> <depth>\n" * views
        row = {
            "id": "a1",
            "image": names if views > 1 else names[0],
            "depth": names if views > 1 else names[0],
            "conversations": turns(
                f"{marks}Which cup is nearer?", "The left one.", "Why?", "Size."
            ),
            "thinking": [{"question_type": "qualitative", "thinking": "..."}],
        }
        write_json(folder / file, [row] * ROWS)


def embspatial(folder: Path) -> None:
    """One array, the pictures in it as base64 text."""
    rows = [
        {
            "question_id": f"mp3d_{number}",
            "relation": "close",
            "question": "Which object is the closest in the scene?",
            "answer_options": ["shelf", "table", "chair", "lamp"],
            "answer": number % 4,
            "data_source": "mp3d",
            "objects": [{"bbox": [1, 2, 3, 4], "name": "shelf"}],
            "image": base64.b64encode(encoded(picture(number), "JPEG")).decode(),
        }
        for number in range(ROWS)
    ]
    write_json(folder / "embspatial_bench.json", rows)


def robo2vlm(folder: Path) -> None:
    """Choices as Python writes a list, the answer a place in it; test files in the same folder."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = {
            "id": [f"{split}-{number}" for number in range(ROWS)],
            "question": ["Is the robot's grasp of the block stable?"] * ROWS,
            "choices": ["['Yes', 'No', \"It doesn't hold\"]"] * ROWS,
            "correct_answer": pa.array([number % 3 for number in range(ROWS)], pa.int64()),
            "image": [{"bytes": encoded(picture(n)), "path": None} for n in range(ROWS)],
        }
        pq.write_table(pa.table(rows), folder / f"{split}-00000-of-00001.parquet")


def robopoint(folder: Path) -> None:
    images = (
        "object_ref/a/1.png",
        "region_ref/b/2.png",
        "coco/train2017/3.jpg",
        "gqa/images/4.jpg",
    )
    save_pictures(folder / "images", images)
    ask = "<image>\nPoint at the free space left of the cup, as a list of tuples."
    rows = [
        {"id": f"r{n}", "image": name, "conversations": turns(ask, "[(0.461, 0.527)]")}
        for n, name in enumerate(images)
    ]
    write_json(folder / "robopoint_1432k.json", rows)


ACTION = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def robots(base: Path) -> None:
    """CALVIN ABC-D (v3.0), Bridge and LIBERO-10 (v2.1): seven dimensions, several cameras."""
    robot(base / "calvin_abc", ("observation.images.top", "observation.images.wrist"), "v3.0")
    _add_relative_actions(base / "calvin_abc")
    robot(base / "bridge", tuple(f"observation.images.image_{n}" for n in range(4)), "v2.1")
    robot(
        base / "libero_10", ("observation.images.image", "observation.images.wrist_image"), "v2.1"
    )
    for name in ("bridge", "libero_10"):  # as older converters write the names of a vector
        path = base / name / "meta" / "info.json"
        info = json.loads(path.read_text())
        info["features"]["action"]["names"] = {"motors": list(ACTION)}
        path.write_text(json.dumps(info))


def robot(folder: Path, cameras: tuple[str, ...], version: Any, episodes: int = 4) -> None:
    from emt_core.data.robot.lerobot_writer import LeRobotWriter

    rng = np.random.default_rng(0)
    with LeRobotWriter(
        folder,
        fps=10,
        cameras=dict.fromkeys(cameras, (32, 32)),
        state_names=ACTION,
        action_names=ACTION,
        version=version,
    ) as writer:
        for episode in range(episodes):
            frames = [np.asarray(picture(episode * 7 + n, (32, 32))) for n in range(6)]
            writer.add_episode(
                task=("put the cup on the plate", "open the drawer")[episode % 2],
                images=dict.fromkeys(cameras, frames),
                state=rng.normal(size=(6, 7)),
                action=rng.normal(size=(6, 7)),
            )


def _add_relative_actions(folder: Path) -> None:
    """`action` is absolute there; relative ones stand in a column of their own."""
    for path in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        halved = [[value / 2 for value in row] for row in table.column("action").to_pylist()]
        relative = pa.array(halved, pa.list_(pa.float32(), 7))
        pq.write_table(table.append_column("action.relative", relative), path)
    path = folder / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action.relative"] = info["features"]["action"]
    path.write_text(json.dumps(info))


def suites(base: Path) -> None:
    """The question files of `retain`, under the names that the recipe has for them."""
    (base / "suites").mkdir()
    written = write_suites(base / "suites")
    for part in ("random", "popular", "adversarial"):
        _copy(written / "coco_pope_random.json", base / "pope" / f"coco_pope_{part}.json")
    _copy(written / "val", base / "coco" / "val2014")
    _copy(written / "blink", base / "BLINK")
    _copy(written / "data.jsonl", base / "VisuLogic" / "data.jsonl")
    _copy(written / "3dsr.tsv", base / "3DSRBench" / "3DSRBench.tsv")
    _copy(written / "spatial.parquet", base / "SpatialEval" / "test.parquet")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
