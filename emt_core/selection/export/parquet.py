"""Parquet, columns of TABLE_SCHEMA; `images` is a list of {bytes, path}, as HF's Image has it.

<out>/data/part-00000.parquet      one shard
<out>/images/...                   with --images copy or link: `bytes` is null, `path` relative to
                                   <out>
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from emt_core.selection.export.base import TableExporter


class ParquetExporter(TableExporter):
    title = "Parquet"
    modes = ("embed", "copy", "link")

    def open_shard(self, number: int) -> tuple[Path, Any]:
        path = self.folder / "data" / f"part-{number:05d}.parquet"
        path.parent.mkdir(exist_ok=True)
        return path, pq.ParquetWriter(path, self.schema)

    def close(self) -> list[str]:
        super().close()
        return ["read: pandas.read_parquet, or datasets.load_dataset('parquet', data_dir=...)"]


EXPORTER = ParquetExporter
