"""kill -9 of real processes in the middle of embed, then resume: the store equals an uninterrupted
run, bit by bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from places import ROOT
from tiny_models import save_internvl

from emt_core.data.features import Features
from emt_core.run import host
from emt_core.stages import embed as stage
from emt_core.workspace.artifact import Artifact, Workspace

# 91 CPU seconds together, most of them imports of two dozen processes: a busy machine stretches
# them many times over
pytestmark = pytest.mark.timeout(900)

SCRIPT = ROOT / "tests" / "worlds" / "embed_process.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "random"}


def start(
    workspace: Path,
    root: Path,
    *,
    rows: int,
    embed: dict[str, Any],
    workers: int,
    processes: int = 0,
) -> subprocess.Popen[str]:
    order = {
        "workspace": str(workspace),
        "root": str(root),
        "rows": rows,
        "embed": embed,
        "runtime": {
            "workers": workers,
            "batch": 4,
            "commit_rows": 16,
            "processes": processes,
        },
    }
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(order)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return err


def commits(workspace: Path) -> int:
    return sum(
        1 for _ in workspace.glob("embed/*.building/data/features.lance/_versions/*.manifest")
    )


def only_artifact(workspace: Path) -> Artifact:
    (artifact,) = Workspace.open(workspace).artifacts("embed")
    return artifact


def assert_equal_bit_by_bit(one: Artifact, other: Artifact) -> None:
    assert one.key == other.key
    a, b = (Features.at(artifact.data / "features.lance") for artifact in (one, other))
    assert a.rows == b.rows == one.rows
    rows = np.arange(a.rows)
    np.testing.assert_array_equal(a.take(rows).view(np.uint16), b.take(rows).view(np.uint16))
    assert a.table.column("status").tolist() == b.table.column("status").tolist()
    assert (one.data / "problems.jsonl").exists() == (other.data / "problems.jsonl").exists()


def kill_at(process: subprocess.Popen[str], workspace: Path, target: int, pause: float) -> bool:
    """kill -9 once `target` commits are on disk and `pause` has passed. False where the process was
    done before."""
    assert process.stdout is not None
    process.stdout.readline()  # planned
    while commits(workspace) < target and process.poll() is None:
        time.sleep(0.002)
    time.sleep(pause)
    if process.poll() is not None:
        return False
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "workers outlived their main process"
    return True


def killed_and_resumed(
    workspace: Path, root: Path, *, kills: int, step: int, seed: int, first: int = 0, **order: Any
) -> list[int]:
    """Kill so many runs, each a few commits further on, then let one finish. Returns the commits
    seen at each kill."""
    rng = random.Random(seed)
    seen, target = [], first
    for _ in range(kills):
        process = start(workspace, root, **order)
        assert kill_at(process, workspace, target, rng.uniform(0, 0.08)), f"finished after {seen}"
        seen.append(commits(workspace))
        target = seen[-1] + rng.randint(1, step)
    finish(start(workspace, root, **order))
    return seen


@pytest.mark.slow
def test_ten_kills_with_workers(tmp_path):
    order = {"rows": 1400, "embed": {"encoder": "fake"}, "workers": 2}
    finish(start(tmp_path / "whole", tmp_path / "images", **order))
    seen = killed_and_resumed(
        tmp_path / "killed", tmp_path / "images", kills=10, step=4, seed=0, **order
    )
    assert seen == sorted(seen) and len(set(seen)) >= 5, seen  # spread over the run
    assert_equal_bit_by_bit(only_artifact(tmp_path / "whole"), only_artifact(tmp_path / "killed"))


def test_kills_with_a_real_vlm(tmp_path):
    save_internvl(tmp_path / "images" / "model")
    order = {
        "rows": 160,
        "embed": {"encoder": "vlm", "model": "model", "pooling": "mean"},
        "workers": 0,
    }
    finish(start(tmp_path / "whole", tmp_path / "images", **order))
    seen = killed_and_resumed(
        tmp_path / "killed", tmp_path / "images", kills=1, step=3, seed=1, first=2, **order
    )
    assert seen[0] >= 2
    assert_equal_bit_by_bit(only_artifact(tmp_path / "whole"), only_artifact(tmp_path / "killed"))


def test_two_processes_on_one_workspace(tmp_path):
    """One builds, the other waits and finds it."""
    order = {"rows": 300, "embed": {"encoder": "fake"}, "workers": 0}
    finish(start(tmp_path / "first", tmp_path / "images", **order))
    both = [start(tmp_path / "shared", tmp_path / "images", **order) for _ in range(2)]
    said = [finish(process) for process in both]
    assert sum("done: 375 rows" in text for text in said) == 1
    assert_equal_bit_by_bit(only_artifact(tmp_path / "first"), only_artifact(tmp_path / "shared"))


@pytest.mark.parametrize("workers", [2])
def test_a_dead_worker_is_one_clear_message_and_loses_nothing(tmp_path, workers):
    order = {"rows": 1400, "embed": {"encoder": "fake"}, "workers": workers}
    process = start(tmp_path / "ws", tmp_path / "images", **order)
    assert process.stdout is not None
    process.stdout.readline()
    while commits(tmp_path / "ws") < 3:
        time.sleep(0.002)
    server = psutil.Process(process.pid).children(recursive=True)
    victim = next(p for p in server if p.ppid() != process.pid)  # a child of the fork server
    victim.kill()
    _, err = process.communicate(timeout=100)
    assert process.returncode != 0 and "a decoding process ended by itself" in err
    before = commits(tmp_path / "ws")
    finish(start(tmp_path / "ws", tmp_path / "images", **order))
    assert before >= 3 and only_artifact(tmp_path / "ws").metrics["embedded_rows"] < 1750 - 16 * 2


def test_the_model_keeps_to_the_threads_that_torch_was_given():
    before = torch.get_num_threads()
    try:
        for given, workers, cores, used in ((1, 0, 8, 1), (4, 0, 8, 4), (8, 3, 8, 5), (8, 9, 8, 1)):
            torch.set_num_threads(given)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(host, "cores", lambda cores=cores: cores)
                with stage._model_threads(workers):
                    assert torch.get_num_threads() == used
            assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)
