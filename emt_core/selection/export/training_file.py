"""LLaMA-Factory's training file, with the paper's hyperparameters (method section 8)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from emt_core.errors import EmtError

DATASET = "embodied_midtrain"
TEMPLATES = {"internvl": "intern_vl", "qwen3_vl": "qwen3_vl_nothink"}
"""config.json's model_type -> template."""


def template_of(backbone: str) -> str:
    """LLaMA-Factory's template, by the model_type of a folder, else by the model's name.

    Raises EmtError for a model that we know no template of.
    """
    config = Path(backbone).expanduser() / "config.json"
    if config.is_file():
        kind = str(json.loads(config.read_text(encoding="utf-8")).get("model_type", ""))
        if kind in TEMPLATES:
            return TEMPLATES[kind]
    else:
        kind = backbone
        plain = backbone.lower().replace("-", "").replace("_", "").replace(".", "")
        for model_type, template in TEMPLATES.items():
            if model_type.replace("_", "") in plain:
                return template
    raise EmtError(
        f"no LLaMA-Factory template is known for the backbone {kind!r}",
        where=backbone,
        remedy="backbones: InternVL (HF format) and Qwen3-VL models; "
        "or export with --format llava, hf, parquet or webdataset",
    )


def training_yaml(backbone: str, *, selection: str = "", report_to: Sequence[str] = ()) -> str:
    """The text of train.yaml. Every value is the paper's but those marked.

    report_to: trackers, as `runtime.report_to` names them.
    """
    template = template_of(backbone)
    quoted = yaml.safe_dump(backbone, width=10_000).removesuffix("...\n").strip()
    patches = "crop_to_patches: false          # ours: one 448 px tile (256 tokens) an image\n"
    return f"""\
# Mid-training on the selection {selection or DATASET} (EmbodiedMidtrain, arXiv 2604.20012).
# Run from this folder: llamafactory-cli train train.yaml
# Global batch 256 = 32 per device x 2 accumulation x 4 devices: with another number of devices
# change the accumulation.

### model
model_name_or_path: {quoted}
trust_remote_code: false
{patches if template == "intern_vl" else ""}
### method: all parameters are trained, vision encoder and projector included
stage: sft
do_train: true
finetuning_type: full
freeze_vision_tower: false
freeze_multi_modal_projector: false
freeze_language_model: false

### data
dataset_dir: .
media_dir: .
dataset: {DATASET}
template: {template}
cutoff_len: 1024
preprocessing_num_workers: 8    # ours
dataloader_num_workers: 4       # ours

### train
per_device_train_batch_size: 32
gradient_accumulation_steps: 2
learning_rate: 5.0e-5
optim: adamw_torch
lr_scheduler_type: cosine
warmup_ratio: 0.1
max_steps: 5000
bf16: true
seed: 42                        # ours

### output: ours
output_dir: output
logging_steps: 10
save_steps: 500
save_only_model: false
plot_loss: true
report_to: {f"[{', '.join(report_to)}]" if report_to else "none"}
"""
