"""A disk that fills up while a stage runs: one clear message, nothing lost, the same command goes
on afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_world import small_world

from emt_core.workspace.artifact import Workspace


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=180k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_the_run_goes_on_after_it_grew(tmp_path: Path, small_disk: Path):
    recipe = small_world(tmp_path / "world") / "recipe.yaml"
    command = [
        sys.executable,
        "-m",
        "emt_core.cli",
        "run",
        str(recipe),
        "-w",
        str(small_disk / "w"),
    ]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 2, full.stderr
    assert "the disk is full" in full.stderr and "Traceback" not in full.stderr
    done_before = {p: p.stat().st_mtime_ns for p in small_disk.glob("w/*/*/manifest.json")}
    assert done_before, "the disk was too small even for the first stage"
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(Workspace.open(small_disk / "w").artifacts("select")) == 1
    assert {p: p.stat().st_mtime_ns for p in done_before} == done_before
