"""Held-out questions of the demo's generators, and the shipped file of them that `retain` asks.

    python -m demo.questions --out assets/demo/questions.parquet

Held out means: images from another split of seeds, and strings to read that no training image
shows (`words.py`). The file has the layout `own` of docs/training.md. Kinds take turns in it, so
its first 70 rows are ten questions of each.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.charts import CHART_NAMES
from demo.documents import DOCUMENT_NAMES
from demo.emoji import CONCEPTS
from demo.general import FAMILIES, draw
from demo.phrasing import plural
from demo.sample import DemoSample
from demo.scenes import HUES, SHAPES

KINDS = ("caption", "count", "colour", "read", "chart", "spatial", "point")
POINT_TOLERANCE = 0.10
"""A point is right within this distance of the truth, as a fraction of the image's width."""

PER_KIND = 100
SEED = 77
WEBP_QUALITY = 85

_NAMES: dict[str, Sequence[str]] = {
    "things": tuple(CONCEPTS),
    "scenes": tuple(f"{hue} {shape}" for hue in HUES for shape in SHAPES),
    "documents": DOCUMENT_NAMES,
    "charts": CHART_NAMES,
}
"""What a caption of each family can name."""


def held_out(kind: str, n: int, seed: int) -> list[DemoSample]:
    """`n` held-out samples of `kind`, one an image so that they are independent.

    Families take turns. Raises ValueError where no family asks such questions.
    """
    samples: list[DemoSample] = []
    index = 0
    while len(samples) < n:
        for family in FAMILIES:
            same = [s for s in draw(family, seed, index, "heldout") if s.kind == kind]
            if same:
                rng = np.random.default_rng([seed, index, 2])
                samples.append(same[int(rng.integers(len(same)))])
        index += 1
        if index > 100 * n:
            raise ValueError(f"no generator asks questions of kind {kind!r}")
    return samples[:n]


def question_row(sample: DemoSample, own_id: str = "") -> dict[str, Any]:
    """The sample as a row of the file, without its image.

    A caption is right that names exactly what is in the image, a point within POINT_TOLERANCE;
    every other answer must be exact.
    """
    row: dict[str, Any] = {
        "id": own_id,
        "category": sample.kind,
        "question": sample.question,
        "judge": "exact",
        "answer": sample.answer,
    }
    if sample.kind == "caption":
        vocabulary = [f"{name}|{plural(name)}" for name in _NAMES[sample.meta["family"]]]
        row |= {"judge": "names", "names": sample.meta["names"], "vocabulary": vocabulary}
    elif sample.kind == "point":
        at = [float(sample.meta["x"]), float(sample.meta["y"])]
        row |= {"judge": "point", "point": at, "tolerance": POINT_TOLERANCE}
    return row


def question_rows(n: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the file with their images: `n` questions of each kind, kinds taking turns."""
    kinds = {kind: held_out(kind, n, seed) for kind in KINDS}
    return [
        question_row(kinds[kind][number], f"{kind}:{number}")
        | {"image": {"bytes": _webp(kinds[kind][number]), "path": None}}
        for number in range(n)
        for kind in KINDS
    ]


def _webp(sample: DemoSample) -> bytes:
    out = io.BytesIO()
    sample.image.save(out, "WEBP", quality=WEBP_QUALITY, method=6)
    return out.getvalue()


def write_questions(out: Path, n: int = PER_KIND, seed: int = SEED) -> None:
    """Write the file; the folder must exist. Needs the fonts of docs/tiny_vlm.md."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    image = pa.struct([("bytes", pa.binary()), ("path", text)])
    schema = pa.schema(
        {
            **dict.fromkeys(("id", "category", "question"), text),
            "image": image,
            **dict.fromkeys(("judge", "answer"), text),
            **dict.fromkeys(("names", "vocabulary"), pa.list_(text)),
            "point": pa.list_(pa.float64()),
            "tolerance": pa.float64(),
        }
    )
    rows = question_rows(n, seed)
    pq.write_table(pa.Table.from_pylist(rows, schema), out, compression="zstd")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    write_questions(parser.parse_args(argv).out)


if __name__ == "__main__":
    main()
