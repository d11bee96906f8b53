"""Each rule of LLaMA-Factory's ShareGPT format (its parser.py, converter.py, mm_plugin.py) on a
real export."""

from __future__ import annotations

import json

import pytest
import yaml
from PIL import Image

from emt_core.errors import EmtError
from emt_core.selection.export.export import export_selection
from emt_core.selection.export.training_file import template_of, training_yaml

DEFAULT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}


@pytest.fixture(scope="module")
def out(workspace, selection, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "lf"
    export_selection(workspace, selection, format="llamafactory", out=out, quiet=True)
    return out


@pytest.fixture(scope="module")
def entry(out):
    info = json.loads((out / "dataset_info.json").read_text())
    assert list(info) == ["embodied_midtrain"]
    return info["embodied_midtrain"]


@pytest.fixture(scope="module")
def rows(out, entry):
    return json.loads((out / entry["file_name"]).read_text())


@pytest.fixture(scope="module")
def train(out):
    return yaml.safe_load((out / "train.yaml").read_text())


def test_the_entry_names_every_column_it_uses(entry):
    assert entry["formatting"] == "sharegpt"
    # with `columns` there, omitted keys mean none: messages has to be written although it has a
    # default
    assert entry["columns"] == {"messages": "conversations", "images": "images"}
    assert "tags" not in entry  # omitted as a whole: all defaults hold


def test_rows_are_uniform(rows, entry):
    for row in rows:
        assert isinstance(row[entry["columns"]["messages"]], list) and isinstance(
            row[entry["columns"]["images"]], list
        )
        assert all(isinstance(path, str) for path in row["images"])
        assert all(
            set(turn) == {"from", "value"} and isinstance(turn["value"], str)
            for turn in row["conversations"]
        )
        assert set(row) == {
            "id",
            "own_id",
            "source",
            "category",
            "rank",
            "logit",
            "conversations",
            "images",
        }
    assert len({row["id"] for row in rows}) == len(rows) and len(
        {row["own_id"] for row in rows}
    ) < len(rows)


def test_roles_alternate_and_their_number_is_even(rows):
    with_system = 0
    for row in rows:
        turns = row["conversations"]
        if turns[0]["from"] == DEFAULT_TAGS["system_tag"]:
            turns, with_system = turns[1:], with_system + 1
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert len(turns) >= 2
    assert with_system == 1


def test_as_many_placeholders_as_images(rows):
    for row in rows:
        said = [turn["value"] for turn in row["conversations"] if turn["from"] != "system"]
        assert sum(text.count("<image>") for text in said) == len(row["images"])
        assert not any(word in text for text in said for word in ("<video>", "<audio>"))


def test_images_lie_below_media_dir(rows, out, train):
    media_dir = out / train["media_dir"]
    for row in rows:
        for path in row["images"]:
            assert not path.startswith("/") and ".." not in path.split("/")
            with Image.open(media_dir / path) as image:
                image.load()


def test_text_only_three_image_and_twenty_turn_rows_are_there(rows):
    by_id = {row["id"]: row for row in rows}
    assert by_id["web:5"]["images"] == [] and "<image>" not in str(by_id["web:5"]["conversations"])
    assert len(by_id["web:7"]["images"]) == 3
    assert len(by_id["web:9"]["conversations"]) == 20
    assert by_id["tars:1"]["conversations"][0] == {"from": "system", "value": "You are brief."}
    assert by_id["tars:1"]["conversations"][1]["value"].endswith("ünï")


def test_a_row_that_would_stop_the_training_is_left_out_by_name(rows, out):
    assert "web:11" not in {row["id"] for row in rows}
    kept = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    assert [(entry["id"], entry["reason"]) for entry in kept] == [
        ("web:11", "reserved_placeholder")
    ]


def test_training_file_has_the_papers_hyperparameters(train):
    paper = {
        "cutoff_len": 1024,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "bf16": True,
        "max_steps": 5000,
        "optim": "adamw_torch",
        "per_device_train_batch_size": 32,
        "gradient_accumulation_steps": 2,
    }
    assert {name: train[name] for name in paper} == paper
    assert (
        train["stage"] == "sft" and train["do_train"] is True and train["finetuning_type"] == "full"
    )
    frozen = (
        "freeze_vision_tower",
        "freeze_multi_modal_projector",
        "freeze_language_model",
        "trust_remote_code",
    )
    assert not any(train[name] for name in frozen)
    assert train["template"] == "intern_vl" and train["dataset"] == "embodied_midtrain"
    assert train["model_name_or_path"] == "OpenGVLab/InternVL3_5-1B-HF"
    assert train["report_to"] == "none"


def test_the_recipes_trackers_are_passed_on(workspace, selection, tmp_path):
    recipe = workspace.path / "recipes" / f"{selection.manifest['recipe']}.yaml"
    before = recipe.read_text()
    raw = yaml.safe_load(before)
    raw["runtime"] = (raw.get("runtime") or {}) | {"report_to": ["trackio", "wandb"]}
    recipe.write_text(yaml.safe_dump(raw))
    try:
        export_selection(
            workspace, selection, format="llamafactory", out=tmp_path / "lf", quiet=True
        )
    finally:
        recipe.write_text(before)
    text = (tmp_path / "lf" / "train.yaml").read_text()
    assert yaml.safe_load(text)["report_to"] == ["trackio", "wandb"]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("OpenGVLab/InternVL3_5-1B-HF", "intern_vl"),
        ("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl_nothink"),
        ("someone/my_qwen3vl", "qwen3_vl_nothink"),
    ],
)
def test_template_by_name(name, template):
    assert template_of(name) == template
    assert yaml.safe_load(training_yaml(name))["model_name_or_path"] == name


def test_template_by_the_folders_own_config(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    assert template_of(str(tmp_path)) == "qwen3_vl_nothink"
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(
        EmtError, match="no LLaMA-Factory template is known for the backbone 'llava'"
    ):
        template_of(str(tmp_path))


def test_an_unknown_backbone_ends_before_anything_is_written(workspace, selection, tmp_path):
    with pytest.raises(EmtError, match="no LLaMA-Factory template"):
        export_selection(workspace, selection, out=tmp_path / "x", backbone="gpt2", quiet=True)
    assert list(tmp_path.iterdir()) == []
