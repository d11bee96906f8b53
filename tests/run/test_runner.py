"""Real runs of a small recipe: resume, share, refuse, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.explore.tables.headline import headline
from emt_core.recipe.recipe import load_recipe
from emt_core.run.edits import add_map, add_selection, change_settings
from emt_core.run.meter import Meter
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.run.status import plan_status
from emt_core.workspace import lineage
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import Lineage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("runs") / "w", create=True)
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), workspace, quiet=True)
    return workspace


def manifests(workspace: Workspace) -> dict[str, float]:
    return {
        str(p.relative_to(workspace.path)): p.stat().st_mtime_ns
        for p in workspace.path.glob("*/*/manifest.json")
    }


def states(workspace: Workspace, recipe: Path, *changes: str) -> dict[str, str]:
    return {
        s.label: s.state for s in plan_status(make_plan(load_recipe(recipe, changes)), workspace)
    }


def test_a_recipe_runs_from_sources_to_select(world, finished):
    assert set(states(finished, world / "recipe.yaml").values()) == {"done"}
    manifest = next(iter(finished.artifacts("select"))).manifest
    assert manifest["rows"] == 20 or manifest["metrics"]["selected"] == 20
    assert manifest["peak_memory_mb"] > manifest["memory_added_mb"] >= 0 and manifest["seconds"] > 0
    assert set(manifest["parents"]) == {"sources", "embed", "category", "score"}


def test_every_finished_stage_has_its_headline(finished):
    for stage in ("sources", "embed", "estimator", "select"):
        found = headline(stage, finished.artifacts(stage)[0].metrics)
        assert any(sign.isdigit() for sign in found), stage


def test_running_again_makes_nothing(world, finished):
    before = manifests(finished)
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), finished, quiet=True)
    assert manifests(finished) == before


def test_arms_share_their_parents_and_each_runs_once(world, finished):
    before = manifests(finished)
    arms = ["arms={learned: {}, random: {select.top.strategy: random}}", "seeds=[0, 1]"]
    made = run_plan(make_plan(load_recipe(world / "recipe.yaml", arms)), finished, quiet=True)
    new = set(manifests(finished)) - set(before)
    # learned/0 is what is finished; seed 1 trains an estimator of its own, which both arms share
    stages = Counter(name.split("/")[0] for name in new)
    assert stages == {"estimator": 1, "score": 1, "select": 3}
    assert {name: at for name, at in manifests(finished).items() if name in before} == before
    assert made["select.top@learned/0"].key != made["select.top@random/0"].key


def test_until_runs_what_the_goal_needs_and_no_more(world, tmp_path):
    workspace = Workspace.open(tmp_path / "w", create=True)
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), workspace, until="category", quiet=True)
    assert {path.split("/")[0] for path in manifests(workspace)} == {"sources", "category"}


def test_from_refuses_where_something_before_is_missing(world, tmp_path):
    workspace = Workspace.open(tmp_path / "w", create=True)
    with pytest.raises(EmtError, match="--from score"):
        run_plan(
            make_plan(load_recipe(world / "recipe.yaml")), workspace, start="score", quiet=True
        )
    with pytest.raises(EmtError, match="no stage"):
        run_plan(
            make_plan(load_recipe(world / "recipe.yaml")), workspace, start="scoer", quiet=True
        )


def test_what_was_saved_in_the_app_outlives_a_run_of_the_original_and_nothing_else_does(
    world, finished
):
    kept = finished.path / "recipes" / "small.yaml"
    done = lineage.finished(finished, "small")
    chain = Lineage(**{stage: done[stage] for stage in ("sources", "embed", "category", "score")})
    add_selection(finished, "small", "mine", {"k": 4}, chain, done)
    add_map(
        finished, "small", "near", {"sample_per_source": 50}, done["embed"], done["sources"], done
    )
    kept.write_text(
        kept.read_text() + "select.once: {k: 3}\n"
    )  # was in the original, and its owner took it out
    plan = make_plan(load_recipe(world / "recipe.yaml"))
    for _ in range(2):
        run_plan(plan, finished, until="sources", quiet=True)
        labels = [instance.label for instance in load_recipe(kept).instances]
        assert set(labels) - set(load_recipe(world / "recipe.yaml").raw) == {
            "select.mine",
            "gap.near",
        }
    make_plan(load_recipe(kept))


def test_what_the_app_changes_while_a_job_starts_stays(world, tmp_path):
    workspace = Workspace.open(tmp_path / "w", create=True)
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), workspace, until="sources", quiet=True)
    kept = workspace.path / "recipes" / "small.yaml"
    planned = make_plan(load_recipe(kept))
    change_settings(workspace, "small", "estimator", {"steps": 9})
    os.utime(kept, (1, 1))
    run_plan(planned, workspace, until="sources", quiet=True)
    assert load_recipe(kept).raw["estimator"]["steps"] == 9
    assert kept.stat().st_mtime > 1, "the recipe that ran last leads the app's list"
    planned = make_plan(load_recipe(kept, ["select.top.k=6"]))
    change_settings(workspace, "small", "estimator", {"steps": 8})
    run_plan(planned, workspace, until="sources", quiet=True)
    raw = load_recipe(kept).raw
    assert (raw["estimator"]["steps"], raw["select.top"]["k"]) == (8, 6)


def test_status_tells_missing_stale_and_failed_apart(world, finished, tmp_path):
    found = states(finished, world / "recipe.yaml", "estimator.steps=7", "select.new={k: 3}")
    assert found["embed"] == "done"
    assert (found["estimator"], found["score"], found["select.top"]) == ("stale", "stale", "stale")
    assert found["select.new"] == "missing"
    with pytest.raises(EmtError):
        changes = ["select.top.caps={category: {nobody: 3}}"]
        run_plan(make_plan(load_recipe(world / "recipe.yaml", changes)), finished, quiet=True)
    after = plan_status(make_plan(load_recipe(world / "recipe.yaml", changes)), finished)
    failed = next(s for s in after if s.label == "select.top")
    assert failed.state == "failed" and "nobody" in failed.message
    run_plan(make_plan(load_recipe(world / "recipe.yaml")), finished, quiet=True)
    assert states(finished, world / "recipe.yaml")["select.top"] == "done"


def test_a_commit_that_was_cut_off_is_finished_and_nothing_is_made_again(
    world, tmp_path, monkeypatch
):
    workspace = Workspace.open(tmp_path / "w", create=True)
    plan = make_plan(load_recipe(world / "recipe.yaml"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run_plan(plan, workspace, until="sources", quiet=True)
    assert not workspace.artifacts("sources")
    monkeypatch.setattr("emt_core.stages.sources.run", None)
    assert run_plan(plan, workspace, until="sources", quiet=True)["sources"].rows > 0


def test_a_folder_in_the_artifacts_place_is_refused_before_any_work(world, tmp_path, monkeypatch):
    workspace = Workspace.open(tmp_path / "w", create=True)
    plan = make_plan(load_recipe(world / "recipe.yaml"))
    (workspace.folder("sources", plan.get("sources").key) / "data").mkdir(parents=True)
    monkeypatch.setattr("emt_core.stages.sources.run", None)
    with pytest.raises(EmtError, match="no manifest") as caught:
        run_plan(plan, workspace, until="sources", quiet=True)
    assert "move it away" in caught.value.remedy


def test_two_processes_on_one_workspace_do_the_work_once(world, tmp_path):
    command = [
        sys.executable,
        "-m",
        "emt_core.cli",
        "run",
        str(world / "recipe.yaml"),
        "-w",
        str(tmp_path / "w"),
    ]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    workspace = Workspace.open(tmp_path / "w")
    assert len(workspace.artifacts("embed")) == len(workspace.artifacts("select")) == 1
    assert sum(text.count("done:") for text in said) == 7


def test_command_line_ends_with_code_2_and_one_message(world, tmp_path):
    command = [
        sys.executable,
        "-m",
        "emt_core.cli",
        "run",
        str(world / "recipe.yaml"),
        "-w",
        str(tmp_path / "w"),
    ]
    done = subprocess.run([*command, "--set", "select.top.kk=5"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "select.top.kk" in done.stderr and "Traceback" not in done.stderr


def test_status_prints_json_for_scripts(world, finished):
    command = [
        sys.executable,
        "-m",
        "emt_core.cli",
        "status",
        "-w",
        str(finished.path),
        "--json",
    ]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {entry["label"] for entry in found["small"]} >= {"sources", "embed", "score"}


def test_memory_added_is_the_stages_own_whatever_the_process_held_before(tmp_path):
    before = bytearray(os.urandom(1024) * 200 * 1024)  # 200 MB held from start to end
    with Meter(tmp_path / "elapsed.json") as meter:
        mine = bytearray(os.urandom(1024) * 120 * 1024)
        time.sleep(3 * Meter.EVERY_S)
        del mine
    assert len(before) < meter.peak_mb * 2**20
    assert 100 < meter.added_mb < 300
    with Meter(tmp_path / "other.json") as idle:
        pass
    assert 0 <= idle.added_mb < 50
