"""A folder for `datasets.load_from_disk`, with the Image feature; images are inside.

<out>/data-00000.arrow      one shard: an Arrow stream, columns of TABLE_SCHEMA
<out>/dataset_info.json     features
<out>/state.json            shards in order

Written shard by shard by pyarrow: `Dataset.from_generator(...).save_to_disk` writes everything
twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from emt_core.errors import EmtError
from emt_core.selection.export.base import READ, TableExporter
from emt_core.workspace.files import write_json


def features() -> Any:
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            **dict.fromkeys(("id", "own_id", "source", "category"), text),
            "rank": Value("int64"),
            "logit": Value("float32"),
            "conversations": List({"from": text, "value": text}),
            "images": List(Image()),
            "meta": text,
        }
    )


class HFExporter(TableExporter):
    title = "Hugging Face datasets"
    modes = ("embed", "copy")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        # a copied image lies in the Arrow file: Image paths would not survive a moved folder
        self.inside = True
        self.features = features()
        self.schema = self.features.arrow_schema

    def open_shard(self, number: int) -> tuple[Path, Any]:
        path = self.folder / f"data-{number:05d}.arrow"
        return path, pa.ipc.new_stream(path, self.schema)

    def close(self) -> list[str]:
        from datasets import DatasetInfo, load_from_disk

        super().close()
        info = DatasetInfo(features=self.features, description="EmbodiedMidtrain selection")
        info.write_to_directory(self.folder)
        write_json(
            self.folder / "state.json",
            {
                "_data_files": [{"filename": path.name} for path in self.shards],
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
        return [f"{READ}datasets.load_from_disk({str(self.out)!r})"]


EXPORTER = HFExporter
