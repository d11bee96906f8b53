"""Arms and seeds beside each other, against hand-made evaluations; the paper's figures as the
paper's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluate_world import TASKS, evaluated, experiment

from emt_core.errors import EmtError
from emt_core.evaluation.comparison.arms import (
    arms_of,
    by_task,
    differences,
    dynamics,
    reference_of,
    t_interval,
)
from emt_core.evaluation.comparison.paper import PAPERS_OWN, figures_for, paper_results
from emt_core.evaluation.comparison.references import BENCHMARKS, reference_rows, works
from emt_core.evaluation.comparison.runs import ALL, comparable, runs_of
from emt_core.evaluation.comparison.training import trained
from emt_core.explore.figures import results as figures
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_json
from emt_core.workspace.lineage import finished


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return experiment(
        tmp_path_factory.mktemp("arms") / "ws", seeds=(0, 1, 2), episodes=20, videos=0
    )


@pytest.fixture(scope="module")
def arms(workspace: Workspace):
    return arms_of(runs_of(finished(workspace, "arms")))


def test_labels_become_arms_and_seeds(workspace: Workspace):
    runs = runs_of(finished(workspace, "arms"))
    assert {(run.instance, run.arm, run.seed) for run in runs} == {
        ("metaworld", arm, seed) for arm in ("none", "random", "learned") for seed in "012"
    }


def test_without_arms_an_instance_is_an_arm(tmp_path: Path):
    workspace = Workspace.open(tmp_path / "ws", create=True)
    for name in ("learned", "random"):
        evaluated(workspace, name, 0.5, episodes=2, checkpoints=(7,), videos=0)
    write_json(
        workspace.path / "state" / "r.json",
        {f"evaluate.{name}": name for name in ("learned", "random")},
    )
    assert [run.arm for run in runs_of(finished(workspace, "r"))] == ["learned", "random"]
    write_json(workspace.path / "state" / "r.json", {"evaluate": "learned"})
    assert [run.arm for run in runs_of(finished(workspace, "r"))] == ["policy"]
    write_json(
        workspace.path / "state" / "r.json", {"evaluate": "learned", "evaluate@x/0": "random"}
    )
    assert [run.arm for run in runs_of(finished(workspace, "r"))] == [ALL, "x"]


def test_two_instances_of_one_benchmark_are_not_two_seeds(tmp_path: Path):
    workspace = Workspace.open(tmp_path / "ws", create=True)
    state = {}
    for name in ("near", "far"):
        for arm in ("none", "learned"):
            evaluated(workspace, f"{name}{arm}", 0.5, episodes=2, checkpoints=(7,), videos=0)
            state[f"evaluate.{name}@{arm}/0"] = f"{name}{arm}"
    write_json(workspace.path / "state" / "r.json", state)
    runs = runs_of(finished(workspace, "r"))
    groups = comparable(runs)
    assert {name: [run.label for run in mine] for name, mine in groups.items()} == {
        f"metaworld {name}": [f"evaluate.{name}@none/0", f"evaluate.{name}@learned/0"]
        for name in ("near", "far")
    }
    assert [arm.episodes for arm in arms_of(groups["metaworld far"])] == [6, 6]
    with pytest.raises(
        EmtError, match=r"'none' has two .* seed '0': evaluate.near@none/0 and evaluate.far@"
    ):
        arms_of(runs)
    write_json(
        workspace.path / "state" / "r.json",
        {"evaluate.near": "nearnone", "evaluate.far": "farnone"},
    )
    plain = runs_of(finished(workspace, "r"))
    assert list(comparable(plain)) == ["metaworld"] and len(arms_of(plain)) == 2, (
        "without arms, instances are the arms"
    )


def test_how_long_a_policy_was_trained_is_read_from_its_artifact(tmp_path: Path):
    workspace = Workspace.open(tmp_path / "ws", create=True)
    workspace.building("finetune", "f").mkdir(parents=True)
    config = {"steps": 300, "batch": 32}
    workspace.commit(
        "finetune", "f", {"stage": "finetune", "key": "f", "config": config, "parents": {}}
    )
    evaluated(
        workspace, "e", 0.5, episodes=2, checkpoints=(100, 200), videos=0, parents={"finetune": "f"}
    )
    evaluated(workspace, "g", 0.5, episodes=2, checkpoints=(100,), videos=0)
    write_json(workspace.path / "state" / "r.json", {"evaluate.e": "e", "evaluate.g": "g"})
    of = {run.instance: trained(workspace, run) for run in runs_of(finished(workspace, "r"))}
    assert of["e"] is not None and (of["e"].step, of["e"].steps, of["e"].frames) == (200, 300, 6400)
    assert (of["e"].paper_steps, of["e"].paper_frames) == (
        16_000,
        4_096_000,
    )  # docs/method.md, section 9
    assert of["g"] is None


def test_an_arms_figure_is_the_mean_of_its_seeds(arms):
    for arm in arms:
        rates = [rate for _, rate in arm.seeds]
        assert arm.rate == pytest.approx(sum(rates) / 3)
        assert arm.episodes == 3 * 60
        assert arm.low < arm.rate < arm.high
        assert arm.average_length is None
    assert arms[2].rate > arms[0].rate


def test_t_interval_against_a_textbook_value():
    low, high = t_interval([1.0, 2.0, 3.0])  # mean 2, s 1, t(0.975, 2) = 4.3027
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_arms_are_paired_by_seed_task_and_layout(arms):
    found = {difference.arm: difference for difference in differences(arms, "none")}
    assert set(found) == {"random", "learned"}
    rates = {arm.name: arm.rate for arm in arms}
    for name, difference in found.items():
        assert difference.paired.cases == 180
        assert difference.paired.difference == pytest.approx(rates[name] - rates["none"])
        assert difference.p_adjusted >= difference.paired.p
        theirs = {arm.name: dict(arm.seeds) for arm in arms}
        apart = [theirs[name][seed] - theirs["none"][seed] for seed in ("0", "1", "2")]
        assert [value for _, value in difference.seeds] == pytest.approx(apart)
        assert difference.seed_interval == pytest.approx(t_interval(apart))
    assert found["learned"].p_adjusted < 0.001
    assert reference_of([arm.name for arm in arms]) == "none"
    assert reference_of(["learned", "mine"]) == "learned"


def test_what_a_difference_is_shown_by(arms):
    (found,) = (d for d in differences(arms, "none") if d.arm == "learned")
    said = {
        ((0.1, 0.4), 0.9): "seeds",
        ((-0.4, -0.1), 0.9): "seeds",
        ((-0.3, 0.6), 1e-9): "runs",
        ((-0.3, 0.6), 0.2): "nothing",
        (None, 0.01): "runs",
        (None, 0.05): "nothing",
    }
    for (interval, p), shown in said.items():
        assert replace(found, seed_interval=interval, p_adjusted=p).shown_by == shown


def test_an_interval_over_seeds_stays_among_shares(arms):
    two = [
        replace(arm, seeds=(("0", rate), ("1", 1 - rate), ("2", rate)))
        for arm, rate in zip(arms[:2], (0.0, 1.0), strict=True)
    ]
    (found,) = differences(two, arms[0].name)
    assert found.seeds == (("0", 1.0), ("1", -1.0), ("2", 1.0)) and found.seed_interval == (
        -1.0,
        1.0,
    )
    (found,) = differences([replace(arm, seeds=arm.seeds[:2]) for arm in two], arms[0].name)
    assert found.seed_interval is None


def test_other_layouts_are_not_paired(workspace: Workspace, arms):
    path = arms[1].runs[0].artifact.data / "episodes.parquet"
    table = pq.read_table(path)
    try:
        moved = table.set_column(
            table.schema.get_field_index("seed"), "seed", [[900_000] * table.num_rows]
        )
        pq.write_table(moved, path)
        found = differences(arms_of(runs_of(finished(workspace, "arms"))), "none")
        assert {d.arm: d.paired.cases for d in found} == {"random": 120, "learned": 180}
    finally:
        pq.write_table(table, path)


def test_rows_for_tasks_and_checkpoints(arms):
    rows = by_task(arms)
    assert {(row["arm"], row["task"]) for row in rows} == {
        (a.name, task) for a in arms for task in TASKS
    }
    assert all(row["n"] == 60 == row["successes"] + sum(row["failures"].values()) for row in rows)
    curve = [row for row in dynamics(arms) if row["arm"] == "learned"]
    assert [(row["checkpoint"], row["runs"], row["n"]) for row in curve] == [
        (s, 3, 180) for s in (100, 200, 300)
    ]
    assert curve[0]["rate"] < curve[-1]["rate"]


def test_chains_are_compared_by_goals_completed(tmp_path: Path):
    workspace = Workspace.open(tmp_path / "ws", create=True)
    for name, skill in (("none", 0.5), ("learned", 0.8)):
        evaluated(
            workspace,
            name,
            skill,
            episodes=60,
            checkpoints=(9,),
            videos=0,
            benchmark="calvin_abcd",
            goals=5,
            tasks=("chain",),
        )
    write_json(
        workspace.path / "state" / "r.json", {f"evaluate@{n}": n for n in ("none", "learned")}
    )
    arms = arms_of(runs_of(finished(workspace, "r")))
    assert 0 < arms[0].average_length < arms[1].average_length < 5
    (difference,) = differences(arms, "none")
    assert "permutation" in difference.paired.test
    assert difference.paired.difference == pytest.approx(
        (arms[1].average_length - arms[0].average_length) / 5
    )


def test_figures_draw_every_row_and_escape_names(arms):
    colors = figures.arm_colors([arm.name for arm in arms])
    assert len(set(colors.values())) == 3
    tasks = figures.by_task(by_task(arms), colors)
    assert sum(len(trace.x) for trace in tasks.data) == 9
    curves = figures.dynamics(dynamics(arms), colors)
    assert [trace.name for trace in curves.data if trace.name] == ["none", "random", "learned"]
    hostile = '<a href="javascript:alert(1)">x</a>'
    row = {
        "arm": hostile,
        "task": hostile,
        "n": 1,
        "successes": 1,
        "rate": 1.0,
        "low": 0.2,
        "high": 1.0,
    }
    text = figures.by_task([row], {hostile: "#000000"}).to_json()
    text += figures.differences(
        [{"arm": hostile, "difference": 0, "low": -1, "high": 1, "p": 1}],
        {hostile: "#000000"},
        hostile,
    ).to_json()
    assert "<a href" not in text.replace("\\u003c", "<")


def test_task_names_are_shortened_for_axes():
    assert figures.short_task("button-press-topdown-v3") == "button-press-topdown"
    assert (
        figures.short_task("KITCHEN_SCENE8_put_both_moka_pots_on_the_stove")
        == "put both moka pots on the stove"
    )
    assert (
        len(figures.short_task("LIVING_ROOM_SCENE5_" + "put_the_white_mug_" * 5))
        <= figures.LONGEST_NAME
    )
    assert figures.short_task("widowx_stack_cube") == "stack cube"


def test_the_papers_figures_are_the_papers():
    results = paper_results()
    assert len(results["main"]) == 15
    assert sum(row["quoted"] for row in results["main"]) == 11
    ours = next(
        row for row in results["main"] if row["model"] == "InternVL3.5-1B + EmbodiedMidtrain"
    )
    assert (ours["calvin"]["average_length"], ours["simpler"], ours["libero"]) == (
        3.714,
        56.3,
        54.2,
    )
    learned = results["ablation"][-1]
    assert (learned["calvin"], learned["simpler"], learned["libero"]) == (3.714, 56.3, 54.2)
    for row in results[
        "main"
    ]:  # the printed shares add up to the printed length, but for rounding and one misprint
        if row["model"] != "pi0 (PaliGemma-1)":
            assert sum(row["calvin"]["reached"]) == pytest.approx(
                row["calvin"]["average_length"], abs=0.0021
            )
    assert figures_for("metaworld") == []
    libero = figures_for("libero_10")
    assert {row["unit"] for row in libero} == {"%"}
    assert sum(row["reported_by"] == PAPERS_OWN for row in libero) == 4 + 5
    assert {row["table"] for row in libero} == {"Table 1", "Table 2"}


def test_figures_of_other_works_name_their_source_and_stay_percent():
    rows = reference_rows()
    assert all(0 <= row["value"] <= 100 and row["model"] and row["data"] for row in rows)
    assert {work["link"].partition("://")[0] for work in works()} == {"https"}
    assert set(BENCHMARKS.values()) <= {row["benchmark"] for row in rows}
    adapted = {
        row["data"]: row["value"]
        for row in rows
        if row["head"] == "OFT" and row["benchmark"] == "LIBERO-10" and "2605" in row["link"]
    }
    assert adapted["untouched VLM"] == 92.4
    assert adapted["adapted on: grounding and ego"] == 95.7
    assert adapted["from scratch"] == min(adapted.values())


def test_a_simulators_faults_are_in_no_rate_and_no_pair(tmp_path: Path):
    """Two seeds an arm; where one of them has no rate, the arm has the other's."""
    workspace = Workspace.open(tmp_path / "ws", create=True)
    state = {}
    for arm, seed, broken in (("a", 0, ()), ("a", 1, TASKS[:1]), ("b", 0, ()), ("c", 0, TASKS)):
        key = f"{arm}{seed}"
        evaluated(workspace, key, 0.6, seed=seed, episodes=6, videos=0, broken=tuple(broken))
        state[f"evaluate@{arm}/{seed}"] = key
    write_json(workspace.path / "state" / "r.json", state)
    runs = runs_of(finished(workspace, "r"))
    arms = {arm.name: arm for arm in arms_of(runs)}
    first = runs[0].chosen["mean"]
    assert arms["a"].rate == first["rate"] and arms["a"].episodes == first["n"]
    assert [rate for _, rate in arms["a"].seeds] == [first["rate"], None]
    assert arms["c"].rate is arms["c"].low is arms["c"].high is None and arms["c"].episodes == 0
    assert not runs[3].outcomes()
    rows = by_task(list(arms.values()))
    mine = {row["task"]: row for row in rows if row["arm"] == "c"}
    assert all(row["rate"] is None and row["faults"] == {"crashed": 6} for row in mine.values())
    (compared,) = differences(list(arms.values()), "a")
    assert compared.arm == "b" and len(compared.seeds) == 1
    colors = figures.arm_colors(list(arms))
    assert {trace.name for trace in figures.by_task(rows, colors).data} == {"a", "b"}
    assert "c" not in {t.name for t in figures.dynamics(dynamics(list(arms.values())), colors).data}
