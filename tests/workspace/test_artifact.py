from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import Timeout

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace, make_key
from emt_core.workspace.files import write_json

FACTS = {
    "stage": "embed",
    "version": 1,
    "config": {"a": 1},
    "identity": None,
    "parents": {"sources": "k"},
}
MANIFEST = {
    "stage": "embed",
    "key": "k",
    "rows": 1,
    "metrics": {},
    "parents": {},
    "config": {},
    "finished": 1.0,
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w", create=True)


def test_key_depends_on_every_fact_and_not_on_order():
    key = make_key(**FACTS)
    assert key == make_key(**{**FACTS, "config": dict(reversed(list({"a": 1}.items())))})
    changes = {
        "stage": "gap",
        "version": 2,
        "config": {"a": 2},
        "identity": {"h": 1},
        "parents": {"sources": "other"},
    }
    assert len({make_key(**{**FACTS, name: value}) for name, value in changes.items()} | {key}) == 6


def test_key_is_the_same_in_every_process():
    script = f"from emt_core.workspace.artifact import make_key; print(make_key(**{FACTS!r}))"
    seeds = [{**os.environ, "PYTHONHASHSEED": str(seed)} for seed in (1, 2)]
    keys = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=e).stdout
        for e in seeds
    }
    assert keys == {make_key(**FACTS) + "\n"}


def test_a_committed_folder_is_complete_and_work_in_progress_is_not_found(workspace: Workspace):
    building = workspace.building("embed", "k")
    (building / "data").mkdir(parents=True)
    (building / "data" / "x").write_text("1")
    write_json(building / "progress.json", {})
    assert workspace.find("embed", "k") is None
    assert workspace.artifacts("embed") == []
    artifact = workspace.commit("embed", "k", MANIFEST)
    assert workspace.find("embed", "k") == artifact
    assert [a.key for a in workspace.artifacts("embed")] == ["k"]
    assert sorted(p.name for p in artifact.path.iterdir()) == ["data", "manifest.json"]
    assert not building.exists()


def test_a_manifest_written_but_not_renamed_is_still_work_in_progress(workspace: Workspace):
    write_json(workspace.building("embed", "k") / "manifest.json", MANIFEST)
    assert workspace.find("embed", "k") is None
    assert workspace.artifacts("embed") == []


def test_what_only_a_resume_needs_stays_until_the_manifest_is_on_disk(
    workspace: Workspace, monkeypatch
):
    building = workspace.building("embed", "k")
    (building / "data" / "checkpoints").mkdir(parents=True)
    for name in ("kept", "checkpoints/one", "lines"):
        (building / "data" / name).write_text("1")
    scratch = ("checkpoints", "lines", "never_made")

    def full(path: Path, *_: object, **__: object) -> None:
        if path.name == "manifest.json":
            raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr("emt_core.workspace.files.write_text", full)
        workspace.commit("embed", "k", MANIFEST, scratch)
    assert workspace.finish_commit("embed", "k") is None
    assert len(list((building / "data").rglob("*"))) == 4
    artifact = workspace.commit("embed", "k", MANIFEST, scratch)
    assert [p.name for p in artifact.data.iterdir()] == ["kept"]
    assert sorted(p.name for p in artifact.path.iterdir()) == ["data", "manifest.json"]


@pytest.mark.parametrize("stop", ["rmtree", "unlink", "rename"])
def test_a_commit_killed_behind_its_manifest_is_finished_later(
    workspace: Workspace, monkeypatch, stop
):
    building = workspace.building("embed", "k")
    (building / "data" / "checkpoints").mkdir(parents=True)
    (building / "data" / "kept").write_text("1")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if stop == "unlink":
            write_json(building / "progress.json", {})
            patched.setattr(
                "emt_core.workspace.files.write_text",
                lambda path, text, durable: path.write_text(text),
            )
        patched.setattr(*(("shutil.rmtree", killed) if stop == "rmtree" else (Path, stop, killed)))
        workspace.commit("embed", "k", MANIFEST, ("checkpoints",))
    assert workspace.find("embed", "k") is None
    artifact = workspace.finish_commit("embed", "k")
    assert artifact is not None and artifact == workspace.find("embed", "k")
    assert [p.name for p in artifact.data.iterdir()] == ["kept"]
    assert sorted(p.name for p in artifact.path.iterdir()) == ["data", "manifest.json"]


