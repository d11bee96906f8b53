"""kill -9 of a tuning and of the VLM's pass over the index: resumed, the same bits. And what twins
share."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_world import small_world
from tiny_models import save_internvl

from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table

pytestmark = pytest.mark.timeout(900)
SETTINGS = {"model": "vlm", "steps": 12, "batch": 2, "action_bins": 16, "learning_rate": 1e-3}
BATCH = 2


def recipe_of(base: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    source = {
        "role": "robot",
        "format": "lerobot",
        "camera": "observation.images.front",
        "frames_per_episode": 4,
    }
    web = {
        "name": "web",
        "role": "pool",
        "format": "llava",
        "path": "world/web/web.json",
        "image_root": "images",
    }
    recipe = {
        "name": "kills",
        "base": str(base),
        "runtime": {"workers": 0, "batch": BATCH},
        "sources": [
            web,
            *({"name": name, "path": f"world/{name}"} | source for name in ("arm", "hand")),
        ],
        "embed": {"encoder": "fake"},
    }
    recipe |= {f"measure.{kind}": {"kind": kind} | SETTINGS for kind in kinds}
    return recipe | {f"score.{kind}": {"sweep_sample": 20} for kind in kinds}


def work(base: str, workspace: str, kinds: tuple[str, ...], commit: float) -> None:
    """What the killed process does: the real stages, with commits and checkpoints after so many
    seconds. How many rows
    went through the VLM is noted in `<workspace>.passed`, a line a batch.

    On one thread: bits depend on how many share a sum, and tests that ran before in this process
    may have changed that.
    """
    import torch

    from emt_core.proximity.perplexity import perplexity, tuning
    from emt_core.stages import score

    score.COMMIT_SECONDS = tuning.SAVE_SECONDS = commit
    threads, losses = torch.get_num_threads(), perplexity.mean_losses

    def noted(vlm, items, pad):
        with Path(f"{workspace}.passed").open("a") as file:
            file.write(f"{len(items)}\n")
        return losses(vlm, items, pad)

    torch.set_num_threads(1)
    perplexity.mean_losses = noted
    try:
        plan = make_plan(build_recipe(recipe_of(Path(base), kinds)))
        run_plan(plan, Workspace.open(workspace, create=True), quiet=True)
    finally:
        torch.set_num_threads(threads)
        perplexity.mean_losses = losses


def passed(workspace: Path) -> int:
    """How many rows `work` sent through the VLM in this workspace."""
    return sum(map(int, Path(f"{workspace}.passed").read_text().split()))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    small_world(folder / "world", pool_rows=48, episodes=4)
    save_internvl(folder / "vlm")
    return folder


@pytest.fixture(scope="module")
def whole(base) -> dict[str, Artifact]:
    """Never killed, nothing shared: each kind in a workspace of its own."""
    made = {}
    for kind in ("perplexity", "delta_perplexity"):
        work(str(base), str(base / kind), (kind,), 1e9)
        space = Workspace.open(base / kind)
        made |= {f"{kind} {stage}": space.artifacts(stage)[0] for stage in ("measure", "score")}
    return made


def bits(score: Artifact) -> np.ndarray:
    return Table(score.data / "scores.lance").column("logit").view(np.uint32)


def weights(measure: Artifact) -> bytes:
    return (measure.data / "tuned" / "model.safetensors").read_bytes()


def test_a_killed_tuning_and_a_killed_pass_go_on_where_they_were(base, whole):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "transformers", "lance", "emt_core.stages.score"])
    folder = base / "killed"
    seen = []
    for stage, pattern, target in (
        ("measure", "data/checkpoints/step-*/checkpoint.json", 1),
        ("score", "data/scores.lance/_versions/*.manifest", 3),
    ):
        child = processes.Process(target=work, args=(str(base), str(folder), ("perplexity",), 0.0))
        child.start()
        while child.is_alive() and len(list(folder.glob(f"{stage}/*.building/{pattern}"))) < target:
            time.sleep(0.002)
        assert child.pid is not None and child.is_alive(), (
            f"it ended with {child.exitcode} before the kill in {stage}"
        )
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        seen.append(sorted(folder.glob(f"{stage}/*.building/{pattern}")))
    assert [len(found) > 0 for found in seen] == [True, True]
    (building,) = folder.glob("score/*.building")
    committed = Table(building / "data" / "scores.lance").rows
    assert 0 < committed < 48 + 32 and committed % BATCH == 0
    before = passed(folder)

    final = processes.Process(target=work, args=(str(base), str(folder), ("perplexity",), 0.0))
    final.start()
    final.join()
    assert final.exitcode == 0
    space = Workspace.open(folder)
    (measure,), (score,) = space.artifacts("measure"), space.artifacts("score")
    assert weights(measure) == weights(whole["perplexity measure"])
    assert (
        measure.metrics == whole["perplexity measure"].metrics
        and not (measure.data / "checkpoints").exists()
    )
    assert (
        np.array_equal(bits(score), bits(whole["perplexity score"]))
        and score.metrics == whole["perplexity score"].metrics
    )
    assert (
        passed(folder) - before == score.rows - committed
    )  # committed rows did not go through the VLM again


def test_twins_share_the_tuning_and_the_pass_and_say_so(base, whole, monkeypatch):
    from emt_core.proximity.perplexity import perplexity

    tuned, tune = [], perplexity.tune
    monkeypatch.setattr(perplexity, "tune", lambda *a: tuned.append(a) or tune(*a))
    space = Workspace.open(base / "both", create=True)
    building = space.building("measure", whole["delta_perplexity measure"].key)
    (building / "data" / "checkpoints" / "step-00000001").mkdir(
        parents=True
    )  # of a tuning of its own that was killed
    work(str(base), str(base / "both"), ("perplexity", "delta_perplexity"), 1e9)
    rows = space.artifacts("sources")[0].rows
    assert len(tuned) == 1 and passed(base / "both") == 2 * rows
    made = {f"{a.config['kind']} measure": a for a in space.artifacts("measure")}
    made |= {f"{a.metrics['kind']} score": a for a in space.artifacts("score")}
    for name, artifact in whole.items():
        assert artifact.key == made[name].key
        same = (
            np.array_equal(bits(artifact), bits(made[name]))
            if "score" in name
            else weights(artifact) == weights(made[name])
        )
        assert same, name
        assert not (made[name].data / "checkpoints").exists()
    for stage in ("measure", "score"):
        one, other = made[f"perplexity {stage}"], made[f"delta_perplexity {stage}"]
        assert "shared" not in one.metrics
        assert other.metrics["shared"] == {"artifact": one.key, "seconds": one.manifest["seconds"]}
    assert made["delta_perplexity score"].metrics["heldout"] is None


@pytest.mark.slow
def test_three_workers_of_which_one_is_killed_give_the_scores_of_one_process(base, whole):
    """The same artifacts but for the score, which is made anew."""
    folder = base / "workers"
    shutil.copytree(base / "perplexity", folder)
    shutil.rmtree(folder / "score")
    recipe = base / "workers.json"  # JSON is YAML
    recipe.write_text(json.dumps(recipe_of(base, ("perplexity",))))
    command = [sys.executable, "-m", "emt_core.cli", "run", str(recipe), "-w", str(folder)]
    settings = ["runtime.processes=3", f"runtime.commit_rows={4 * BATCH}"]
    run = subprocess.Popen(
        [*command, *(word for setting in settings for word in ("--set", setting))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while run.poll() is None and not list(folder.glob("score/*.building/data/shards/*.json")):
        time.sleep(0.002)
    (workers,) = folder.glob("score/*.building/data/workers")
    states = [json.loads(path.read_text()) for path in workers.glob("[0-9].json")]
    os.kill(states[0]["pid"], signal.SIGKILL)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert "shards by 3 processes" in said
    (score,) = Workspace.open(folder).artifacts("score")
    assert score.key == whole["perplexity score"].key
    assert np.array_equal(bits(score), bits(whole["perplexity score"]))
    assert score.metrics == whole["perplexity score"].metrics
    assert not (score.data / "shards").exists() and not (score.data / "workers").exists()
