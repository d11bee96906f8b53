"""Memory and time of reading a parquet file whose images lie in one row group, as pandas writes it.

    python speed/row_group.py [--rows 20000] [--kilobytes 100] [--folder /tmp]

Prints the file's size, the process's own memory (mapped pages of the file left out) and seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from emt_core.data.images.decode import image_size
from emt_core.data.readers import image_root, read
from emt_core.data.sample import Sample
from emt_core.recipe.sources import ParquetSource

ROWS_AT_ONCE = 1_000


def write(path: Path, rows: int, kilobytes: int) -> None:
    side = int((kilobytes * 1_000 / 3) ** 0.5)  # noise: a PNG of it is as large as its pixels
    picture = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    png = path.with_suffix(".png")
    Image.fromarray(picture).save(png)
    images = pa.chunked_array([[png.read_bytes()] * ROWS_AT_ONCE] * (rows // ROWS_AT_ONCE))
    words = ["?"] * len(images)
    table = pa.table({"q": words, "a": words, "image": images})
    parquet.write_table(table, path, row_group_size=rows, use_dictionary=False)


def own_memory() -> int:
    """Anonymous memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kilobytes", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "one.parquet"
        write(path, options.rows, options.kilobytes)
        pa.default_memory_pool().release_unused()
        source = ParquetSource(
            format="parquet",
            name="p",
            role="pool",
            path=path.name,
            question="q",
            answer="a",
            images="image",
        )
        before = own_memory()
        most = before
        began = time.monotonic()
        for row in read(source, path):
            assert isinstance(row, Sample)
            image_size(row.images[0], image_root(source, path), 10**8)
            most = max(most, own_memory()) if row.row % 50 == 0 else most
        spent = time.monotonic() - began
        print(f"{path.stat().st_size / 1e9:.2f} GB in one row group, {options.rows:,} rows:")
        print(f"{(most - before) / 1e9:.2f} GB of memory added, {spent:.1f} s")


if __name__ == "__main__":
    main()
