"""The select stage: contract of its files, its report, and how it ends when nothing can be
selected."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plain_measures import plain_mmd2
from synthetic import make_workspace, pool, put_artifact, robot, run_stage

from emt_core.errors import EmtError
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.recipe.selection import SelectConfig
from emt_core.workspace.table import Table

SOURCES = [
    pool("web", 900, no_vector=0.1, text_only=0.1),
    pool("near", 500, mean=3.0),
    robot("arm", 320, mean=5.0),
    robot("hand", 80, mean=4.0),
]
CATEGORIES = ("spatial", "text", "caption", "robot")


def with_categories(made):
    names = np.array(CATEGORIES)[np.arange(made.index.rows) % 4]
    put_artifact(
        made,
        "category",
        {"category.lance": pa.table({"category": names, "evidence": ["hand"] * len(names)})},
    )
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = with_categories(make_workspace(tmp_path_factory.mktemp("ws"), SOURCES, dim=24, seed=1))
    run_stage(made, "estimator", EstimatorConfig(seed=4))
    run_stage(made, "score", ScoreConfig(sweep_sample=300))
    return made


def tables(artifact):
    selection = Table(artifact.data / "selection.lance")
    reason = np.array(
        [r for b in selection.scan(["reason"]) for r in b.column(0).to_pylist()], object
    )
    return (
        reason,
        selection.column("rank"),
        pq.read_table(artifact.data / "selected.parquet").to_pandas(),
    )


def report_of(artifact):
    return json.loads((artifact.data / "report.json").read_text())


def test_the_files_keep_the_contract(made):
    artifact = run_stage(made, "select", SelectConfig(k=300, caps={"source": {"near": 200}}))
    reason, rank, selected = tables(artifact)
    logit = Table(made.artifacts["score"].data / "scores.lance").column("logit")
    assert (
        len(reason)
        == len(rank)
        == made.index.rows
        == artifact.rows
        == sum(artifact.metrics["reasons"].values())
    )
    assert ((reason == "") == (rank >= 0)).all() and sorted(rank[rank >= 0]) == list(range(300))
    assert selected.columns.tolist() == ["row", "rank", "logit", "id", "source", "category"]
    assert selected["rank"].tolist() == list(range(300)) == rank[selected.row].tolist()
    assert (logit[selected.row] == selected.logit).all() and (np.diff(selected.logit) <= 0).all()
    samples = made.index.samples(selected.row.to_numpy())
    assert selected.id.tolist() == [s.id for s in samples]
    assert selected.source.tolist() == [s.source for s in samples]
    assert selected.category.tolist() == [CATEGORIES[row % 4] for row in selected.row]
    statuses = np.array(
        [s for b in made.features.table.scan(["status"]) for s in b.column(0).to_pylist()], object
    )
    is_pool = made.index.is_pool()
    assert (reason[~is_pool] == "robot").all() and "robot" not in reason[is_pool]
    for status in ("missing_image", "text_only"):
        assert ((reason == status) == (statuses == status)).all() and status in statuses
    assert (selected.source == "near").sum() == 200 and (reason == "source_cap").sum() > 0


def test_report_tells_before_from_after(made):
    artifact = run_stage(made, "select", SelectConfig(fraction=0.25))
    report, (reason, _, selected) = report_of(artifact), tables(artifact)
    eligible = made.index.is_pool() & made.features.ok()
    assert report["eligible"] == eligible.sum() and report["asked"] == report["selected"] == len(
        selected
    )
    assert report["asked"] == int(0.25 * eligible.sum() + 0.5)
    for by in ("source", "category"):
        assert report["composition"]["selected"][by] == selected[by].value_counts().to_dict()
        assert sum(report["composition"]["eligible"][by].values()) == eligible.sum()
        assert sum(report["composition"]["pool"][by].values()) == 1400
    assert set(report["composition"]["pool"]["side"]) == {"embodied", "reading", "neither"}
    assert report["embodied_share"]["before"] == pytest.approx(0.5, abs=0.03)
    assert report["cut_logit"] == pytest.approx(selected.logit.iloc[-1])
    scores = report["scores"]
    assert scores["selected"]["quantiles"]["0.01"] >= scores["left_out"]["quantiles"]["0.99"]
    assert (
        scores["robot"]["mean"] > scores["selected"]["mean"]
        and scores["left_out"]["rows"] == (reason == "below_cut").sum()
    )
    nearer = report["mmd2_to_robot"]
    assert set(nearer) == {"all", "arm", "hand"}
    assert all(pair["after"] < pair["before"] for pair in nearer.values())
    # samples hold every row here, so the figures are exactly those of the whole sets
    x = made.features.take(range(made.index.rows)).astype(np.float32)
    arm = next(s for s in made.index.sources if s.name == "arm")
    exact = plain_mmd2(x[selected.row], [x[arm.start : arm.stop]], report["sigma"])
    assert nearer["arm"]["after"] == pytest.approx(exact, rel=1e-4)
    assert report["diversity"]["before"] > 1 and report["diversity"]["after"] > 1


def test_random_and_all_need_no_scores(made):
    drawn = run_stage(made, "select", SelectConfig(strategy="random", k=200, seed=2))
    assert "score" not in drawn.manifest["parents"]
    reason, _, selected = tables(drawn)
    assert (
        selected.logit.isna().all()
        and (reason == "not_drawn").sum() == report_of(drawn)["eligible"] - 200
    )
    assert report_of(drawn)["cut_logit"] is None and report_of(drawn)["scores"] == {}
    everything = run_stage(made, "select", SelectConfig(strategy="all"))
    assert report_of(everything)["selected"] == report_of(everything)["eligible"]
    assert set(tables(everything)[2].row) > set(selected.row)


def test_more_than_there_is_takes_all_and_says_so(made):
    report = report_of(run_stage(made, "select", SelectConfig(k=1_200_000)))
    assert report["asked"] == 1_200_000 and report["selected"] == report["eligible"] < 1400


def test_quotas_by_category_with_a_shortfall(made):
    artifact = run_stage(
        made, "select", SelectConfig(k=500, quotas={"category": {"spatial": 0.9, "text": 0.1}})
    )
    report = report_of(artifact)
    got = report["composition"]["selected"]["category"]
    assert got["text"] == 50 and got["spatial"] == 450 - report["shortfall"]["spatial"] < 450
    assert report["reasons"]["quota"] > 0


def test_excluded_ids_are_left_out_and_text_only_rows_can_be_let_in(made):
    best = tables(run_stage(made, "select", SelectConfig(k=10)))[2].id.tolist()
    reason, _, selected = tables(
        run_stage(made, "select", SelectConfig(k=10, exclude=tuple(best[:3])))
    )
    assert selected.id.tolist()[:7] == best[3:] and (reason == "excluded").sum() == 3
    with pytest.raises(EmtError, match="no sample 'web:99999'"):
        run_stage(made, "select", SelectConfig(k=10, exclude=("web:99999",)))


def test_an_interrupted_write_is_redone(made):
    from synthetic import stage_context

    config = SelectConfig(k=11)
    context = stage_context(made, "select", config)
    Table(context.out / "selection.lance").append(pa.table({"reason": ["junk"], "rank": [5]}))
    artifact = run_stage(made, "select", config)
    assert len(tables(artifact)[0]) == made.index.rows


@pytest.mark.parametrize("field", ["source", "category"])
def test_unknown_names_list_the_known(made, field):
    known = {"source": "web, near$", "category": "spatial, grounding, text"}[field]
    with pytest.raises(EmtError, match=rf"caps\.{field} names 'xx'[\s\S]*known: {known}"):
        run_stage(made, "select", SelectConfig(k=5, caps={field: {"xx": 3}}))


def test_a_threshold_above_every_score_says_what_the_best_is(made):
    with pytest.raises(
        EmtError, match=r"selection is empty[\s\S]*below_cut[\s\S]*the best logit is"
    ):
        run_stage(made, "select", SelectConfig(threshold=1e6))


def test_the_best_that_is_told_is_what_the_threshold_is_held_against(made):
    """Less the spread, and of rows that may be selected: any lower threshold selects that row."""
    for settings in ({"spread_penalty": 20.0}, {"exclude": ("near:0-499",)}):
        with pytest.raises(EmtError) as caught:
            run_stage(made, "select", SelectConfig(threshold=1e6, **settings))
        best = float(caught.value.remedy.split(" is ")[-1])
        below = SelectConfig(threshold=best - 1e-3 * abs(best), **settings)
        assert 1 <= run_stage(made, "select", below).metrics["selected"] <= 3


def test_a_pool_with_no_survivors_says_what_removed_how_many(tmp_path):
    sources = [replace(pool("web", 60), no_vector=0.5, text_only=0.5), robot("arm", 20)]
    made = with_categories(make_workspace(tmp_path, sources, dim=8))
    with pytest.raises(
        EmtError, match=r"missing_image \d+, robot 20, text_only \d+[\s\S]*no pool row"
    ):
        run_stage(made, "select", SelectConfig(strategy="all"))
