"""StarVLA: LLaVA JSON for its VLM data loader, the registration of the set and a training file.

<out>/starvla.json      [{"images": [path], "conversations": [{"from", "value"}], "id", ...}]
<out>/images/...
<out>/register.py       to append to its qwen_data_config
<out>/starvla.yaml      what differs from its examples/CoTrainVLM configuration: data and base_vlm

Rules (its dataloader vlm_datasets): pictures are those of `images`, not of LLaVA's `image`, which
its page names; a first turn that is not the human's is dropped, so a system turn is put in front of
the first question; `<video>` stands for more than the word. The class of model is told by the
folder's name (its get_vlm_model), and InternVL is none of them.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.selection.export.base import (
    TRAIN,
    Exporter,
    JsonArray,
    Picture,
    Row,
    human_and_gpt,
    provenance_columns,
)
from emt_core.selection.export.training_file import DATASET

FOLDER = "starVLA"
"""Of the package in its checkout."""

REGISTRY = f"{FOLDER}/dataloader/qwenvl_llavajson/qwen_data_config.py"
NAMES = ("Qwen2.5-VL", "Qwen3-VL", "Qwen3.5")
"""What the path of base_vlm must hold for StarVLA to know the class."""


class StarVlaExporter(Exporter):
    title = "StarVLA"
    modes = ("copy", "link")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        self.backbone = str(facts.get("backbone", ""))
        _refuse_other_classes(self.backbone)
        self.rows = JsonArray(folder / "starvla.json")

    def problem(self, sample: Sample) -> str | None:
        if any("<video>" in turn.text for turn in sample.turns):
            return "reserved_placeholder"
        return super().problem(sample)

    def write(self, row: Row, pictures: list[Picture]) -> None:
        images = [picture.path for picture in pictures]
        record = {**provenance_columns(row), "conversations": human_and_gpt(row.sample)}
        # without a picture the key is absent: an empty list stands for a row of pictures
        self.rows.write(record | ({"images": images} if images else {}))

    def close(self) -> list[str]:
        self.rows.close()
        entry = {"annotation_path": str(self.out / "starvla.json"), "data_path": str(self.out)}
        (self.folder / "register.py").write_text(
            f"# append to {REGISTRY}\ndata_dict[{DATASET!r}] = {entry!r}\n",
            encoding="utf-8",
        )
        settings: dict[str, Any] = {
            "datasets": {
                "vlm_data": {
                    "dataset_py": "vlm_datasets",
                    "dataformat": "llava_json",
                    "dataset_use": DATASET,
                    "eval_dataset": DATASET,
                }
            }
        }
        if self.backbone:
            settings["framework"] = {"qwenvl": {"base_vlm": self.backbone}}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (self.folder / "starvla.yaml").write_text(
            f"# merge into the YAML of your run (StarVLA's examples/CoTrainVLM has one)\n{text}",
            encoding="utf-8",
        )
        return self._notes()

    def _notes(self) -> list[str]:
        append = shlex.quote(str(self.out / "register.py"))
        notes = [
            f"in the checkout of StarVLA, once: cat {append} >> {REGISTRY}",
        ]
        if not self.backbone:
            notes.append("no backbone is named, so starvla.yaml has no base_vlm: --backbone FOLDER")
        elif not any(name in self.backbone for name in NAMES):
            link = "playground/Pretrained_models/Qwen3-VL-midtrained"
            notes.append(
                "StarVLA tells a model's class by the name of its folder: "
                f"ln -s {shlex.quote(self.backbone)} {link}, and set base_vlm to the link"
            )
        notes.append(
            f"{TRAIN}accelerate launch {FOLDER}/training/train_starvlm.py --config_yaml YOURS.yaml "
            f"--datasets.vlm_data.dataset_use {DATASET}"
        )
        return notes


def _refuse_other_classes(backbone: str) -> None:
    """Raises EmtError for a model that StarVLA has no interface for."""
    config = Path(backbone).expanduser() / "config.json"
    if backbone and config.is_file():
        kind = str(json.loads(config.read_text(encoding="utf-8")).get("model_type", ""))
        known = "qwen" in kind
    else:
        kind = backbone
        known = not backbone or "qwen" in backbone.lower()
    if not known:
        raise EmtError(
            f"StarVLA has no interface for the backbone {kind!r}",
            where=backbone,
            remedy="name a Qwen-VL model with --backbone, or export with --format llamafactory",
        )


EXPORTER = StarVlaExporter
