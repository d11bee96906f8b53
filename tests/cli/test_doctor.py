"""`emt doctor` tells what is here, and what is not, in a dozen lines."""

from __future__ import annotations

import os
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from emt_core.cli import doctor
from emt_core.cli.__main__ import main


def test_this_machine_is_told_in_a_dozen_lines(tmp_path, capfd):
    assert main(["doctor", "-w", str(tmp_path / "not" / "yet")]) == 0
    said = capfd.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert len(said.splitlines()) <= 12
    assert lines["machine"].startswith(f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores")
    assert f"torch {metadata.version('torch')}" in lines["libraries"]
    assert lines["disk"].startswith(f"{tmp_path}: ") and list(tmp_path.iterdir()) == []
    if not torch.cuda.is_available():
        assert lines["GPUs"] == "none that torch sees"
        assert "1 process on cpu" in lines["models"] and "float32" in lines["models"]


def test_what_is_missing_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "installed_version", lambda _: None)
    found = doctor.installed()
    assert "Meta-World is missing (pip install 'embodied-midtrain[sim]')" in found["simulators"]
    assert "peft is missing: LoRA (pip install 'embodied-midtrain[lora]')" in found["extras"]
    assert "transformers is missing" in found["libraries"]
    assert "ray is missing (pip install 'embodied-midtrain[ray]')" in found["engines"]


def test_gpus_and_what_runs_on_them(monkeypatch: pytest.MonkeyPatch):
    """No GPU is here: what torch would say of two stands in its place."""
    gpu = SimpleNamespace(name="NVIDIA H200", total_memory=150_000_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    found = doctor.devices("auto")
    assert found["GPUs"] == "2 x NVIDIA H200, 150 GB"
    assert "1 process on cuda, bfloat16" in found["models"]
    assert "embed: one on each of 2 GPUs" in found["models"]
    assert (
        "together 2 processes, one for each GPU" in found["training"]
        and "flash" in found["training"]
    )


def test_a_device_and_a_disk_that_are_not_there(tmp_path, capfd, monkeypatch: pytest.MonkeyPatch):
    assert main(["doctor", "--device", "cuda:99"]) == 2
    assert "device 'cuda:99' is not there" in capfd.readouterr().err

    def refuses(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuses)
    assert main(["doctor", "-w", str(tmp_path)]) == 2
    assert "Read-only file system" in capfd.readouterr().err
