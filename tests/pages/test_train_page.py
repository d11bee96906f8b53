"""The Train page over runs that are finished, at work, interrupted, resumed; and nothing at all."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_runner import metrics, words

from emt_core.explore.figures import curves
from emt_core.explore.tables.train import (
    GrowingSteps,
    at_work,
    kept_states,
    smoothed,
    training_runs,
    with_rates,
)
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_json


def lines(steps: int, *, begin: int = 1, **more: float) -> str:
    rows = [
        {
            "step": step,
            "loss": 4.0 / step + 0.5,
            "learning_rate": 1e-4 / step,
            "grad_norm": 1.0,
            "samples": 8 * step,
            "tokens": 800 * step,
            "seconds": 0.5 * step,
            "memory_mb": 300.0,
            **more,
        }
        for step in range(begin, steps + 1)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def finished(
    space: Workspace, stage: str, key: str, label: str, steps: str, **files: object
) -> None:
    data = space.building(stage, key) / "data"
    data.mkdir(parents=True)
    (data / "steps.jsonl").write_text(steps)
    for name, content in files.items():
        write_json(data / f"{name}.json", content)
    manifest = {
        "stage": stage,
        "key": key,
        "labels": [label],
        "recipe": "r",
        "config": {"steps": 40},
        "parents": {},
    }
    manifest |= {
        "rows": 10,
        "metrics": {},
        "finished": time.time(),
        "started": 0.0,
        "seconds": 20.0,
    }
    space.commit(stage, key, manifest)


def being_built(space: Workspace, key: str, label: str, steps: str, *, at: float) -> Path:
    folder = space.building(label.partition(".")[0], key)
    checkpoint = folder / "data" / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"x" * 3_000_000)
    (folder / "data" / "steps.jsonl").write_text(steps)
    write_json(
        folder / "progress.json",
        {"label": label, "unit": "steps", "total": 100, "done": 10, "at": at},
    )
    return folder


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    space = Workspace.open(tmp_path / "ws", create=True)
    (space.path / "recipes").mkdir()
    (space.path / "recipes" / "r.yaml").write_text("name: r\nmidtrain: {}\n")
    finished(space, "midtrain", "a" * 16, "midtrain.learned", lines(40))
    finished(space, "midtrain", "b" * 16, "midtrain.random", lines(40))
    finished(space, "finetune", "c" * 16, "finetune", lines(30, loss_arm=0.2, loss_gripper=0.6))
    facts = {
        "n": 20,
        "origin": {"rate": 0.5, "low": 0.3, "high": 0.7},
        "midtrained": {"rate": 0.6, "low": 0.4, "high": 0.8},
    }
    results = {"demo": {"all": facts, "<b>count</b>": facts}}
    finished(space, "retain", "d" * 16, "retain", "", results=results)
    keys = {
        "midtrain.learned": "a" * 16,
        "midtrain.random": "b" * 16,
        "finetune": "c" * 16,
        "retain": "d" * 16,
    }
    write_json(space.path / "state" / "r.json", keys)
    return space


def test_nothing_trained_says_what_it_takes(open_page, empty, tmp_path: Path):
    app = open_page("train", empty)
    assert not app.exception
    assert "This workspace is empty" in words(app)
    space = Workspace.open(tmp_path / "planned", create=True)
    (space.path / "recipes").mkdir()
    (space.path / "recipes" / "r.yaml").write_text("name: r\nmidtrain.a: {}\n")
    app = open_page("train", space.path)
    assert not app.exception
    assert "Nothing has been trained yet" in words(app)
    assert "--until midtrain" in words(app)
    assert "Run up to midtrain" in [button.label for button in app.button]
    (space.path / "recipes" / "below.yaml").write_text("finetune.b: {}\n")
    (space.path / "recipes" / "r.yaml").write_text("name: r\nextends: below.yaml\n")
    labels = [button.label for button in open_page("train", space.path).button]
    assert "Run up to finetune" in labels and "Run up to midtrain" not in labels


def test_finished_runs_are_compared(open_page, space: Workspace):
    app = open_page("train", space.path)
    app.segmented_control(key="training-stage").set_value("midtrain").run()
    assert not app.exception
    assert not app.error
    assert set(app.multiselect(key="runs").options) == {"midtrain.random", "midtrain.learned"}
    found = metrics(app)
    assert (
        found["Step"] == "40"
        and found["Samples seen"] == "320"
        and found["Samples per second"] == "16.0"
    )
    assert "What the VLM retains" in words(app)
    assert "not measured here" in words(app)
    app.slider(key="smoothing").set_value(0.0).run()
    app.segmented_control(key="over").set_value("Hours").run()
    assert not app.exception


def test_an_experiment_begins_with_the_newest_run_of_each_arm(open_page, space: Workspace):
    labels = [f"finetune@{arm}/{seed}" for arm in ("none", "random", "learned") for seed in (0, 1)]
    for number, label in enumerate(labels):
        finished(space, "finetune", f"{number}" * 16, label, lines(30))
    write_json(
        space.path / "state" / "r.json",
        {label: f"{number}" * 16 for number, label in enumerate(labels)},
    )
    app = open_page("train", space.path)
    assert not app.exception
    assert app.multiselect(key="runs").value == [
        "finetune@learned/1",
        "finetune@random/1",
        "finetune@none/1",
    ]
    assert set(app.multiselect(key="runs").options) == {*labels, "finetune"}


def test_a_run_at_work_is_shown_with_its_time_left(open_page, space: Workspace):
    folder = being_built(
        space, "e" * 16, "midtrain.long", lines(20) + '{"step": 21, "lo', at=time.time()
    )
    runs = training_runs(space, {})
    assert runs[0].building and at_work(runs[0]) and runs[0].total == 100
    (kept,) = kept_states(runs[0])
    assert (kept.kind, kept.step, kept.bytes) == ("checkpoint", 10, 3_000_000)
    app = open_page("train", space.path)
    assert not app.exception
    found = metrics(app)
    assert found["Step"] == "20 / 100" and found["Time left"] == "0:40"
    write_json(
        folder / "progress.json",
        {"label": "midtrain.long", "unit": "steps", "total": 100, "at": 1.0},
    )
    app = open_page("train", space.path)
    assert "continues from the last checkpoint" in words(app)


@pytest.mark.parametrize(
    ("kind", "loss"), [("binary", " (cross-entropy)"), ("continuous", " (Huber)"), ("", "")]
)
def test_fine_tuning_shows_its_two_losses_by_name(
    open_page, space: Workspace, kind: str, loss: str
):
    path = space.folder("finetune", "c" * 16) / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(
        path, manifest | {"config": {"steps": 40, "action": {"gripper_kind": kind} if kind else {}}}
    )
    app = open_page("train", space.path)
    app.segmented_control(key="training-stage").set_value("finetune").run()
    assert not app.exception
    titles = [header.value for header in app.subheader]
    assert "Arm loss (Huber)" in titles and f"Gripper loss{loss}" in titles


def test_action_dimensions_that_never_move_are_named(open_page, space: Workspace):
    path = space.folder("finetune", "c" * 16) / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"metrics": {"action": {"still": ["roll", "grip_1"]}}})
    app = open_page("train", space.path)
    app.segmented_control(key="training-stage").set_value("finetune").run()
    assert not app.exception
    assert "roll, grip\\_1" in words(app) and "nothing is learned" in words(app)


@pytest.mark.parametrize(
    ("kind", "loss"), [("binary", " (cross-entropy)"), ("continuous", " (Huber)")]
)
def test_a_fine_tuning_at_work_has_the_gripper_of_its_recipe(
    open_page, space: Workspace, kind: str, loss: str
):
    (space.path / "recipes" / "r.yaml").write_text(
        "name: r\nbackbone: some/vlm\nfinetune:\n"
        "  data: [{name: arm, path: nowhere, camera: observation.images.front}]\n"
        f"  action: {{gripper_kind: {kind}}}\n"
    )
    being_built(
        space, "e" * 16, "finetune.long", lines(20, loss_arm=0.2, loss_gripper=0.6), at=time.time()
    )
    app = open_page("train", space.path)
    app.segmented_control(key="training-stage").set_value("finetune").run()
    app.multiselect(key="runs").set_value(["finetune.long"]).run()
    assert not app.exception
    assert f"Gripper loss{loss}" in [header.value for header in app.subheader]


def test_growing_steps_reads_what_was_added_and_sees_a_resumed_run(tmp_path: Path):
    path = tmp_path / "steps.jsonl"
    steps = GrowingSteps(path)
    assert len(steps.read()) == 0
    path.write_text(lines(5) + '{"step": 6')
    assert steps.read()["step"].tolist() == [1, 2, 3, 4, 5]
    with path.open("a") as file:
        file.write(', "loss": null}\n' + lines(7, begin=7))
    frame = steps.read()
    assert frame["step"].tolist() == [1, 2, 3, 4, 5, 6, 7] and np.isnan(frame["loss"][5])
    aside = tmp_path / "aside"
    aside.write_text(lines(3))
    aside.replace(path)  # as StepsLog does on resuming
    assert steps.read()["step"].tolist() == [1, 2, 3]


def test_growing_steps_are_shared_by_viewers_who_look_at_once(tmp_path: Path):
    path = tmp_path / "steps.jsonl"
    path.write_text(lines(2_000))
    for _ in range(10):
        steps, together = GrowingSteps(path), threading.Barrier(8)

        def look(steps: GrowingSteps = steps, together: threading.Barrier = together) -> list[int]:
            together.wait()
            return steps.read()["step"].tolist()

        with ThreadPoolExecutor(8) as viewers:
            for seen in [viewers.submit(look) for _ in range(8)]:
                assert seen.result() == list(range(1, 2_001))


def test_smoothing_and_rates():
    values = np.array([1.0, np.nan, 3.0, 5.0])
    assert smoothed(values, 0.0)[[0, 2, 3]].tolist() == [1.0, 3.0, 5.0]
    even = smoothed(np.full(50, 2.0), 0.9)
    assert np.allclose(even, 2.0), "the beginning is not pulled to 0"
    assert smoothed(values, 0.5)[3] == pytest.approx(
        (0.125 + 0.75 + 2.5) / (0.125 + 0.25 + 0.5), rel=1e-9
    )
    frame = with_rates(pd.DataFrame({"samples": [8, 16, 40], "seconds": [1.0, 2.0, 4.0]}), window=1)
    assert frame["samples_per_second"].tolist() == [8.0, 8.0, 12.0]


def test_a_curve_draws_a_bounded_number_of_points():
    y = np.random.default_rng(0).normal(size=50_000)
    line = curves.Line(
        name="<b>run</b>", color="#3A6EA5", x=np.arange(50_000.0), y=y, shown=smoothed(y, 0.9)
    )
    figure = curves.curve([line, line], x="step", y="loss", logarithmic=True)
    assert all(len(trace.x) <= curves.MOST_POINTS for trace in figure.data)
    assert figure.data[0].x[-1] == 49_999
    assert "<b>" not in figure.to_json()
