"""A real workspace over real files of four formats, everything in it selected."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_world import small_world

from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.selection.export.export import find_selection
from emt_core.workspace.artifact import Workspace

RECIPE = """
name: exported
backbone: OpenGVLab/InternVL3_5-1B-HF
runtime: {workers: 0, commit_rows: 16}
sources:
  - {name: web, role: pool, format: llava, path: web/web.json, image_root: images}
  - {name: tars, role: pool, format: webdataset, path: tars}
  - {name: odd, role: pool, format: llava, path: odd/odd.jsonl}
  - {name: boxes, role: pool, format: webdataset, path: boxes.tar}
  - {name: table, role: pool, format: parquet, path: table.parquet, question: q, answer: a, images: image}
  - {name: live, role: pool, format: hf, path: live, streaming: true, question: q, answer: a, images: image}
  - {name: arm, role: robot, format: lerobot, path: arm, camera: observation.images.front, frames_per_episode: 2}
embed: {encoder: fake}
category: {}
select.all: {strategy: all, include_text_only: true}
"""


def encoded(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tars(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        add(tar, "one.jpg", encoded(1))
        add(tar, "one.txt", b"A grey field of noise.")
        turns = [
            {"from": "system", "value": "You are brief."},
            {"from": "human", "value": "<image> and <image>: which is <brighter> & why? ünï"},
            {"from": "gpt", "value": "The second.\n\nIt has more white."},
        ]
        add(tar, "two.0.jpg", encoded(2))
        add(tar, "two.1.png", encoded(3, "PNG"))
        add(tar, "two.json", json.dumps({"conversations": turns, "lang": "en"}).encode())


ODD_FILES = {
    "GIF": "a.b.gif",
    "BMP": "sub folder/Ünï.DIB",
    "TIFF": "t.tif",
    "PPM": "p.pnm",
    "WEBP": "w.webp",
    "AVIF": "w.avifs",
    "JPEG2000": "j.j2k",
    "MPO": "#%41 stereo.mpo",
    "PNG": "no suffix",
    "JPEG": "picture.jfif",
}
"""A file of every format that is read, under a name that a reader could stumble over."""


def write_odd(folder: Path) -> None:
    """JSON lines with files of every format."""
    lines = []
    for place, (kind, name) in enumerate(ODD_FILES.items()):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(40 + place, kind))
        turns = [
            {"from": "human", "value": f"<image>\nWhat is in {name}?"},
            {"from": "gpt", "value": "Noise."},
        ]
        lines.append(json.dumps({"id": kind, "image": name, "conversations": turns}))
    (folder / "odd.jsonl").write_text("\n".join(lines))


def write_boxes(path: Path) -> None:
    """A tar with a picture of every format under each suffix that Pillow has for it."""
    Image.init()
    suffixes = [end for end, kind in sorted(Image.EXTENSION.items()) if kind in ODD_FILES]
    with tarfile.open(path, "w") as tar:
        for place, suffix in enumerate([*suffixes, ".JPG", ".Png"]):
            kind = Image.EXTENSION[suffix.lower()]
            add(tar, f"box{place}{suffix}", encoded(70 + place, kind))
            add(tar, f"box{place}.txt", f"A {suffix} of noise.".encode())


def write_table(path: Path, seed: int) -> None:
    images = [{"bytes": encoded(seed + i), "path": f"{i}.jpg"} for i in range(3)]
    questions = ["<image>\nWhat is this?", "How many?", "<image> Where?"]
    pq.write_table(
        pa.table({"q": questions, "a": ["Noise.", "Three.", "Here."], "image": images}), path
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("world"), pool_rows=24, episodes=3)
    rows = json.loads((folder / "web" / "web.json").read_text())
    rows[11]["conversations"][1]["value"] = "It is a <video> tag."
    (folder / "web" / "web.json").write_text(json.dumps(rows))
    write_tars(folder / "tars")
    write_odd(folder / "odd")
    write_boxes(folder / "boxes.tar")
    write_table(folder / "table.parquet", 10)
    (folder / "live").mkdir()
    write_table(folder / "live" / "live.parquet", 20)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="session")
def workspace(world: Path) -> Workspace:
    space = Workspace.open(world / "w", create=True)
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), space, quiet=True)
    return space


@pytest.fixture(scope="session")
def selection(workspace: Workspace):
    return find_selection(workspace)
