"""midtrain as a stage on a small selection and a tiny VLM: what it leaves, faults, kill and
resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from event_files import scalars
from precision import auto_is
from small_world import small_world, turns
from tiny_models import save_internvl
from two_ranks import torchrun

from emt_core.errors import EmtError
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.checkpoints import Checkpoints
from emt_core.training.midtrain.loop import Trainer
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace

pytestmark = pytest.mark.timeout(900)

RECIPE = """
name: train
backbone: tiny
runtime: {workers: 0, commit_rows: 64, batch: 3}
sources: [{name: web, role: pool, format: llava, path: web/web.json, image_root: images}]
embed: {encoder: fake}
category: {}
select: {strategy: random, k: 40, include_text_only: true}
midtrain: {steps: 7, batch: 6, cutoff: 160, learning_rate: 0.01, max_images: 2}
"""
SLOWLY = """
import sys, time
from emt_core.training.midtrain import session
from emt_core.training.midtrain.loop import Trainer
session.CHECKPOINT_SECONDS = 0.0
step = Trainer._step
def paced(self, number, *rest):
    if number > 4:
        time.sleep(600)  # killed here, with checkpoints behind it and a step under way
    return step(self, number, *rest)
Trainer._step = paced
from emt_core.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("world"), episodes=2, pool_rows=40)
    entries = json.loads((folder / "web/web.json").read_text())
    entries[11]["conversations"][0]["value"] = (
        "<image>\n" + "Why is that? " * 20
    )  # leaves no room for an answer
    entries[13] = {"id": "silent", "conversations": turns(("", "Red."), image=False)}
    (folder / "web/web.json").write_text(json.dumps(entries))
    save_internvl(folder / "tiny")
    (folder / "train.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def ws(world: Path) -> Workspace:
    return Workspace.open(world / "ws", create=True)


def midtrain(world: Path, ws: Workspace, *overrides: str) -> Artifact:
    plan = make_plan(load_recipe(world / "train.yaml", overrides))
    return run_plan(plan, ws, until="midtrain", quiet=True)["midtrain"]


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def trained(world: Path, ws: Workspace) -> Artifact:
    return midtrain(world, ws)


def test_what_it_leaves(trained: Artifact, world: Path):
    from emt_core.models.vlm.load import load_processor, load_vlm

    steps = list(iterate_steps(trained.data / "steps.jsonl"))
    assert [record["step"] for record in steps] == list(range(1, 8))
    assert (
        steps[-1]["loss"] < steps[0]["loss"] - 1
    )  # from random weights it learns at once to end a turn
    for name in ("tokens", "samples", "seconds"):
        values = [record[name] for record in steps]
        assert values == sorted(values) and values[0] > 0
    rejects = [
        json.loads(line) for line in (trained.data / "rejects.jsonl").read_text().splitlines()
    ]
    named = {"web:7": "too_many_images", "web:11": "no_supervised_token", "web:13": "no_question"}
    assert {r["id"]: r["reason"] for r in rejects} == named
    assert trained.metrics["rejects"] == dict.fromkeys(sorted(named.values()), 1)
    # 40 samples, 42 places: two of them come a second time
    assert 7 * 6 - len(rejects) - 2 <= steps[-1]["samples"] <= 7 * 6 - len(rejects)
    assert load_processor(trained.data / "model").chat_template
    after, before = load_vlm(trained.data / "model"), load_vlm(world / "tiny")
    changed = [
        name
        for (name, a), b in zip(after.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        assert any(part in name for name in changed), f"{part} was not trained"
    assert not (trained.data / "checkpoints").exists()
    assert trained.metrics["parameters"]["trained"] == trained.metrics["parameters"]["all"]
    assert str(world) not in json.dumps(trained.manifest["identity"])


def test_a_killed_run_goes_on_to_the_same_weights(
    world: Path, trained: Artifact, monkeypatch: pytest.MonkeyPatch
):
    other = Workspace.open(world / "killed", create=True)
    command = [
        sys.executable,
        "-c",
        SLOWLY,
        "midtrain",
        str(world / "train.yaml"),
        "-w",
        str(other.path),
        "--set=runtime.report_to=[tensorboard]",
    ]
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    building = other.building("midtrain", trained.key) / "data" / "checkpoints"
    try:
        while process.poll() is None:
            kept = Checkpoints(building).latest()
            if kept is not None and kept.step == 4:
                break
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = Checkpoints(building).latest()
    assert newest is not None and newest.step == 4
    file = newest.path / "model.safetensors"
    file.write_bytes(
        file.read_bytes()[:-8]
    )  # the machine went down while it was written: step 3 has to do
    auto_is(monkeypatch, torch.bfloat16)  # it was begun in float32
    resumed = midtrain(world, other, "runtime.report_to=[tensorboard]")
    curves = scalars(other.path / "tracking/tensorboard/midtrain" / f"midtrain-{trained.key}")
    assert [step for step, _ in curves["loss"]] == list(range(1, 8))
    assert resumed.key == trained.key and resumed.metrics["dtype"] == "float32"
    assert [r["step"] for r in iterate_steps(resumed.data / "steps.jsonl")] == list(range(1, 8))
    ours, theirs = weights(resumed.data / "model"), weights(trained.data / "model")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_frozen_parts_stay(world: Path, ws: Workspace):
    done = midtrain(world, ws, "midtrain.freeze=[vision, projector]", "midtrain.steps=2")
    after, before = weights(done.data / "model"), weights(world / "tiny")
    for name, value in after.items():
        if "language_model" not in name and "lm_head" not in name:
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_what_becomes_nan_stops_with_step_and_batch(
    world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
):
    from emt_core.training.midtrain.loss import SupervisedLoss

    forward = SupervisedLoss.forward
    calls = []

    def breaks(self, inputs, labels):
        calls.append(1)
        return forward(self, inputs, labels) * (float("nan") if len(calls) > 4 else 1)

    monkeypatch.setattr(SupervisedLoss, "forward", breaks)
    with pytest.raises(EmtError, match="loss became nan at step 3") as caught:
        midtrain(world, ws, "midtrain.seed=5")
    assert "web:" in caught.value.where and "step 2 is kept" in caught.value.remedy
    monkeypatch.undo()
    begun = []
    step = Trainer._step
    monkeypatch.setattr(
        Trainer, "_step", lambda self, n, *rest: begun.append(n) or step(self, n, *rest)
    )
    done = midtrain(world, ws, "midtrain.seed=5")
    assert begun[0] == 3
    assert len(list(iterate_steps(done.data / "steps.jsonl"))) == 7


def test_memory_that_runs_out_halves_the_pass_and_changes_nothing_else(
    world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
):
    from emt_core.training.midtrain.loss import SupervisedLoss

    forward = SupervisedLoss.forward

    def bounded(self, inputs, labels):
        if len(labels) > 2:
            raise RuntimeError("out of memory")
        return forward(self, inputs, labels)

    monkeypatch.setattr(SupervisedLoss, "forward", bounded)
    small = midtrain(world, ws, "midtrain.seed=6", "midtrain.steps=2", "runtime.batch=6")
    assert small.metrics["micro_batch"] == 1
    monkeypatch.undo()
    other = Workspace.open(world / "whole", create=True)
    whole = midtrain(world, other, "midtrain.seed=6", "midtrain.steps=2", "runtime.batch=6")
    assert whole.metrics["micro_batch"] == 6 and whole.key == small.key
    assert whole.metrics["last_loss"] == pytest.approx(small.metrics["last_loss"], rel=1e-4)


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(
    world: Path, tmp_path: Path, capsys, monkeypatch
):
    from emt_core.cli.__main__ import main

    monkeypatch.chdir(tmp_path)
    recipe = str(world / "train.yaml")
    assert main(["midtrain", recipe, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert (
        "160 tokens, " in said
        and "2 passes of 3" in said
        and "set by runtime.batch; 6 are expected" in said
    )
    lines = [line.split() for line in said.splitlines()]
    taken = [float(line[1]) for line in lines if line[0] in ("expected", "measured")]
    assert len(taken) == 2 and min(taken) > 0
    assert list(tmp_path.iterdir()) == []
    assert main(["midtrain", recipe]) == 2  # a run needs a folder
    capsys.readouterr()
    assert main(["midtrain", recipe, "--dry-run", "--set", "midtrain.cutoff=16"]) == 2
    said = capsys.readouterr().err
    assert (
        "midtrain.cutoff" in said and "no word of the assistant" in said and "larger cutoff" in said
    )


def test_the_pass_is_as_large_as_memory_allows_where_the_recipe_leaves_it_open(
    world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
):
    from emt_core.training.midtrain import fit

    (world / "open.yaml").write_text(RECIPE.replace(", batch: 3", ""))

    def started(seed: int) -> Artifact:
        plan = make_plan(
            load_recipe(world / "open.yaml", (f"midtrain.seed={seed}", "midtrain.steps=2"))
        )
        return run_plan(plan, ws, until="midtrain", quiet=True)["midtrain"]

    assert started(20).metrics["micro_batch"] == 6
    fit_of = fit.fit_of
    step = Trainer._step
    sizes = []

    def tight(*arguments: Any) -> Any:
        fit = fit_of(*arguments)
        assert (
            fit.available > fit.expected.total(6) > fit.expected.total(2) > fit.expected.fixed > 0
        )
        sizes.append(1)
        return replace(fit, available=int(fit.expected.total(2) / 0.9) + 2)

    def breaks(self: Trainer, number: int, batches: Any, before_failure: Any) -> Any:
        if number == 2:
            before_failure(1)
            raise EmtError("on purpose")
        return step(self, number, batches, before_failure)

    monkeypatch.setattr(fit, "fit_of", tight)
    monkeypatch.setattr(Trainer, "_step", breaks)
    with pytest.raises(EmtError, match="on purpose"):
        started(21)
    # there is room again, but what was begun goes on as it was: another pass rounds otherwise
    monkeypatch.undo()
    assert started(21).metrics["micro_batch"] == 2 and sizes == [1]


def test_options_without_their_package_say_so(
    world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
):
    for package, setting in (("bitsandbytes", "optimizer=adamw_8bit"), ("peft", "update=lora")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.optim", None)
        with pytest.raises(EmtError, match=package):
            midtrain(world, ws, f"midtrain.{setting}")


def test_a_selection_of_another_pool_is_refused(trained: Artifact, ws: Workspace):
    from types import SimpleNamespace

    from emt_core.stages.midtrain import selected_rows

    parents = ws.parents(trained)
    foreign = Artifact(parents["sources"].path)
    foreign.__dict__["manifest"] = {**parents["sources"].manifest, "key": "another"}
    with pytest.raises(EmtError, match="another pool"):
        selected_rows(SimpleNamespace(parents={**parents, "sources": foreign}))  # type: ignore[arg-type]


SUBMITTED = ("engine=slurm", "slurm.cluster=local", "slurm.gpus=0")


@pytest.mark.parametrize("engine", [(), pytest.param(SUBMITTED, marks=pytest.mark.slow)])
def test_two_ranks_train_one_model(world: Path, trained: Artifact, tmp_path, engine):
    other = Workspace.open(tmp_path / "ranks", create=True)
    command = [sys.executable, "-m", "emt_core.cli", "midtrain", str(world / "train.yaml")]
    command += ["-w", str(other.path)]
    for setting in ("device=cpu", "training_processes=2", *engine):
        command += ["--set", f"runtime.{setting}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (job,) = (other.path / "jobs").glob("[0-9]*")  # the launched ones are no jobs
    states = json.loads((job / "progress.json").read_text())["instances"]
    assert {entry["stage"]: entry["state"] for entry in states}["midtrain"] == "made"
    (artifact,) = other.artifacts("midtrain")
    assert artifact.key == trained.key and artifact.metrics["devices"] == 2
    ours, theirs = (
        list(iterate_steps(artifact.data / "steps.jsonl")),
        list(iterate_steps(trained.data / "steps.jsonl")),
    )
    assert [r["samples"] for r in ours] == [r["samples"] for r in theirs]
    assert [r["loss"] for r in ours] == pytest.approx([r["loss"] for r in theirs], rel=2e-2)
    # AdamW hides a gradient of the wrong scale, its norm does not
    assert [r["grad_norm"] for r in ours] == pytest.approx(
        [r["grad_norm"] for r in theirs], rel=1e-3
    )
    assert all(torch.isfinite(value).all() for value in weights(artifact.data / "model").values())


@pytest.mark.slow
@pytest.mark.parametrize("update", ["full", "lora"])
def test_two_sharded_ranks_stopped_and_resumed_train_the_model_of_one(
    world: Path, ws: Workspace, update: str
):
    """FSDP for real: every parameter is spread, a checkpoint of shards resumes, the model loads."""
    from emt_core.models.vlm.load import load_vlm

    gently = ("midtrain.learning_rate=0.0001", f"midtrain.update={update}")
    expected = midtrain(world, ws, *gently)
    other = Workspace.open(world / f"sharded-{update}", create=True)
    command = ["-m", "sharded_ranks", "midtrain", str(world / "train.yaml"), "-w", str(other.path)]
    for setting in (*gently, "runtime.device=cpu", "runtime.sharding=fsdp"):
        command += ["--set", setting]
    stopped = torchrun(*command, STOP_AT="5")
    assert "exitcode  : 9" in stopped.stderr, stopped.stderr[-3000:]
    (building,) = (other.path / "midtrain").rglob("checkpoints")
    assert [item.step for item in Checkpoints(building).all()] == [3, 4]
    done = torchrun(*command, STOP_AT="0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "from step 4" in " ".join(done.stderr.split())
    (artifact,) = other.artifacts("midtrain")
    assert artifact.key == expected.key
    ours = list(iterate_steps(artifact.data / "steps.jsonl"))
    theirs = list(iterate_steps(expected.data / "steps.jsonl"))
    for name in ("loss", "grad_norm", "samples", "tokens"):
        assert [r[name] for r in ours] == pytest.approx([r[name] for r in theirs], rel=1e-3), name
    origin = dict(load_vlm(world / "tiny").named_parameters())
    one = dict(load_vlm(expected.data / "model").named_parameters())
    for name, value in load_vlm(artifact.data / "model").named_parameters():
        moved = (one[name] - origin[name]).norm()
        assert (value - one[name]).norm() <= 0.05 * moved, name


def test_zero_is_refused_and_never_replaced(world: Path, ws: Workspace):
    with pytest.raises(EmtError, match="DeepSpeed's ZeRO needs deepspeed, which is not installed"):
        midtrain(world, ws, "runtime.sharding=zero3", "midtrain.seed=98")


def test_one_process_has_nothing_to_shard(world: Path, ws: Workspace):
    with pytest.raises(EmtError, match="nothing to shard"):
        midtrain(world, ws, "runtime.sharding=fsdp", "midtrain.seed=99")
    assert "ACCELERATE_USE_FSDP" not in os.environ
