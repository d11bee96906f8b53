"""The Results page over hand-made evaluations, a real tiny one, and nothing at all."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from dot_policy import DotPolicy
from evaluate_world import evaluated, experiment, recorded
from page_runner import metrics, words

from emt_core.evaluation.comparison.arms import arms_of
from emt_core.evaluation.comparison.runs import runs_of
from emt_core.explore import numbers
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.stages import evaluate
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_json
from emt_core.workspace.lineage import finished

PAPER = "reported in the paper, not measured here"


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return experiment(tmp_path_factory.mktemp("results") / "ws", episodes=8)


def table(app, column: str):
    """The first table on the page that has this column."""
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def test_nothing_evaluated_says_what_it_takes(open_page, complete, empty):
    app = open_page("results", complete)
    assert not app.exception
    assert "Nothing has been evaluated yet" in words(app)
    assert "This recipe has no `evaluate` yet" in words(app)
    assert "emt check-benchmark metaworld" in words(app)
    assert PAPER in words(app)
    app = open_page("results", empty)
    assert not app.exception
    assert "This workspace is empty" in words(app)


def test_a_recipe_that_plans_to_evaluate_offers_the_button(open_page, tmp_path: Path):
    space = Workspace.open(tmp_path / "ws", create=True)
    write_json(tmp_path / "p" / "policy.json", {})
    recipe = space.path / "recipes" / "r.yaml"
    recipe.parent.mkdir()
    recipe.write_text(
        f"name: r\nbase: {tmp_path}\nevaluate: {{policy: p, benchmark: {{name: rehearsal}}}}\n"
    )
    app = open_page("results", space.path)
    assert not app.exception
    assert f"emt run {recipe} --workspace {space.path} --until evaluate" in words(app)
    assert "Run up to evaluate" in [button.label for button in app.button]


def test_an_experiment_is_told_in_full(open_page, arms: Workspace):
    app = open_page("results", arms.path)
    assert not app.exception
    assert not app.error
    runs = runs_of(finished(arms, "arms"))
    by_arm = {
        name: [r.chosen["mean"] for r in runs if r.arm == name]
        for name in ("none", "random", "learned")
    }
    rates = {name: sum(m["rate"] for m in means) / len(means) for name, means in by_arm.items()}
    best = max(rates, key=lambda name: rates[name])
    found = metrics(app)
    assert found[f"Best: {best}"] == numbers.share(rates[best])
    assert found["Episodes"] == numbers.whole(3 * 2 * 3 * 8)
    assert found["Checkpoint"] == "step 300"
    faults = sum(sum(run.chosen["faults"].values()) for run in runs)
    assert found["Simulator faults"] == str(faults)
    compared = table(app, "by seed").set_index("arm")
    assert compared.loc["learned", "success"] == numbers.share(rates["learned"])
    assert compared.loc["learned", "95 % over seeds"] == "needs 3 seeds"
    assert "McNemar, exact" in words(app)
    assert re.search(
        r"\*\*learned\*\* is \d+\.\d points above \*\*none\*\* in these runs, more than chance",
        words(app),
    )
    assert "At least 3 seeds are needed to compare the arms" in words(app)
    assert "Success over fine-tuning" in words(app)
    assert PAPER in words(app)
    widest = max(arms_of(runs), key=lambda arm: arm.high - arm.low)
    assert (
        f"48 episodes per arm: the 95 % interval is {100 * (widest.high - widest.low):.0f} points wide."
        in words(app)
    )
    assert "it had seen" not in words(app), "no fine-tuning of this workspace made these policies"


def test_without_an_episode_played_to_its_end_no_rate_is_shown(open_page, tmp_path: Path):
    space = Workspace.open(tmp_path / "ws", create=True)
    tasks = ("chain",)
    evaluated(space, "e", 0.9, benchmark="calvin_abcd", goals=5, tasks=tasks, broken=tasks)
    recorded(space, {"evaluate": "e"})
    app = open_page("results", space.path)
    assert not app.exception
    found = metrics(app)
    assert found["Mean success"] == found["95 % interval"] == numbers.MISSING
    assert (found["Episodes"], found["Simulator faults"]) == ("0", "12")
    assert "the simulator failed in all of them" in words(app)
    assert table(app, "solved")["simulator faults"].tolist() == ["12 simulator crashed"]


def test_a_short_training_is_said_beside_the_papers(open_page, tmp_path: Path):
    space = Workspace.open(tmp_path / "ws", create=True)
    space.building("finetune", "f").mkdir(parents=True)
    manifest = {
        "stage": "finetune",
        "key": "f",
        "labels": ["finetune"],
        "config": {"steps": 150, "batch": 32},
    }
    space.commit(
        "finetune", "f", manifest | {"parents": {}, "finished": 1.0, "rows": 1, "metrics": {}}
    )
    evaluated(space, "e", 0.5, episodes=4, checkpoints=(100,), videos=0, parents={"finetune": "f"})
    recorded(space, {"evaluate": "e"})
    app = open_page("results", space.path)
    assert not app.exception
    (run,) = runs_of(finished(space, "r"))
    mean = run.chosen["mean"]
    assert (
        f"12 episodes: the 95 % interval is {100 * (mean['high'] - mean['low']):.0f} points wide."
        in words(app)
    )
    assert "Policy of step 100 of 150, trained on 3,200 frames." in words(app)
    assert "The paper fine-tunes for 16,000 steps, 4,096,000 frames" in words(app)


def test_two_evaluations_of_one_benchmark_are_shown_one_at_a_time(open_page, tmp_path: Path):
    space = Workspace.open(tmp_path / "ws", create=True)
    state = {
        f"evaluate.{name}@{arm}/0": f"{name}{arm}"
        for name in ("near", "far")
        for arm in ("none", "learned")
    }
    for key, episodes in zip(state.values(), (2, 2, 5, 5), strict=True):
        evaluated(space, key, 0.5, episodes=episodes, checkpoints=(7,), videos=0)
    recorded(space, state)
    app = open_page("results", space.path)
    assert not app.exception
    assert metrics(app)["Episodes"] == str(2 * 3 * 2)
    app.segmented_control(key="benchmark").set_value("metaworld far").run()
    assert not app.exception
    assert metrics(app)["Episodes"] == str(2 * 3 * 5)


def test_arms_can_be_left_out_and_the_reference_changed(open_page, arms: Workspace):
    app = open_page("results", arms.path)
    app.selectbox(key="reference").set_value("random").run()
    assert not app.exception
    assert "minus random" in table(app, "by seed").columns
    app.multiselect(key="arms").set_value(["learned"]).run()
    assert not app.exception
    assert "Mean success" in metrics(app)
    assert "Arms against each other" not in words(app)


def test_rollouts_show_failures_first_and_can_be_filtered(open_page, arms: Workspace):
    app = open_page("results", arms.path)
    shown = table(app, "detail")
    assert list(shown["success"]) == sorted(shown["success"])
    assert len(app.get("video")) == 6  # two of each of three tasks
    app.selectbox(key="rollout-task").set_value("reach-v3").run()
    assert set(table(app, "detail")["task"]) == {"reach-v3"}
    assert len(app.get("video")) == 2
    app.segmented_control(key="rollout-show").set_value("successes").run()
    assert not app.exception
    left = [frame.value for frame in app.dataframe if "detail" in frame.value.columns]
    assert all(frame["success"].all() for frame in left)


def test_a_missing_video_is_said_not_raised(open_page, arms: Workspace, tmp_path: Path):
    space = shutil.copytree(arms.path, tmp_path / "ws")
    for path in space.glob("evaluate/*/data/videos"):
        shutil.rmtree(path)
    app = open_page("results", space)
    assert not app.exception
    assert "The video file is missing." in words(app)


def test_a_benchmark_of_the_paper_stands_beside_its_figures(open_page, tmp_path: Path):
    space = Workspace.open(tmp_path / "ws", create=True)
    evaluated(space, "a", 0.5, benchmark="libero_10", episodes=4, checkpoints=(5,), videos=0)
    evaluated(
        space,
        "b",
        0.6,
        benchmark="calvin_abcd",
        goals=5,
        tasks=("chain",),
        episodes=9,
        checkpoints=(5,),
        videos=0,
    )
    recorded(space, {"evaluate.libero": "a", "evaluate.calvin": "b"})
    app = open_page("results", space.path)
    assert not app.exception
    assert "Other backbones, data and compute" in words(app)
    assert PAPER in words(app)
    app.segmented_control(key="benchmark").set_value("calvin_abcd").run()
    assert not app.exception
    assert metrics(app)["Average length"].endswith("of 5")


@pytest.mark.parametrize("query", [{"benchmark": "nope"}, {"reference": "nope"}])
def test_nonsense_in_a_link_is_ignored(open_page, arms: Workspace, query):
    app = open_page("results", arms.path, **query)
    assert not app.exception
    assert not app.error


def test_a_real_evaluation_is_shown(open_page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluate, "load_policy", lambda folder, *_: DotPolicy())
    write_json(tmp_path / "p" / "policy.json", {})
    recipe = tmp_path / "real.yaml"
    recipe.write_text(
        "evaluate: {policy: p, benchmark: {name: rehearsal}, episodes: 2, videos: 1}\n"
    )
    run_plan(
        make_plan(load_recipe(recipe)), Workspace.open(tmp_path / "ws", create=True), quiet=True
    )
    app = open_page("results", tmp_path / "ws")
    assert not app.exception
    assert metrics(app)["Mean success"] == "100.0 %"
    assert metrics(app)["Checkpoint"] == "one policy"
    assert len(app.get("video")) == 2
    assert "bring the red dot to the green one (0)" in words(app)
