"""LLaMA-Factory: ShareGPT JSON, dataset_info.json and a training file for the backbone.

<out>/dataset_info.json        {"embodied_midtrain": {"file_name", "formatting", "columns"}}
<out>/embodied_midtrain.json   [{"conversations": [{"from", "value"}], "images": [path], "id", ...}]
<out>/images/...               paths in the JSON join media_dir, which is <out>
<out>/train.yaml               where the recipe or --backbone names a model

Rules (its data/parser.py, converter.py and mm_plugin.py): once `columns` is there, omitted keys
mean *none*, so `messages` is always written; a leading `system` turn is taken off; then human and
gpt alternate and their number is even; the number of `<image>` in the turns equals len(images); a
`<video>` or `<audio>` in them stops the training.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from emt_core.data.sample import Sample
from emt_core.selection.export.base import (
    PLACEHOLDER,
    TRAIN,
    Exporter,
    JsonArray,
    Picture,
    Row,
    conversation,
    provenance_columns,
    settled_turns,
)
from emt_core.selection.export.training_file import DATASET, training_yaml
from emt_core.workspace.files import write_json

RESERVED = ("<video>", "<audio>")
MOST_IMAGES = 3
"""256 tokens an image (InternVL, one tile): the fourth would fill cutoff_len before any text."""


class LlamaFactoryExporter(Exporter):
    title = "LLaMA-Factory"
    modes = ("copy", "link")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        backbone = facts.get("backbone", "")
        # an unknown backbone ends the export here, before the first row is written
        settings = {"selection": facts.get("name", ""), "report_to": facts.get("report_to", ())}
        self.training = training_yaml(backbone, **settings) if backbone else None
        self.rows = JsonArray(folder / f"{DATASET}.json")
        self.beyond_cutoff = 0

    def problem(self, sample: Sample) -> str | None:
        if problem := super().problem(sample):
            return problem
        turns = [turn for turn in settled_turns(sample) if turn.role != "system"]
        if any(word in turn.text for turn in turns for word in RESERVED):
            return "reserved_placeholder"
        # the system turn leaves the messages before LLaMA-Factory counts
        if sum(turn.text.count(PLACEHOLDER) for turn in turns) != len(sample.images):
            return "image_count_mismatch"
        return None

    def write(self, row: Row, pictures: list[Picture]) -> None:
        images = [picture.path for picture in pictures]
        self.beyond_cutoff += len(images) > MOST_IMAGES
        turns = conversation(row.sample)
        self.rows.write({**provenance_columns(row), "conversations": turns, "images": images})

    def close(self) -> list[str]:
        self.rows.close()
        columns = {"messages": "conversations", "images": "images"}
        entry = {"file_name": f"{DATASET}.json", "formatting": "sharegpt", "columns": columns}
        write_json(self.folder / "dataset_info.json", {DATASET: entry})
        notes = []
        if self.beyond_cutoff:
            notes.append(
                f"{self.beyond_cutoff:,} rows have more than {MOST_IMAGES} images: at 256 tokens "
                "each they exceed cutoff_len 1024, and LLaMA-Factory stops where it cuts image "
                "tokens off: raise cutoff_len"
            )
        if self.training is None:
            notes.append("no backbone is named, so there is no train.yaml: --backbone writes one")
        else:
            (self.folder / "train.yaml").write_text(self.training, encoding="utf-8")
            folder = shlex.quote(str(self.out))
            notes.append(f"{TRAIN}cd {folder} && llamafactory-cli train train.yaml")
        return notes


EXPORTER = LlamaFactoryExporter
