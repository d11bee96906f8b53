"""Several at once on one workspace: the same recipe twice, another one, and a job from the app."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from same_work import differences
from small_world import small_world

from emt_core.recipe.recipe import load_recipe
from emt_core.run.jobs import launch, list_jobs
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Workspace

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(600)
def test_each_artifact_is_made_once_with_the_bits_of_a_run_alone(tmp_path: Path):
    recipe = small_world(tmp_path / "world", pool_rows=40, episodes=4) / "recipe.yaml"
    alone = Workspace.open(tmp_path / "alone", create=True)
    run_plan(make_plan(load_recipe(recipe)), alone, until="select", quiet=True)
    space = Workspace.open(tmp_path / "shared", create=True)
    command = [sys.executable, "-m", "emt_core.cli", "run", str(recipe), "-w", str(space.path)]
    command += ["--until", "select"]
    started = [
        subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for line in (command, command, [*command, "--set", "estimator.steps=70"])
    ]
    job = launch(space, recipe, until="score", title="From the app")
    said = [process.communicate(timeout=500)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    while job.active:
        time.sleep(0.1)
    assert job.state == "done", job.log_tail()
    said.append(job.log_tail())
    made = [line.split()[-1] for text in said for line in text.splitlines() if " done: " in line]
    assert len(made) == len(set(made)) == 9  # six of the recipe, three with other steps
    assert not any("Traceback" in text or "error: " in text for text in said)
    assert {one.state for one in list_jobs(space)} == {"done"}
    found = differences(alone.path, space.path)
    assert [one for one in found if one["lost"] or one["different"]] == []
    assert sorted(one["stage"] for one in found) == ["estimator", "score", "select"]