def test_a_commit_without_scratch_notes_none_and_forgets_what_a_failed_one_noted(
    workspace: Workspace, monkeypatch
):
    building = workspace.building("embed", "k")
    (building / "data").mkdir(parents=True)
    (building / "data" / "kept").write_text("1")
    write_json(building / "scratch.json", ["kept"])
    written: list[str] = []

    def noted(path: Path, text: str, **_: object) -> None:
        written.append(path.name)
        path.write_text(text)

    monkeypatch.setattr("emt_core.workspace.files.write_text", noted)
    artifact = workspace.commit("embed", "k", MANIFEST)
    assert [p.name for p in artifact.data.iterdir()] == ["kept"] and written == ["manifest.json"]


def test_data_reaches_the_disk_before_the_manifest_and_scratch_is_not_waited_for(
    workspace: Workspace, monkeypatch
):
    data = workspace.building("embed", "k") / "data"
    (data / "deep").mkdir(parents=True)
    (data / "checkpoints").mkdir()
    for name in ("deep/file", "checkpoints/one"):
        (data / name).write_text("1")
    (data / "link").symlink_to("/nowhere")
    seen: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        seen.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr("os.fsync", noted)
    workspace.commit("embed", "k", MANIFEST, ("checkpoints",))
    manifest = next(place for place, name in enumerate(seen) if "manifest.json" in name)
    assert seen[:3] == ["file", "deep", "data"] and manifest > 2
    assert not {"checkpoints", "one"} & set(seen)


def test_write_json_leaves_the_old_file_when_writing_fails(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_only_one_process_builds_and_a_killed_one_frees_the_lock(workspace: Workspace):
    script = (
        "import sys, time\nfrom emt_core.workspace.artifact import Workspace\n"
        f"with Workspace.open({str(workspace.path)!r}).lock('embed', 'k'):\n"
        "    print('held', flush=True)\n    time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert workspace.is_locked("embed", "k")
    with pytest.raises(Timeout), workspace.lock("embed", "k", wait=False):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    started = time.monotonic()
    with workspace.lock("embed", "k"):
        assert time.monotonic() - started < 10
    assert not workspace.is_locked("embed", "k")


def test_opening_what_is_no_workspace_says_what_to_do(tmp_path: Path):
    with pytest.raises(EmtError, match="not a workspace"):
        Workspace.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(EmtError, match="is a file"):
        Workspace.open(tmp_path / "file", create=True)
    write_json(tmp_path / "future" / "workspace.json", {"format": 99})
    with pytest.raises(EmtError, match="format 99"):
        Workspace.open(tmp_path / "future")


def test_a_lost_parent_is_named(workspace: Workspace):
    (workspace.building("embed", "k") / "data").mkdir(parents=True)
    artifact = workspace.commit("embed", "k", {**MANIFEST, "parents": {"sources": "gone"}})
    with pytest.raises(EmtError, match="sources gone"):
        workspace.parents(artifact)


def test_files_that_a_kill_left_aside_do_not_enter_the_artifact(workspace: Workspace):
    building = workspace.building("embed", "k")
    (building / "data").mkdir(parents=True)
    for name in (".elapsed.json.7.8.tmp", "data/.gap.json.7.8.tmp", "data/gap.json"):
        (building / name).write_text("{")
    made = workspace.commit("embed", "k", MANIFEST)
    names = sorted(path.name for path in made.path.rglob("*"))
    assert names == ["data", "gap.json", "manifest.json"]
