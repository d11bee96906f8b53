"""Small tables in every shape, and sources that read them."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from source_files import encoded, picture

from emt_core.data.images.decode import check_image, open_image
from emt_core.data.readers import image_root, locate
from emt_core.recipe.sources import HFSource, ParquetSource

EMBEDDED = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def facts(format: str, more: dict) -> dict:
    found = {"format": format, "name": "tab", "role": "pool", "path": "tab", "images": "image"}
    if not {"text", "conversations", "question"} & more.keys():
        found |= {"question": "q", "answer": "a"}
    return {**found, **more}


def parquet_source(**more) -> ParquetSource:
    return ParquetSource(**facts("parquet", more))


def hf_source(**more) -> HFSource:
    return HFSource(**facts("hf", more))


def write(path, images, kind, rows=None, **columns):
    rows = rows or len(images)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "q": [f"what {n}?" for n in range(rows)],
        "a": [f"it {n}" for n in range(rows)],
        **columns,
    }
    table = pa.table({**table, "image": pa.array(images, kind)})
    pq.write_table(table, path, row_group_size=2)


def shows(source, base, sample, seed, position=0) -> None:
    ref = sample.images[position]
    root = image_root(source, locate(source, base))
    assert check_image(ref, root, source.max_pixels) is None
    image = open_image(ref, root, source.max_pixels)
    assert image.tobytes() == picture(seed).tobytes()


def hf_rows(n: int) -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "pair": datasets.List(datasets.Image()),
            "q": datasets.Value("string"),
            "a": datasets.Value("string"),
            "talk": {
                "from": datasets.List(datasets.Value("string")),
                "value": datasets.List(datasets.Value("string")),
            },
        }
    )
    rows = [
        {
            "image": {"bytes": encoded(picture(i)), "path": None},
            "pair": [
                {"bytes": encoded(picture(i)), "path": None},
                {"bytes": encoded(picture(i + 1)), "path": None},
            ],
            "q": f"what {i}?",
            "a": f"it {i}",
            "talk": {"from": ["human", "gpt"], "value": ["<image><image>hm", "ok"]},
        }
        for i in range(n)
    ]
    return datasets.Dataset.from_list(rows, features=features)
