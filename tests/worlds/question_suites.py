"""Question files in every public layout: what is in them, and how a recipe names them."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from emt_core.recipe.retain import QuestionFile


def png(color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 16), color).save(out, "PNG")
    return out.getvalue()


def write_suites(base: Path) -> Path:
    """One small file in each public layout, written to `base`; returns `base`."""
    (base / "val").mkdir()
    (base / "val" / "one.png").write_bytes(png())
    pope = [
        {
            "question_id": i,
            "image": "one.png",
            "text": f"Is there a {thing} in the image?",
            "label": label,
        }
        for i, (thing, label) in enumerate((("cup", "yes"), ("dog", "no")), start=1)
    ]
    (base / "coco_pope_random.json").write_text("\n".join(map(json.dumps, pope)) + "\n")
    image = {"bytes": png(), "path": "a.png"}
    blink = {
        "idx": ["val_Counting_1", "val_Counting_2", "test_1"],
        "sub_task": ["Counting"] * 3,
        "prompt": ["How many? (A) 1 (B) 2"] * 3,
        "choices": [["1", "2"]] * 3,
        "answer": ["(B)", "(A)", "hidden"],
        "image_1": [image] * 3,
        "image_2": [image, None, None],
    }
    (base / "blink").mkdir()
    pq.write_table(pa.table(blink), base / "blink" / "val-00000-of-00001.parquet")
    visulogic = {
        "id": "00001",
        "tag": "Spatial Reasoning",
        "question": "A, B, C, or D?",
        "label": "C",
        "image_path": "val/one.png",
    }
    (base / "data.jsonl").write_text(json.dumps(visulogic) + "\n")
    with (base / "3dsr.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file,
            ["index", "question", "A", "B", "C", "D", "answer", "category", "image"],
            delimiter="\t",
        )
        writer.writeheader()
        encoded = base64.b64encode(png()).decode()
        row = {
            "index": 7,
            "question": "Which is higher?",
            "A": "the cup",
            "B": "the box",
            "answer": "B",
        }
        writer.writerow(row | {"category": "height_higher", "image": encoded})
    spatial = {
        "id": ["spatialmap.vqa.0", "mazenav.vqa.3"],
        "text": ["Where is it? A. North B. South"] * 2,
        "oracle_answer": ["South", "North"],
        "oracle_option": ["B", "A"],
        "image": [image, image],
    }
    pq.write_table(pa.table(spatial), base / "spatial.parquet")
    return base


SUITES = {
    "pope": ("coco_pope_random.json", "val", 2, "coco_pope_random", "yes"),
    "blink": ("blink", "", 2, "Counting", "B"),
    "visulogic": ("data.jsonl", "", 1, "Spatial Reasoning", "C"),
    "3dsrbench": ("3dsr.tsv", "", 1, "height_higher", "B"),
    "spatialeval": ("spatial.parquet", "", 2, "spatialmap", "B"),
}


def suite(name: str) -> QuestionFile:
    path, images, *_ = SUITES[name]
    return QuestionFile.model_validate({"format": name, "path": path, "images": images})
