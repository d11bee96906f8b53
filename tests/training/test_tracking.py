"""Trackers get every step once, whatever kills the run, and can neither end it nor send anything
out unasked."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from event_files import scalars
from places import ROOT
from tracked_run import STEPS, context_of, curve, steps_log

from emt_core.training.tracking import NO_STEP, Tracking, flat, open_tracking

RUN = "finetune.mine-abc"
INSTALLED = ["trackio==0.43.0", "wandb==0.31.0"]


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python with trackio, the Pillow below 13 that it asks for, and wandb; the rest is ours."""
    folder = tmp_path_factory.mktemp("venv")
    uv = str(Path(sys.executable).with_name("uv"))
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", python, *INSTALLED]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"trackio and wandb cannot be installed here: {done.stderr[-300:]}")
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    return python


def tracked(
    workspace: Path,
    tracker: str,
    *,
    after: int = 0,
    killed_at: int = 0,
    python: str = sys.executable,
) -> int:
    """Exit code of a run that no one may reach out of, with everything set that would invite it."""
    surroundings = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "worlds")]),
        "HF_TOKEN": "hf_secret",
        "TRACKIO_SPACE_ID": "somebody/space",
        "WANDB_MODE": "offline",
    }
    command = [python, "-m", "tracked_run", str(workspace), tracker]
    done = subprocess.run(
        [*command, str(after), str(killed_at)],
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


def test_a_killed_run_goes_on_in_its_tensorboard_run(tmp_path: Path):
    """Killed after step 6, resumed from the checkpoint of step 4: steps 5 and 6 come once."""
    for after, killed_at, code in ((0, 6, -signal.SIGKILL), (4, 0, 0)):
        assert tracked(tmp_path, "tensorboard", after=after, killed_at=killed_at) == code
    found = scalars(tmp_path / "tracking" / "tensorboard" / "finetune" / RUN)
    assert [step for step, _ in found["loss"]] == list(range(1, STEPS + 1))
    assert [value for _, value in found["loss"]] == pytest.approx(
        [1 / n for n in range(1, STEPS + 1)]
    )
    assert [value for _, value in found["tokens"]] == [7 * n for n in range(1, STEPS + 1)]
    assert not {"loss_gripper", "step"} & set(found)


@pytest.mark.slow
def test_a_killed_run_goes_on_in_its_trackio_run(tmp_path: Path, interpreter: str):
    """trackio holds steps back for half a second: the kill loses them, the resumed run sends
    them."""
    for after, killed_at, code in ((0, 6, -signal.SIGKILL), (4, 0, 0), (10, 0, 0)):
        options = {"after": after, "killed_at": killed_at, "python": interpreter}
        assert tracked(tmp_path, "trackio", **options) == code
    (file,) = (tmp_path / "tracking" / "trackio").glob("*.db")
    with sqlite3.connect(file) as base:
        rows = base.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        ((config,),) = base.execute("SELECT config FROM configs").fetchall()
    assert [row[:2] for row in rows] == [(RUN, n) for n in range(1, STEPS + 1)]
    assert all(b'"loss"' in metrics and b'"step"' not in metrics for *_, metrics in rows)
    assert b'"head.latent":1024' in config


@pytest.mark.slow
def test_each_start_of_wandb_offline_has_the_whole_curve(tmp_path: Path, interpreter: str):
    """Read back by wandb's own reader of its files."""
    for after, killed_at, code in ((0, 6, -signal.SIGKILL), (4, 0, 0)):
        options = {"after": after, "killed_at": killed_at, "python": interpreter}
        assert tracked(tmp_path, "wandb", **options) == code
    files = sorted((tmp_path / "tracking" / "wandb").rglob("*.wandb"), key=os.path.getmtime)
    assert len(files) == 2 and all(RUN in file.name for file in files)
    done = subprocess.run(
        [interpreter, "-c", READ_WANDB, str(files[-1])], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert [record["_step"] for record in found] == list(range(1, STEPS + 1))
    assert [record["tokens"] for record in found] == [7 * n for n in range(1, STEPS + 1)]


READ_WANDB = """
import json, sys
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record
data = Path(sys.argv[1]).read_bytes()
assert len(data) < 32768  # one block of LevelDB's log format
found, at = [], 7
while at + 7 <= len(data):
    size = int.from_bytes(data[at + 4 : at + 6], "little")
    items = Record.FromString(data[at + 7 : at + 7 + size]).history.item
    names = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    found += [names] if names else []
    at += 7 + size
print(json.dumps(found))
"""


def test_a_tracker_added_later_gets_the_steps_before(tmp_path: Path):
    with steps_log(context_of(tmp_path)) as log:
        for step in (1, 2, 3):
            log.write(step, curve(step))
    assert not (tmp_path / "tracking").exists()
    with steps_log(context_of(tmp_path, "tensorboard"), after=3) as log:
        log.write(4, curve(4))
    found = scalars(tmp_path / "tracking" / "tensorboard" / "finetune" / RUN)
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4]


class Failing:
    def __init__(self, fails_at: int) -> None:
        self.fails_at = fails_at
        self.got: list[int] = []

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise OSError("the disk\nis full")
        self.got.append(step)

    def finish(self) -> None:
        raise RuntimeError


def test_a_tracker_that_fails_is_told_once_and_ends_nothing(tmp_path: Path):
    said: list[str] = []
    followed = Tracking(said.append)
    failing, whole = Failing(3), Failing(0)

    def missing():
        raise ModuleNotFoundError("No module named 'wandb'")

    followed.add("wandb", missing)
    followed.add("trackio", lambda: (failing, NO_STEP))  # type: ignore[arg-type]
    followed.add("tensorboard", lambda: (whole, 1))  # type: ignore[arg-type]
    for step in range(1, 6):
        followed.log(step, {"loss": 1.0})
    assert failing.got == [1, 2] and whole.got == [2, 3, 4, 5]
    followed.close()
    assert [line.split(" ", 1)[0] for line in said] == ["wandb", "trackio", "tensorboard"]
    assert said[1].endswith("the disk") and said[2].endswith("RuntimeError")


def test_only_rank_0_opens_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with open_tracking("finetune", context_of(tmp_path, "tensorboard")) as followed:
        followed.log(1, {"loss": 1.0})
    assert not (tmp_path / "tracking").exists()


def test_rank_0_alone_waits_for_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """evaluate under torchrun: the other ranks never come."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    context = context_of(tmp_path, "tensorboard")
    with open_tracking("evaluate", context) as followed:
        followed.log(0, {"success": 0.5, "average_length": None})
    assert {name: os.environ[name] for name in ranks} == ranks
    assert list(scalars(tmp_path / "tracking" / "tensorboard" / "evaluate" / RUN)) == ["success"]


def test_settings_are_flat():
    assert flat({"a": {"b": {"c": 1}}, "d": (1, 2), "e": None}) == {
        "a.b.c": 1,
        "d": "(1, 2)",
        "e": None,
    }
