"""Folders that go, disks that answer with errors, exports that were killed: one message, and the
next run ends as if nothing had been. speed/faults.py tries every stage."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_world import small_world

from emt_core.cli.__main__ import main
from emt_core.data.images.decode import open_images
from emt_core.data.robot.lerobot_video import VideoFile
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.selection.export.export import export_selection
from emt_core.stages import category, embed
from emt_core.training.midtrain.batches import Selection
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.machine_faults import machine_fault, machine_faults_told
from emt_core.workspace.table import Table


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=40, episodes=4)


@pytest.fixture(scope="module")
def whole(world: Path) -> Workspace:
    """A workspace that nothing happened to, up to the selection."""
    space = Workspace.open(world / "whole", create=True)
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), space, until="select", quiet=True)
    return space


def vectors(space: Workspace) -> np.ndarray:
    (artifact,) = space.artifacts("embed")
    table = Table(artifact.data / "features.lance").take(range(artifact.rows), ["vector"])
    return np.array(table["vector"].to_pylist())


@pytest.mark.parametrize("emptied", [False, True])
def test_images_that_go_while_embedding_are_no_rows_without_images(
    world: Path, whole: Workspace, tmp_path: Path, emptied: bool
):
    """emptied: the folder stays, as the mount point of a disk that is no longer mounted."""
    space = Workspace.open(tmp_path / "w", create=True)
    plan = make_plan(load_recipe(world / "recipe.yaml"))
    run_plan(plan, space, until="sources", quiet=True)
    images = world / "web" / "images"
    images.rename(world / "away")
    try:
        if emptied:
            images.mkdir()
        with pytest.raises(EmtError, match="folder of images is gone"):
            run_plan(plan, space, until="embed", quiet=True)
    finally:
        shutil.rmtree(images, ignore_errors=True)
        (world / "away").rename(images)
    run_plan(plan, space, until="embed", quiet=True)
    np.testing.assert_array_equal(vectors(space), vectors(whole))


def test_images_that_go_while_mid_training_are_no_odd_samples(world: Path, whole: Workspace):
    (sources,) = whole.artifacts("sources")
    preparer: Any = None  # is not reached: the image comes first
    selection = Selection(sources, np.arange(8), preparer, max_images=4)
    images = world / "web" / "images"
    images.rename(world / "away")
    try:
        with pytest.raises(EmtError, match="folder of images is gone"):
            list(selection.items(range(4)))
    finally:
        (world / "away").rename(images)


def test_one_missing_image_beside_others_is_still_a_named_problem(world: Path):
    ref = ImageRef(kind="file", path="9999.png")
    (problem,) = open_images([ref], world / "web" / "images", 10**6)
    assert getattr(problem, "reason", "") == "missing_image"


@pytest.mark.parametrize("fails", [False, True])
def test_a_workspace_that_is_taken_away_and_made_anew_gets_no_half_artifact(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
):
    space = Workspace.open(tmp_path / "w", create=True)
    plan = make_plan(load_recipe(world / "recipe.yaml"))
    run = category.run

    def taken_away(context):
        outcome = run(context)
        space.path.rename(tmp_path / "away")
        context.out.mkdir(parents=True)  # as a stage does that writes one more file
        if fails:
            raise IndexError("rows outside 0..-1")  # a table that is gone
        return outcome

    with monkeypatch.context() as patch, pytest.raises(EmtError, match="taken away"):
        patch.setattr(category, "run", taken_away)
        run_plan(plan, space, until="category", quiet=True)
    assert not space.artifacts("category")
    shutil.rmtree(space.path)
    (tmp_path / "away").rename(space.path)
    assert run_plan(plan, space, until="category", quiet=True)["category"].rows == 72


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ESTALE, "Stale file handle", "/data/x"), "does not answer"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "no permission"),
        (RuntimeError("LanceError(IO): ... (os error 28), src/x.rs"), "the disk is full"),
    ],
)
def test_the_command_line_says_it_in_one_message(
    world: Path, tmp_path: Path, monkeypatch, capfd, error: Exception, says: str
):
    def broken(_):
        raise error

    monkeypatch.setattr(embed, "run", broken)
    command = ["run", str(world / "recipe.yaml"), "-w", str(tmp_path / "w"), "--until", "embed"]
    assert main(command) == 2
    told = capfd.readouterr().err
    assert told.count("error: ") == 1 and says in told and "Traceback" not in told
    place = "/data/x" if isinstance(error, OSError) else str(tmp_path / "w")
    assert f"where:  {place}" in told and "run the same command again" in told
    (job,) = (tmp_path / "w" / "jobs").glob("*/log.txt")
    assert says in job.read_text() and "Traceback" not in job.read_text()


def test_a_video_on_a_full_disk_is_an_error_and_no_crash(tmp_path: Path):
    (tmp_path / "v.mp4").symlink_to("/dev/full")
    video = VideoFile(tmp_path / "v.mp4", fps=10, size=(64, 64), quantizer=20)
    rng = np.random.default_rng(0)
    with pytest.raises(OSError):
        for _ in range(100):
            video.add(rng.integers(0, 255, (64, 64, 3), np.uint8))
    with suppress(OSError):
        video.close()
    video.close()


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        told = pytest.raises(EmtError, match=r"a file lies where a folder is needed[\s\S]*file")
        with told, machine_faults_told(tmp_path):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)


def test_what_is_no_fault_of_the_machine_stays_what_it_is():
    assert machine_fault(ValueError("os errors"), "") is None
    assert machine_fault(EmtError("os error 28"), "") is None
    assert machine_fault(OSError("truncated file"), "") is None


def test_what_killed_exports_left_is_removed_by_the_next_one(whole: Workspace, tmp_path: Path):
    (selection,) = whole.artifacts("select")
    names = (".out.11.partial", ".out.11.old", ".out.12.partial", ".out.x.partial", ".outer.11.old")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    held = os.open(tmp_path / ".out.12.partial", os.O_RDONLY)  # another export at work
    fcntl.flock(held, fcntl.LOCK_EX)
    export_selection(whole, selection, format="llava", out=tmp_path / "out", quiet=True)
    os.close(held)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".out.12.partial", ".out.x.partial", ".outer.11.old", "out"]
