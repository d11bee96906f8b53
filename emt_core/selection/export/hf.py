"""A folder for `datasets.load_from_disk`, with the Image feature; images are inside.

<out>/data-00000.arrow      Arrow stream, columns of TABLE_SCHEMA, at most SHARD_BYTES of images each
<out>/dataset_info.json     features
<out>/state.json            shards in order

Written shard by shard through pyarrow: `Dataset.from_generator(...).save_to_disk` writes everything
twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from emt_core.errors import EmtError
from emt_core.selection.export.base import Exporter, Picture, Row, TableBuffer
from emt_core.workspace.files import write_json

SHARD_BYTES = 512 * 2**20


def features() -> Any:
    from datasets import Features, Image, List, Value

    texts = {name: Value("string") for name in ("id", "own_id", "source", "category")}
    turn = {"from": Value("string"), "value": Value("string")}
    numbers = {"rank": Value("int64"), "logit": Value("float32")}
    return Features(
        {
            **texts,
            **numbers,
            "conversations": List(turn),
            "images": List(Image()),
            "meta": Value("string"),
        }
    )


class HFExporter(Exporter):
    modes = ("embed", "copy")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        # a copied image lies in the Arrow file: Image paths would not survive a moved folder
        self.inside = True
        self.features = features()
        self.schema: pa.Schema = self.features.arrow_schema
        self.buffer, self.names, self.in_shard = TableBuffer(), [], 0
        self.writer: pa.RecordBatchStreamWriter | None = None

    def write(self, row: Row, pictures: list[Picture]) -> None:
        if self.buffer.add(row, pictures):
            self._flush()

    def _flush(self) -> None:
        if not self.buffer.records:
            return
        if self.writer is None:
            self.names.append(f"data-{len(self.names):05d}.arrow")
            self.writer, self.in_shard = (
                pa.ipc.new_stream(self.folder / self.names[-1], self.schema),
                0,
            )
        self.in_shard += self.buffer.bytes
        self.writer.write_table(self.buffer.drain(self.schema))
        if self.in_shard >= SHARD_BYTES:
            self.writer.close()
            self.writer = None

    def close(self) -> list[str]:
        from datasets import DatasetInfo, load_from_disk

        self._flush()
        if self.writer is not None:
            self.writer.close()
        DatasetInfo(
            features=self.features, description="EmbodiedMidtrain selection"
        ).write_to_directory(self.folder)
        write_json(
            self.folder / "state.json",
            {
                "_data_files": [{"filename": name} for name in self.names],
                "_fingerprint": self.facts.get("key", "emt"),
                "_format_columns": None,
                "_format_kwargs": {},
                "_format_type": None,
                "_output_all_columns": False,
                "_split": None,
            },
        )
        try:
            load_from_disk(str(self.folder))
        except Exception as error:
            raise EmtError(
                f"datasets cannot read what was written: {error}", where=self.folder
            ) from error
        return ["read: datasets.load_from_disk(folder)"]


EXPORTER = HFExporter
