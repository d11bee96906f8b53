"""Each export as its format's own client reads it, by the very line that the export prints."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import webdataset
from PIL import Image

from emt_core.data.images.decode import open_image
from emt_core.data.index import Index
from emt_core.selection.export.base import READ, TRAIN
from emt_core.selection.export.export import export_selection

CLIENTS = {"datasets": datasets, "pandas": pandas, "webdataset": webdataset}
FACTORY = os.environ.get("EMT_LLAMAFACTORY_PYTHON", "")
SWIFT = os.environ.get("EMT_SWIFT_PYTHON", "")


def exported(workspace, selection, out, **how: Any) -> list[str]:
    """Export and return the commands that it prints."""
    report = export_selection(workspace, selection, out=out, quiet=True, **how)
    lines = report.summary().splitlines()
    return [line.split(": ", 1)[1] for line in lines if line.startswith((READ, TRAIN))]


def pixels(image: Image.Image | str | Path | bytes) -> np.ndarray:
    if isinstance(image, bytes):
        image = io.BytesIO(image)  # type: ignore[assignment]
    if not isinstance(image, Image.Image):
        image = Image.open(image)
    return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def originals(workspace, selection) -> dict[str, tuple[list[str], list[np.ndarray] | None]]:
    """Id -> (texts of its turns, pixels of its images; None where they lie in a stream)."""
    index = Index(workspace.parents(selection)["sources"])
    found = {}
    for source in index.sources:
        for _, sample in index.iterate(source.start, source.stop):
            if source.role == "pool":
                live = source.name == "live"
                images = [open_image(r, source.root, 10**6) for r in sample.images if not live]
                arrays = None if live else [np.asarray(image) for image in images]
                found[sample.id] = ([turn.text for turn in sample.turns], arrays)
    return found


def check(rows: dict[str, tuple[list[dict[str, str]], list[Any]]], originals, missing=()) -> None:
    """rows: id -> (turns, images as the client gives them)."""
    assert rows.keys() == originals.keys() - set(missing)
    for name, (turns, images) in rows.items():
        texts, wanted = originals[name]
        told = "\n\n".join(turn["value"] for turn in turns).replace("<image>", "").split()
        assert told == "\n\n".join(texts).replace("<image>", "").split(), name
        if wanted is None:
            assert [pixels(image).shape for image in images] == [(20, 24, 3)] * len(images)
            continue
        assert len(images) == len(wanted)
        for image, pixel in zip(images, wanted, strict=True):
            assert np.array_equal(pixels(image), pixel), name


@pytest.mark.parametrize("format", ["hf", "parquet"])
def test_datasets_reads_and_decodes_what_we_say_it_reads(
    format, workspace, selection, originals, tmp_path
):
    commands = exported(
        workspace,
        selection,
        tmp_path / "it's out",
        format=format,
        images="embed" if format == "parquet" else "copy",
    )
    command = next(c for c in commands if c.startswith("datasets."))
    loaded = eval(command, CLIENTS)
    check({row["id"]: (row["conversations"], row["images"]) for row in loaded}, originals)


@pytest.mark.parametrize("images", ["embed", "copy", "link"])
def test_pandas_reads_the_parquet_files(images, workspace, selection, originals, tmp_path):
    out = tmp_path / "out"
    commands = exported(workspace, selection, out, format="parquet", images=images)
    table = eval(next(c for c in commands if c.startswith("pandas.")), CLIENTS)
    rows = {}
    for row in table.to_dict("records"):
        held = [i["bytes"] or out / i["path"] for i in row["images"]]
        rows[row["id"]] = (list(row["conversations"]), held)
    check(rows, originals)


def test_webdataset_reads_and_decodes_every_shard(
    workspace, selection, originals, tmp_path, monkeypatch
):
    monkeypatch.setattr("emt_core.selection.export.webdataset.SHARD_ROWS", 20)
    (command,) = exported(workspace, selection, tmp_path / "out", format="webdataset")
    assert "{000000.." in command
    rows = {}
    for row in eval(command, CLIENTS):
        pictures = sorted(k for k in row if not k.startswith("__") and k != "json")
        rows[row["json"]["id"]] = (row["json"]["conversations"], [row[k] for k in pictures])
    check(rows, originals)


def test_llava_has_the_files_that_its_trainer_opens(workspace, selection, originals, tmp_path):
    """By the published trainer's rule (it installs from no registry): each path of `image` is
    joined to --image_folder and opened by Pillow."""
    (command,) = exported(workspace, selection, tmp_path / "it's out", format="llava")
    data, folder = shlex.split(command)[1::2]
    rows = {}
    for row in json.loads(Path(data).read_text()):
        named = row.get("image", [])
        paths = [Path(folder, name) for name in ([named] if isinstance(named, str) else named)]
        assert {turn["from"] for turn in row["conversations"]} == {"human", "gpt"}
        rows[row["id"]] = (row["conversations"], paths)
    check(rows, originals)


@pytest.mark.slow
@pytest.mark.skipif(not FACTORY, reason="EMT_LLAMAFACTORY_PYTHON names no interpreter")
def test_llamafactory_trains_on_every_row_by_the_command_that_is_printed(
    workspace, selection, originals, tmp_path
):
    """`uv venv E && uv pip install --python E/bin/python llamafactory`, then
    EMT_LLAMAFACTORY_PYTHON=E/bin/python: one epoch of the tiny VLM opens all images."""
    model = Path(__file__).parents[3] / "assets" / "tiny_vlm"
    out = tmp_path / "it's out"
    (command,) = exported(workspace, selection, out, backbone=str(model))
    rows = len(originals) - 1  # one has the word <video>
    small = (
        f"max_steps={-(-rows // 8)} per_device_train_batch_size=8 gradient_accumulation_steps=1 "
        "bf16=false use_cpu=true plot_loss=false dataloader_num_workers=0 "
        "preprocessing_num_workers=1"
    )
    environment = os.environ | {
        "PATH": f"{Path(FACTORY).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    done = subprocess.run(
        f"{command} {small}", shell=True, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Num examples = {rows}" in done.stdout + done.stderr
    assert (out / "output" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not SWIFT, reason="EMT_SWIFT_PYTHON names no interpreter")
def test_swift_trains_on_every_row_by_the_command_that_is_printed(
    workspace, selection, originals, tmp_path
):
    """`uv venv E && uv pip install --python E/bin/python ms-swift`, then
    EMT_SWIFT_PYTHON=E/bin/python: one epoch of the tiny VLM opens all images."""
    model = Path(__file__).parents[3] / "assets" / "tiny_vlm"
    (command,) = exported(
        workspace, selection, tmp_path / "it's out", format="swift", backbone=str(model)
    )
    rows = len(originals) - 1  # one has the word <video>
    small = (
        f"--max_steps {-(-rows // 8)} --per_device_train_batch_size 8 --torch_dtype float32 "
        "--gradient_accumulation_steps 1 --split_dataset_ratio 0 --dataloader_num_workers 0 "
        f"--strict true --output_dir {shlex.quote(str(tmp_path / 'trained'))}"
    )
    environment = os.environ | {
        "PATH": f"{Path(SWIFT).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
        "MODELSCOPE_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        f"{command} {small}", shell=True, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"'num_rows': {rows}" in done.stdout + done.stderr or f"num_rows: {rows}" in (
        done.stdout + done.stderr
    )
    assert list((tmp_path / "trained").rglob("model.safetensors"))
