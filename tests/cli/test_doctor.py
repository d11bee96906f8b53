"""`emt doctor` tells what is here, and what is not, in a dozen lines."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from places import ROOT

from emt_core.cli import doctor
from emt_core.cli.__main__ import main
from emt_core.models import device
from emt_core.run import host
from emt_core.run.host import cores


def test_this_machine_is_told_in_a_dozen_lines(tmp_path, capfd):
    assert main(["doctor", "-w", str(tmp_path / "not" / "yet")]) == 0
    said = capfd.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert len(said.splitlines()) <= 12
    assert lines["machine"].startswith(f"{cores()} of {os.cpu_count()} cores")
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


def test_a_container_s_bounds_and_a_cpu_with_bfloat16_are_told(monkeypatch: pytest.MonkeyPatch):
    """None of them is here: what the system would say stands in its place."""
    bounded = host.Memory(8_000_000_000, 3_000_000_000, bounded=True)
    monkeypatch.setattr(doctor, "memory", lambda: bounded)
    told = doctor.machine()["machine"]
    assert "8.0 GB of memory, the bound of this container (3.0 GB free)" in told
    monkeypatch.setattr(host, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    found = doctor.devices("cpu")
    assert "1 process on cpu, 8 threads (embed: 6 beside decoding workers)" in found["models"]
    assert "1 process on cpu, 8 threads (midtrain: 6)" in found["training"]
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    found = doctor.devices("cpu")
    assert "bfloat16 from 100 M parameters on" in found["models"]


WITHOUT_EXTRAS = """
import importlib.metadata as metadata
import sys

EXTRAS = ("metaworld", "mujoco", "libero", "ray", "submitit", "peft", "bitsandbytes", "trackio",
          "wandb", "tensorboard", "flash_attn", "deepspeed")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

version = metadata.version
def known(name):
    if name.startswith(EXTRAS):
        raise metadata.PackageNotFoundError(name)
    return version(name)

metadata.version = known
sys.meta_path.insert(0, Blocker())
from emt_core.cli.__main__ import main
sys.exit(main(["doctor", "-w", sys.argv[1]]))
"""


def test_without_any_extra_it_says_what_is_missing(tmp_path):
    """As in an environment of the base dependencies alone, which was tried by hand."""
    command = [sys.executable, "-c", WITHOUT_EXTRAS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["engines"].startswith("local; ray is missing (pip install")
    assert "slurm is missing" in lines["engines"]
    assert lines["simulators"].startswith("Meta-World is missing (pip install")
    assert lines["extras"].startswith("peft is missing: LoRA")
