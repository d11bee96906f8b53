"""Several processes embed one pool: whoever is killed, the store is that of one process, to the
last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from test_embed_kill import assert_equal_bit_by_bit, finish, only_artifact, start
from tiny_models import save_internvl

from emt_core.data.features import Features
from emt_core.models.encoders.feature_writer import FeatureWriter
from emt_core.run.shards import Shard, done_shards, left

pytestmark = pytest.mark.timeout(900)

FAKE = {"encoder": "fake"}
VLM = {"encoder": "vlm", "model": "model", "pooling": "mean"}


def run(workspace: Path, root: Path, processes: int, *, rows: int = 1200, embed: dict = FAKE):
    return start(workspace, root, rows=rows, embed=embed, workers=0, processes=processes)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> tuple[Path, Path]:
    """(folder of images, workspace that one process made)"""
    root = tmp_path_factory.mktemp("images")
    whole = tmp_path_factory.mktemp("one") / "w"
    finish(run(whole, root, 0))
    return root, whole


def building(workspace: Path) -> Path:
    return next(iter(workspace.glob("embed/*.building/data")), workspace / "none")


def wait_for_shards(workspace: Path, process, count: int) -> bool:
    """Whether the run is still at work when so many shards are done, the first one among them."""
    while process.poll() is None:
        done = done_shards(building(workspace))
        if len(done) >= count and done[0].start == 0:
            return True
        time.sleep(0.005)
    return False


def worker_of(workspace: Path, number: int) -> psutil.Process | None:
    file = building(workspace) / "workers" / f"{number}.json"
    try:
        return psutil.Process(json.loads(file.read_text())["pid"])
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


@pytest.mark.slow
def test_three_processes_make_the_store_of_one(tmp_path):
    save_internvl(tmp_path / "images" / "model")
    order = {"rows": 120, "embed": VLM}
    finish(run(tmp_path / "one", tmp_path / "images", 0, **order))
    said = finish(run(tmp_path / "three", tmp_path / "images", 3, **order))
    assert "shards by 3 processes" in said
    one, three = only_artifact(tmp_path / "one"), only_artifact(tmp_path / "three")
    assert_equal_bit_by_bit(one, three)
    assert not (three.data / "shards").exists() and not (three.data / "workers").exists()
    assert three.metrics["encoder"] == one.metrics["encoder"]


def test_workers_killed_at_random_are_started_again(one, tmp_path):
    root, whole = one
    rng = random.Random(0)
    process = run(tmp_path / "w", root, 2)
    killed = 0
    for count in (1, 4):
        assert wait_for_shards(tmp_path / "w", process, count)
        victim = worker_of(tmp_path / "w", rng.randrange(2))
        if victim is not None:
            victim.send_signal(signal.SIGKILL)
            killed += 1
    assert killed
    finish(process)
    assert_equal_bit_by_bit(only_artifact(whole), only_artifact(tmp_path / "w"))


def test_a_killed_driver_takes_its_workers_along_and_one_process_goes_on(one, tmp_path):
    root, whole = one
    workspace = tmp_path / "w"
    process = run(workspace, root, 2)
    assert wait_for_shards(workspace, process, 3)
    workers = [found for number in range(2) if (found := worker_of(workspace, number))]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers outlived the run"
    made = sum(shard.rows for shard in done_shards(building(workspace)))
    finish(run(workspace, root, 0))  # on the engine of one process
    artifact = only_artifact(workspace)
    assert_equal_bit_by_bit(only_artifact(whole), artifact)
    assert made > 0 and artifact.metrics["embedded_rows"] == artifact.rows - made


def test_a_kill_after_the_shards_commit_doubles_nothing(one, tmp_path, monkeypatch):
    root, whole = one
    workspace = tmp_path / "w"
    process = run(workspace, root, 2)
    assert wait_for_shards(workspace, process, 4)
    while left(building(workspace), [Shard(0, 16)]) and process.poll() is None:
        time.sleep(0.005)  # the other worker may have been quicker
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    data = building(workspace)
    first = []
    for shard in done_shards(data):
        if shard.start == sum(before.rows for before in first):
            first.append(shard)
    kept = sum(shard.rows for shard in first)
    FeatureWriter(data, commit_rows=16, commit_seconds=1e9).take_over(first)
    assert Features.at(data / "features.lance").rows == kept > 0  # and the shards' files remain
    finish(run(workspace, root, 2))
    assert_equal_bit_by_bit(only_artifact(whole), only_artifact(workspace))
