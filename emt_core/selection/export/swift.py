"""ms-swift: one JSON object a line, in its standard layout.

<out>/swift.jsonl     {"messages": [{"role", "content"}], "images": [path], "channel": category,
                      "id", ...}
<out>/images/...      paths in the file start from <out> (ROOT_IMAGE_DIR)

Rules (its page Custom-dataset, and its templates): as many `<image>` in the messages as images;
`<video>`, `<audio>`, `<bbox>` and `<ref-object>` stand for more than words; `channel` groups the
loss (`--enable_channel_loss`).
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from emt_core.data.sample import Sample
from emt_core.selection.export.base import (
    TRAIN,
    Exporter,
    Picture,
    Row,
    provenance_columns,
    settled_turns,
)

RESERVED = ("<video>", "<audio>", "<bbox>", "<ref-object>")


class SwiftExporter(Exporter):
    title = "ms-swift"
    modes = ("copy", "link")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        self.file = (folder / "swift.jsonl").open("w", encoding="utf-8")

    def problem(self, sample: Sample) -> str | None:
        if any(word in turn.text for turn in sample.turns for word in RESERVED):
            return "reserved_placeholder"
        return super().problem(sample)

    def write(self, row: Row, pictures: list[Picture]) -> None:
        record = {
            "messages": [
                {"role": turn.role, "content": turn.text} for turn in settled_turns(row.sample)
            ],
            "images": [picture.path for picture in pictures],
            "channel": row.category or row.sample.source,
            **provenance_columns(row),
        }
        self.file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> list[str]:
        self.file.close()
        folder = shlex.quote(str(self.out))
        data = shlex.quote(str(self.out / "swift.jsonl"))
        backbone = self.facts.get("backbone", "")
        model = shlex.quote(backbone) if backbone else "MODEL"
        return [
            f"{TRAIN}ROOT_IMAGE_DIR={folder} swift sft --model {model} --dataset {data} "
            "--tuner_type full --freeze_vit false --freeze_aligner false"
        ]


EXPORTER = SwiftExporter
