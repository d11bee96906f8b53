"""LLaVA JSON: one array of {"id", "image", "conversations"}.

<out>/llava.json      "image" is a path relative to <out>: a list where a row has several, absent
                      without an image
<out>/images/...

LLaVA's trainer knows the speakers human and gpt only: a system turn is put in front of the first
question.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from emt_core.selection.export.base import (
    TRAIN,
    Exporter,
    JsonArray,
    Picture,
    Row,
    human_and_gpt,
    provenance_columns,
)


class LlavaExporter(Exporter):
    title = "LLaVA"
    modes = ("copy", "link")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        self.rows = JsonArray(folder / "llava.json")

    def write(self, row: Row, pictures: list[Picture]) -> None:
        turns = human_and_gpt(row.sample)
        paths = [picture.path for picture in pictures]
        image = {} if not paths else {"image": paths[0] if len(paths) == 1 else paths}
        self.rows.write({**provenance_columns(row), **image, "conversations": turns})

    def close(self) -> list[str]:
        self.rows.close()
        data = shlex.quote(str(self.out / "llava.json"))
        folder = shlex.quote(str(self.out))
        return [f"{TRAIN}--data_path {data} --image_folder {folder}"]


EXPORTER = LlavaExporter
