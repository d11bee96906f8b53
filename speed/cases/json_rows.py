"""Pre-flight: reading and checking every row of a JSON Lines file, images' sizes included.

The issue's target was 80 % of the parser's own speed. It is out of reach where each row's image is
opened: reading its header alone takes several times as long as parsing the row (`floor`).
"""

from __future__ import annotations

import json
from pathlib import Path

from cases import Contender, Steps, agreement

UNIT = "rows of JSON Lines, one image for all"
ROWS = 200_000
GROWTH = (100_000, 1_000_000)


def prepare(folder: Path, rows: int, *, growth: bool = False) -> None:
    from PIL import Image

    (folder / "images").mkdir()
    Image.new("RGB", (64, 48), (200, 40, 10)).save(folder / "images" / "0.png")
    with (folder / "pool.jsonl").open("w") as file:
        for row in range(rows):
            turns = [
                {"from": "human", "value": f"<image>\nWhere is object {row} in this picture?"},
                {"from": "gpt", "value": "It stands left of the red cup, near the table's edge."},
            ]
            file.write(json.dumps({"id": str(row), "image": "0.png", "conversations": turns}))
            file.write("\n")


def ours(folder: Path, rows: int) -> Steps:
    from emt_core.data.preflight import preflight
    from emt_core.recipe.sources import SourcesConfig

    source = {
        "name": "pool",
        "role": "pool",
        "format": "llava",
        "path": "pool.jsonl",
        "image_root": "images",
    }
    config = SourcesConfig.model_validate({"sources": [source]})
    preflight(config, folder, limit=10)
    yield
    (report,) = preflight(config, folder)
    yield {"rows": report.seen}


def floor(folder: Path, rows: int) -> Steps:
    """The standard library's parser, and the header of each row's image by Pillow."""
    from PIL import Image

    yield
    seen = 0
    with (folder / "pool.jsonl").open("rb") as file:
        for line in file:
            with Image.open(folder / "images" / json.loads(line)["image"]) as image:
                seen += image.width > 0
    yield {"rows": seen}


def parser_alone(folder: Path, rows: int) -> Steps:
    """The standard library's parser, and no image."""
    yield
    with (folder / "pool.jsonl").open("rb") as file:
        seen = sum(1 for line in file if json.loads(line))
    yield {"rows": seen}


def hf_datasets(folder: Path, rows: int) -> Steps:
    """`load_dataset` into its cache, and one pass; no image is looked at."""
    import datasets

    datasets.disable_progress_bars()
    cache = str(folder / "cache")
    yield
    data = datasets.load_dataset("json", data_files=str(folder / "pool.jsonl"), cache_dir=cache)
    seen = sum(len(batch["id"]) for batch in data["train"].iter(1000))
    yield {"rows": seen}


CONTENDERS = {
    "ours": Contender(ours),
    "floor": Contender(floor),
    "json.loads alone, no images": Contender(parser_alone),
    "HF datasets, load_dataset, no images": Contender(hf_datasets, repeats=1),
}


def check(found: dict[str, dict[str, float]]) -> str:
    return agreement(found, "rows", "the number of rows")
