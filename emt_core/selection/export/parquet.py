"""Parquet, columns of TABLE_SCHEMA; `images` is a list of {bytes, path}, as HF's Image has it.

<out>/data/part-00000.parquet      one shard; embedded images are decoded by datasets
<out>/images/...                   with --images copy or link: `bytes` is null, `path` relative to
                                   <out>
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from emt_core.selection.export.base import READ, TableExporter
from emt_core.selection.export.hf import features


class ParquetExporter(TableExporter):
    title = "Parquet"
    modes = ("embed", "copy", "link")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        if self.inside:
            self.schema = features().arrow_schema

    def open_shard(self, number: int) -> tuple[Path, Any]:
        path = self.folder / "data" / f"part-{number:05d}.parquet"
        path.parent.mkdir(exist_ok=True)
        return path, pq.ParquetWriter(path, self.schema)

    def close(self) -> list[str]:
        super().close()
        files = str(self.out / "data" / "*.parquet")
        notes = [
            f"{READ}pandas.read_parquet({str(self.out / 'data')!r})",
            f"{READ}datasets.load_dataset('parquet', data_files={files!r}, split='train')",
        ]
        if not self.inside:
            notes.append("image paths are relative to the folder")
        return notes


EXPORTER = ParquetExporter
