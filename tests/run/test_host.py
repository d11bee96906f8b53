"""What a container leaves of a machine: control groups of both versions, as files."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from emt_core.run import host

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """16 GiB, 10 of them free, eight cores; the folder of its groups."""
    found = SimpleNamespace(total=16 * GIB, available=10 * GIB)
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: found)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(host, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(host, "OWN_GROUPS", tmp_path / "own")
    return tmp_path / "groups"


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".", 1)).write_text(f"{value}\n")


def test_without_groups_the_machine_counts(machine: Path):
    assert host.memory() == host.Memory(16 * GIB, 10 * GIB) and host.cores() == 8


def test_the_tightest_of_the_groups_above_counts_in_version_2(machine: Path):
    (machine.parent / "own").write_text("0::/slurm/job_7/step_0\n")
    write(machine / "slurm/job_7/step_0", memory__max="max", memory__current=GIB)
    stat = f"anon {GIB}\ninactive_file {GIB}"
    job = {"memory__max": 4 * GIB, "memory__current": 2 * GIB, "memory__stat": stat}
    write(machine / "slurm/job_7", **job, cpu__max="250000 100000")
    write(machine, cpu__max="max 100000")
    assert host.memory() == host.Memory(4 * GIB, 3 * GIB, bounded=True)
    assert host.cores() == 2


def test_version_1_and_its_number_for_no_bound(machine: Path):
    (machine.parent / "own").write_text("5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n0::/\n")
    usage = {"memory__usage_in_bytes": 2 * GIB, "memory__stat": "total_inactive_file 0"}
    write(machine / "memory", memory__limit_in_bytes=9223372036854771712, **usage)
    assert host.memory() == host.Memory(16 * GIB, 10 * GIB)
    # in a container the group's own folder is not seen, the root shows what is there
    write(machine / "memory", memory__limit_in_bytes=3 * GIB)
    assert host.memory() == host.Memory(3 * GIB, GIB, bounded=True)
    write(machine / "cpu,cpuacct", cpu__cfs_quota_us=50000, cpu__cfs_period_us=100000)
    assert host.cores() == 1  # half a core is one
    write(machine / "cpu,cpuacct", cpu__cfs_quota_us=-1)
    assert host.cores() == 8


def test_what_is_free_here_can_be_taken():
    found = host.memory()
    assert 0 < found.free <= found.total and 1 <= host.cores() <= (os.cpu_count() or 1)


def test_a_model_leaves_cores_to_the_workers_that_decode(machine: Path):
    given = [(2, 8), (2, 4), (0, 8), (8, 8), (12, 3)]
    assert [host.threads_beside(*pair) for pair in given] == [6, 4, 8, 1, 1]
