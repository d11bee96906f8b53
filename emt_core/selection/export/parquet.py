"""Parquet, columns of TABLE_SCHEMA; `images` is a list of {bytes, path} as HF's Image feature has
it.

<out>/data/part-00000.parquet      at most SHARD_BYTES of images each
<out>/images/...                   with --images copy or link: then `bytes` is null and `path` relative to <out>
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from emt_core.selection.export.base import TABLE_SCHEMA, Exporter, Picture, Row, TableBuffer

SHARD_BYTES = 512 * 2**20


class ParquetExporter(Exporter):
    modes = ("embed", "copy", "link")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        (folder / "data").mkdir()
        self.buffer, self.shards, self.in_shard = TableBuffer(), 0, 0
        self.writer: pq.ParquetWriter | None = None

    def write(self, row: Row, pictures: list[Picture]) -> None:
        if self.buffer.add(row, pictures):
            self._flush()

    def _flush(self) -> None:
        if not self.buffer.records:
            return
        if self.writer is None:
            path = self.folder / "data" / f"part-{self.shards:05d}.parquet"
            self.writer, self.shards, self.in_shard = (
                pq.ParquetWriter(path, TABLE_SCHEMA),
                self.shards + 1,
                0,
            )
        self.in_shard += self.buffer.bytes
        self.writer.write_table(self.buffer.drain(TABLE_SCHEMA))
        if self.in_shard >= SHARD_BYTES:
            self.writer.close()
            self.writer = None

    def close(self) -> list[str]:
        self._flush()
        if self.writer is not None:
            self.writer.close()
        return ["read: pandas.read_parquet, or datasets.load_dataset('parquet', data_dir=...)"]


EXPORTER = ParquetExporter
