"""The sources stage on real files, through the runner, including kills."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from source_files import lerobot_folder, llava_row, save_pictures, write_json

from emt_core.data import index as index_module
from emt_core.data import index_writer
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json
from emt_core.workspace.table import Table

ARM = {
    "name": "arm",
    "role": "robot",
    "format": "lerobot",
    "path": "set",
    "camera": "observation.images.front",
}
WEB = {"name": "web", "role": "pool", "format": "llava", "path": "web.json"}


def write_recipe(folder: Path, *sources: dict, **runtime) -> Path:
    runtime = {"workers": 0, **runtime}
    return write_json(
        folder / "mine.yaml", {"name": "mine", "runtime": runtime, "sources": list(sources)}
    )


def run(folder: Path, *sources: dict, **runtime):
    plan = make_plan(load_recipe(write_recipe(folder, *sources, **runtime)))
    workspace = Workspace.open(folder / "ws", create=True)
    return run_plan(plan, workspace, quiet=True)["sources"]


def write_pool(folder: Path, rows: int) -> None:
    """Every tenth row is text only, every seventh has a missing image, row 3 three images."""
    save_pictures(folder, [f"{n}.png" for n in range(5)])
    out = [
        llava_row(None if n % 10 == 0 else "gone.png" if n % 7 == 0 else f"{n % 5}.png", id=n)
        for n in range(rows)
    ]
    out[3] = llava_row(["0.png", "1.png", "2.png"], id=3)
    write_json(folder / "web.json", out)


def contents(artifact) -> tuple:
    index = Index(artifact)
    table = index.table.take(range(index.rows)).to_pylist()
    return (
        table,
        (artifact.data / "rejects.jsonl").read_text(),
        read_json(artifact.data / "sources.json"),
    )


def test_pool_and_robot_become_one_index(tmp_path):
    write_pool(tmp_path, 100)
    lerobot_folder(tmp_path / "set")
    artifact = run(tmp_path, WEB, ARM)
    index = Index(artifact)
    web, arm = index.sources
    gone = [n for n in range(100) if n % 7 == 0 and n % 10]
    assert (web.role, web.start, web.stop) == ("pool", 0, 100 - len(gone))
    assert (arm.role, arm.start, arm.stop) == ("robot", web.stop, web.stop + 24)
    facts = web.facts
    assert (
        facts["seen"] == 100
        and facts["kept"] == web.rows
        and facts["rejects"] == {"missing_image": len(gone)}
    )
    assert (
        facts["text_only"] == 10
        and facts["multi_image"] == 1
        and facts["bytes"] > 0
        and len(facts["digest"]) == 32
    )
    assert web.root == tmp_path and artifact.rows == index.rows
    rejects = [json.loads(line) for line in (artifact.data / "rejects.jsonl").open()]
    assert (
        [r["row"] for r in rejects] == gone
        and rejects[0]["id"] == "web:7"
        and rejects[0]["own_id"] == "7"
    )
    assert index.row_of("web:8") == 7 and index.samples([7])[0].row == 8
    assert index.samples([arm.start])[0].episode == 0


def test_a_changed_file_changes_the_key_and_a_touched_index_does_not(tmp_path):
    write_pool(tmp_path, 20)
    first = run(tmp_path, WEB)
    os.utime(tmp_path / "web.json", (1, 1))
    assert run(tmp_path, WEB).key == first.key
    save_pictures(tmp_path, ["gone.png"])  # an image that was missing is there now
    second = run(tmp_path, WEB)
    assert second.key != first.key and second.rows > first.rows
    write_pool(tmp_path, 21)
    assert run(tmp_path, WEB).key not in (first.key, second.key)


def test_workers_and_commit_size_change_nothing(tmp_path, monkeypatch):
    write_pool(tmp_path, 700)
    expected = contents(run(tmp_path, WEB))
    (tmp_path / "b").mkdir()
    for name in ("web.json", *(f"{n}.png" for n in range(5))):
        (tmp_path / "b" / name).symlink_to(tmp_path / name)
    monkeypatch.setattr("emt_core.data.images.check.INLINE_ROWS", 0)
    monkeypatch.setattr("emt_core.data.images.check.BATCH_ROWS", 64)
    artifact = run(tmp_path / "b", WEB, workers=2, commit_rows=50)
    assert len(list(artifact.data.glob("index.lance/data/*"))) == 1, (
        "what many commits left is gathered"
    )
    table, rejects, facts = contents(artifact)
    assert table == expected[0] and rejects == expected[1]
    same = {"root", "bytes", "digest"}
    assert {k: v for k, v in facts[0].items() if k not in same} == {
        k: v for k, v in expected[2][0].items() if k not in same
    }


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 8])
def test_interrupted_anywhere_it_ends_the_same(tmp_path, monkeypatch, stop_at):
    """A failure before and after each kind of write; the next run goes on from what was
    committed."""
    write_pool(tmp_path, 300)
    lerobot_folder(tmp_path / "set")
    two = ({**WEB, "name": "first"}, WEB, ARM)
    expected = contents(run(tmp_path, *two))
    monkeypatch.setattr("emt_core.data.images.check.BATCH_ROWS", 32)
    calls = 0
    append = Table.append

    def failing(self, table):
        nonlocal calls
        calls += 1
        if calls == stop_at and stop_at % 2:
            raise KeyboardInterrupt  # the rejects are written, the samples are not
        append(self, table)
        if calls == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(Table, "append", failing)
    (tmp_path / "ws").rename(tmp_path / "done")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *two, commit_rows=60)
    assert contents(run(tmp_path, *two, commit_rows=60)) == expected


def test_an_index_that_an_older_version_began_is_begun_anew(tmp_path, monkeypatch):
    """Its pictures had no `edit`: rows with other columns cannot be appended."""
    write_pool(tmp_path, 300)
    expected = contents(run(tmp_path, WEB))
    (tmp_path / "ws").rename(tmp_path / "done")
    kept = [f for f in index_module.IMAGE_TYPE if f.name != "edit"]
    images = pa.field("images", pa.list_(pa.struct(kept)))
    old = pa.schema([images if f.name == "images" else f for f in index_module.SCHEMA])
    monkeypatch.setattr(index_module, "IMAGE_TYPE", pa.struct(kept))
    monkeypatch.setattr(index_writer, "SCHEMA", old)
    monkeypatch.setattr("emt_core.data.images.check.BATCH_ROWS", 32)
    append = Table.append

    def cut_short(self, table):
        append(self, table)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(Table, "append", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, WEB, commit_rows=60)
    monkeypatch.undo()
    assert contents(run(tmp_path, WEB)) == expected


def test_a_disk_that_is_full_at_the_commit_costs_no_row_and_doubles_none(tmp_path, monkeypatch):
    write_pool(tmp_path, 30)
    lerobot_folder(tmp_path / "set")
    two = ({**WEB, "name": "first"}, WEB, ARM)
    expected = contents(run(tmp_path, *two))
    (tmp_path / "ws").rename(tmp_path / "done")
    written = Workspace.commit

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Workspace, "commit", full)
    with pytest.raises(EmtError, match="the disk is full"):
        run(tmp_path, *two)
    monkeypatch.setattr(Workspace, "commit", written)
    artifact = run(tmp_path, *two)
    assert contents(artifact) == expected
    assert sorted(path.name for path in artifact.data.iterdir()) == [
        "index.lance",
        "rejects.jsonl",
        "sources.json",
    ]


def test_kill_9_and_resume(tmp_path):
    """A real process, killed with -9 while it reads; the second run's index equals an uninterrupted
    one's."""
    write_pool(tmp_path, 6_000)
    recipe = write_recipe(tmp_path, WEB, commit_rows=500)
    start = "from emt_core.cli.__main__ import entry; entry()"
    command = [sys.executable, "-c", start, "run", str(recipe), "--workspace", str(tmp_path / "ws")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200  # the machine may be busy
    while not list(tmp_path.glob("ws/sources/*.building/data/index.lance/_versions/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("ws/sources/*.building"))
    resumed = contents(run(tmp_path, WEB, commit_rows=500))
    (tmp_path / "ws").rename(tmp_path / "kept")
    assert resumed == contents(run(tmp_path, WEB))


def test_empty_source_and_no_survivors(tmp_path):
    write_json(tmp_path / "web.json", [])
    with pytest.raises(EmtError, match="source 'web' is empty"):
        run(tmp_path, WEB)
    write_json(tmp_path / "web.json", [llava_row("gone.png"), llava_row("../out.png")])
    with pytest.raises(
        EmtError, match="no row of source 'web' survives: missing_image 1, bad_path 1"
    ) as caught:
        run(tmp_path, WEB)
    assert "rejects.jsonl" in caught.value.remedy
    files = [
        path.read_text().splitlines()
        for path in tmp_path.glob("ws/sources/*.building/data/rejects.jsonl")
    ]
    assert sorted(map(len, files)) == [0, 2]  # the empty source's, and every reject of this one


def test_a_source_that_changes_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    write_pool(tmp_path, 30)
    plan = make_plan(load_recipe(write_recipe(tmp_path, WEB)))
    write_pool(tmp_path, 31)
    with pytest.raises(EmtError, match="changed while it was read"):
        run_plan(plan, Workspace.open(tmp_path / "ws", create=True), quiet=True)


def test_missing_source_shows_in_the_plan(tmp_path):
    with pytest.raises(EmtError, match="source 'web': there is no such file"):
        make_plan(load_recipe(write_recipe(tmp_path, WEB)))


def test_a_workspace_inside_the_data_folder_does_not_change_the_key(tmp_path):
    write_pool(tmp_path, 12)
    first = run(tmp_path, WEB)
    (tmp_path / "ws" / "cache").mkdir(exist_ok=True)
    save_pictures(tmp_path / "ws" / "cache", ["thumb.png"])
    assert run(tmp_path, WEB).key == first.key
