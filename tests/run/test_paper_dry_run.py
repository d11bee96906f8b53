"""The paper's recipes on small files in the published layouts, with the tiny VLM: planned to the end,
run to the selection, and told beforehand what a machine lacks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from published import publish

from emt_core.cli.__main__ import main
from emt_core.recipe.shipped import ROOT
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json

PAPER = ("paper_internvl35_1b", "paper_qwen3vl_2b")
SIMULATORS = {"calvin": "calvin_env", "bridge": "simpler_env", "libero": "libero"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("data"))


def here(base: Path, *more: str) -> list[str]:
    """The recipe's settings that are this machine's own."""
    tiny = ROOT / "assets" / "tiny_vlm"
    settings = [f"base={base}", f"embed.model={tiny}", f"backbone={tiny}", *more]
    return [part for setting in settings for part in ("--set", setting)]


def interpreter(folder: Path, *modules: str) -> Path:
    """A stand-in for a simulator's interpreter, which finds these modules."""
    (folder / "modules").mkdir(parents=True)
    for module in modules:
        (folder / "modules" / f"{module}.py").write_text("raise SystemExit('was imported')")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/modules exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("recipe", PAPER)
def test_a_dry_run_goes_to_the_end(recipe: str, base: Path, tmp_path: Path, capfd):
    python = interpreter(tmp_path, *SIMULATORS.values())
    simulators = [f"evaluate.{name}.python={python}" for name in SIMULATORS]
    command = ["run", recipe, "--dry-run", "--workspace", str(tmp_path / "w")]
    assert main([*command, *here(base, *simulators)]) == 0
    out = capfd.readouterr().out
    assert "29 of 29 to make" in out and "nothing stands in the way" in out
    assert out.count("4 policies 0.07 GB") == 9
    for frames in ("24 frames of calvin_abc", "24 frames of bridge", "24 frames of libero_10"):
        assert out.count(frames) == 3
    assert not (tmp_path / "w").exists()


def test_the_room_of_a_real_backbone_is_told(base: Path, tmp_path: Path, capfd, monkeypatch):
    """InternVL3.5-1B by its number of parameters: only the header of the weights is read."""
    header = {"w": {"dtype": "BF16", "shape": [1060, 10**6], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    (tmp_path / "vlm").mkdir()
    (tmp_path / "vlm" / "config.json").write_text("{}")
    (tmp_path / "vlm" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    python = interpreter(tmp_path, *SIMULATORS.values())
    mine = [f"evaluate.{name}.python={python}" for name in SIMULATORS]
    settings = here(base, *mine, f"backbone={tmp_path / 'vlm'}")
    usage = shutil.disk_usage(tmp_path)
    command = ["run", PAPER[0], "--dry-run", "--workspace", str(tmp_path / "w"), *settings]
    for free, code in ((200, 0), (180, 2)):
        enough = usage._replace(free=free * 10**9)
        monkeypatch.setattr("shutil.disk_usage", lambda _, enough=enough: enough)
        assert main(command) == code
        out, error = capfd.readouterr()
        assert out.count("4 policies 16.96 GB, checkpoints 38.16 GB (while it runs)") == 9
        assert "together 152.64 GB that are kept, 38.16 GB more while training" in out
        assert ("the disk has 180.0 GB free" in error) == bool(code)


def test_everything_that_a_machine_lacks_is_named_at_once(base: Path, tmp_path: Path, capfd):
    data = tmp_path / "data"
    shutil.copytree(base, data, symlinks=True)
    shutil.rmtree(data / "RefSpatial" / "3D")
    (data / "vcr1" / "train.jsonl").unlink()
    shutil.rmtree(data / "calvin")
    shutil.rmtree(data / "BLINK")
    python = interpreter(tmp_path)
    lacks = [f"evaluate.{name}.python={python}" for name in SIMULATORS]
    wrong = ["finetune.bridge.data.bridge.camera=image_0", "backbone=nobody/no-such-vlm"]
    settings = here(data, *lacks, *wrong)
    for command in (["--dry-run"], ["--workspace", str(tmp_path / "w")]):
        assert main(["run", PAPER[0], *command, *settings]) == 2
        error = capfd.readouterr().err
        for named in (
            "source 'vcr': there is no such file",
            "source 'refspatial_3d_choice': there is no such file",
            "source 'refspatial_3d_views': there is no such file",
            "there is no camera 'image_0'",
            "its cameras are: observation.images.image_0",
            "no-such-vlm",
            "the CALVIN data set is not there",
            "has no module 'simpler_env'",
            "has no module 'libero'",
            "retain.files.BLINK.path",
        ):
            assert named in error, named
    assert not list((tmp_path / "w").glob("*/*/manifest.json"))


def test_the_selection_runs_on_the_published_layouts(base: Path, tmp_path: Path):
    settings = [
        "runtime={workers: 0, device: cpu}",
        "estimator.learned={steps: 20, batch: 8}",
        "select.learned.k=30",
        "select.random.k=30",
    ]
    command = ["run", "paper_selection", "--workspace", str(tmp_path / "w")]
    assert main([*command, *here(base, *settings)]) == 0
    (sources,) = Workspace(tmp_path / "w").artifacts("sources")
    facts = read_json(sources.data / "sources.json")
    assert len(facts) == 18 and all(not source["rejects"] for source in facts)
    for select in Workspace(tmp_path / "w").artifacts("select"):
        assert len(pq.read_table(select.data / "selected.parquet")) == 30
