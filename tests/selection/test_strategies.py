"""Draws by weight, cells and near-duplicates: against their definitions, and through the select
stage."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from synthetic import make_workspace, pool, put_artifact, robot, run_stage

from emt_core.data.draws import Purpose, gumbel_scores, ordered_rows, random_keys
from emt_core.data.features import Features, feature_table
from emt_core.data.index import SourceRange
from emt_core.errors import EmtError
from emt_core.proximity import reference as references
from emt_core.proximity.measures.random import scores as random_scores
from emt_core.proximity.reference import SAMPLE_ROWS, Reference
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig, measure_config
from emt_core.recipe.selection import Clusters, SelectConfig
from emt_core.selection import Candidates, clusters, decide
from emt_core.selection.clusters import CELL_ROWS, assign_cells, fit_cells, near_duplicates
from emt_core.selection.report import selection_report
from emt_core.stages import select
from emt_core.workspace.table import Table


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    sources = [
        pool("web", 600, no_vector=0.1),
        pool("near", 300, mean=3.0),
        robot("arm", 160, mean=5.0),
    ]
    made = make_workspace(tmp_path_factory.mktemp("ws"), sources, dim=8, seed=1)
    names = ["caption"] * made.index.rows
    put_artifact(
        made, "category", {"category.lance": pa.table({"category": names, "evidence": names})}
    )
    run_stage(made, "estimator", EstimatorConfig())
    run_stage(made, "score", ScoreConfig(sweep_sample=200))
    return made


def selected(made, **config):
    shutil.rmtree(made.workspace.path / "select", ignore_errors=True)
    artifact = run_stage(made, "select", SelectConfig(**config))
    table = Table(artifact.data / "selection.lance")
    rank = table.column("rank")
    order = np.argsort(np.where(rank < 0, len(rank), rank), kind="stable")[: (rank >= 0).sum()]
    return order, table.column("reason"), json.loads((artifact.data / "report.json").read_text())


def test_gumbel_draws_without_replacement_by_weight():
    """Frequencies of ordered pairs over many seeds against the sequential draw that the weights
    define."""
    logit, seeds = np.array([0.0, 1.0, 2.0], np.float32), 2000
    counts = dict.fromkeys(permutations(range(3), 2), 0)
    for seed in range(seeds):
        drawn = gumbel_scores(logit, np.arange(3), temperature=2.0, seed=seed)
        counts[tuple(np.argsort(-drawn)[:2].tolist())] += 1
    weight = np.exp(logit.astype(float) / 2)
    for (first, second), count in counts.items():
        p = weight[first] / weight.sum() * weight[second] / (weight.sum() - weight[first])
        assert abs(count / seeds - p) < 4 * (p * (1 - p) / seeds) ** 0.5


def test_a_rows_noise_is_its_own():
    rows = np.arange(1000)
    logit = np.zeros(1000, np.float32)
    whole = gumbel_scores(logit, rows, temperature=1, seed=5)
    parts = [
        gumbel_scores(logit[p], rows[p], temperature=1, seed=5)
        for p in (slice(0, 7), slice(7, 400), slice(400, None))
    ]
    assert (np.concatenate(parts) == whole).all()
    assert (gumbel_scores(logit, rows, temperature=1, seed=6) != whole).all()


def test_temperature_goes_from_the_best_to_a_uniform_draw(made):
    top, _, _ = selected(made, k=200)
    means = []
    for temperature in (0.001, 1.0, 1000.0):
        rows, reason, report = selected(made, strategy="gumbel", k=200, temperature=temperature)
        assert report["cut_logit"] is None and (reason == "not_drawn").sum() > 0
        means.append(report["scores"]["selected"]["mean"])
        if temperature == 0.001:
            assert len(set(rows) & set(top)) >= 190
    assert means[0] > means[1] > means[2]


def test_a_random_share_is_drawn_from_what_the_cut_left(made):
    top, _, _ = selected(made, k=160)
    rows, _, report = selected(made, k=200, random_share=0.2)
    assert (rows[:160] == top).all() and len(set(rows.tolist())) == 200
    scores = report["scores"]["selected"]
    assert (
        scores["quantiles"]["0.01"]
        < selected(made, k=200)[2]["scores"]["selected"]["quantiles"]["0.01"]
    )


@pytest.fixture(scope="module")
def spread_pool(tmp_path_factory):
    """24,000 pool rows whose only feature is what they are scored by, and 500 robot rows."""
    rng, n = np.random.default_rng(0), 24_000
    logit = np.concatenate([rng.normal(0, 2, n), np.full(500, 6.0)]).astype(np.float32)
    table = Table(tmp_path_factory.mktemp("spread") / "f")
    x = np.stack([logit + rng.normal(0, 0.1, n + 500), np.full(n + 500, 2.0)], axis=1)
    table.append(feature_table(x.astype(np.float16), [""] * len(x)))
    candidates = Candidates(
        source=np.repeat([0, 1], [n, 500]).astype(np.int16),
        sources=("web", "arm"),
        pool=np.array([True, False]),
        category=np.zeros(n + 500, np.int16),
        categories=("caption",),
        logit=logit,
    )
    sources = [
        SourceRange("web", "pool", 0, n, {}),
        SourceRange("arm", "robot", n, n + 500, {}),
    ]
    index = SimpleNamespace(
        sources=sources,
        of_role=lambda role: [source for source in sources if source.role == role],
        is_pool=lambda: np.arange(n + 500) < n,
        table=SimpleNamespace(column=lambda name: np.ones(n + 500, np.int64)),
    )
    ok = np.ones(n + 500, bool)
    return candidates, lambda: Reference(index=index, features=Features(table), ok=ok)


@pytest.mark.parametrize("strategy", ["gumbel", "random"])
def test_the_report_of_a_draw_is_measured_on_rows_that_the_draw_knows_nothing_of(
    spread_pool, strategy, monkeypatch
):
    """Its figures are those of the whole selection, but for the sample's error; measured on the rows
    that a draw by the same seed takes first, they would be those of the best of them."""
    candidates, reference = spread_pool
    config = SelectConfig(strategy=strategy, k=6000, seed=0)
    decision = decide(candidates, config)
    assert len(decision.rows) > 2 * SAMPLE_ROWS
    sampled = selection_report(decision, candidates, reference(), config)
    monkeypatch.setattr(references, "SAMPLE_ROWS", 30_000)
    whole = selection_report(decision, candidates, reference(), config)
    for found in (("diversity",), ("mmd2_to_robot", "all")):
        for when in ("before", "after"):
            value, exact = (_at(one, found, when) for one in (sampled, whole))
            error = _at(sampled["errors"], found, when)
            assert 0 < error < 0.1 * exact and abs(value - exact) < 4 * error
            assert _at(whole["errors"], found, when) == 0


def _at(found: dict, path: tuple[str, ...], when: str) -> float:
    for name in path:
        found = found[name]
    return found[when]


def test_the_rows_that_trust_looks_at_are_not_the_lowest_of_the_measure_random(made):
    rows = ordered_rows(random_keys(0, np.arange(20_000), Purpose.TRUST), 2000)
    index = SimpleNamespace(rows=20_000)
    ((_, score),) = random_scores(
        measure_config(kind="random", seed=0), SimpleNamespace(index=index), Path(), 0
    )
    assert abs(score[rows].mean() - 0.5) < 5 * (1 / 12 / 2000) ** 0.5
    assert abs(score.mean() - 0.5) < 0.02


def lloyd(x: np.ndarray, centers: list[np.ndarray]) -> list[np.ndarray]:
    """Spherical k-means as it is written (Dhillon and Modha 2001), a row and a cell at a time,
    until nothing moves."""
    for _ in range(100):
        members: list[list[np.ndarray]] = [[] for _ in centers]
        served = []
        for row in x:
            cosines = [float(row @ center) for center in centers]
            members[int(np.argmax(cosines))].append(row)
            served.append(max(cosines))
        worst = iter(np.argsort(served, kind="stable"))
        sums = [np.sum(mine, axis=0) if mine else x[next(worst)] for mine in members]
        moved = [total / np.linalg.norm(total) for total in sums]
        if np.allclose(moved, centers, atol=1e-9):
            return moved
        centers = moved
    raise AssertionError("the loop did not settle")


@pytest.mark.parametrize("twins", [0, 20])
def test_cells_are_fitted_as_the_plain_loop_fits_them(tmp_path, twins):
    """Twins: several cells start from one point, so that all but the first are empty at once."""
    x = np.random.default_rng(3).standard_normal((30, 4))
    x[:twins] = x[0]
    x = x.astype(np.float16)
    table = Table(tmp_path / "f")
    table.append(feature_table(x, [""] * 30))
    found = fit_cells(Features(table), np.arange(30), Clusters(cells=5, most=None), seed=2)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    first = np.random.default_rng([2, 11]).permutation(30)[:5]
    assert (sum(row < twins for row in first) > 1) == (twins > 0)
    assert found == pytest.approx(np.array(lloyd(unit, list(unit[first]))), abs=1e-6)


def test_cells_are_nearest_centers_and_spread_the_selection(made):
    clusters = {"cells": 10, "most": 1.5}
    rows, reason, _ = selected(made, k=200, clusters=clusters)
    ok = made.features.ok() & made.index.is_pool()
    centers = fit_cells(made.features, np.flatnonzero(ok), Clusters(**clusters), seed=0)
    cell = assign_cells(made.features, centers)
    x = made.features.take(range(made.index.rows)).astype(np.float64)
    for row in np.flatnonzero(ok)[::29]:
        cosine = centers.astype(np.float64) @ x[row] / np.linalg.norm(x[row])
        assert cosine[cell[row]] == pytest.approx(cosine.max(), abs=1e-6)
    assert (cell[~made.features.ok()] == -1).all()
    per_cell = np.bincount(cell[rows], minlength=10)
    assert per_cell.max() == 30 and (reason == "cluster_cap").sum() > 0
    free, _, _ = selected(made, k=200)
    assert np.bincount(cell[free], minlength=10).max() > 30


def test_near_duplicates_are_what_the_double_loop_finds(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.standard_normal((60, 6))
    x = np.concatenate([base, base[:25] + rng.normal(0, 0.05, (25, 6)), base[:5]]).astype(
        np.float16
    )
    table = Table(tmp_path / "f")
    table.append(feature_table(x, [""] * 90))
    order = rng.permutation(90)[:80]
    cell = (np.arange(90) % 3).astype(np.int32)
    found, split = near_duplicates(Features(table), order, cell, cosine=0.98, seed=0, cell_rows=30)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    for place, row in enumerate(order):
        better = [other for other in order[:place] if cell[other] == cell[row]]
        assert found[row] == any(unit[row] @ unit[other] >= 0.98 for other in better)
    assert not found[np.setdiff1d(np.arange(90), order)].any() and 3 < found.sum() < 40
    assert not split


def store(folder: Path, x: np.ndarray, commit_rows: int) -> Features:
    table = Table(folder)
    for at in range(0, len(x), commit_rows):
        part = x[at : at + commit_rows].astype(np.float16)
        table.append(feature_table(part, [""] * len(part)))
    return Features(table)


def test_a_cell_too_large_is_compared_in_parts_that_k_means_makes(tmp_path, monkeypatch):
    """200 directions with 30 near copies of each, all in one cell: the parts find what the whole
    cell has."""
    rng = np.random.default_rng(1)
    base = np.repeat(rng.standard_normal((200, 16)), 30, axis=0)
    x = rng.permutation(base + rng.normal(0, 0.02, base.shape))
    features = store(tmp_path / "f", x, 6000)
    order = rng.permutation(6000)
    cell = np.zeros(6000, np.int32)
    whole, unsplit = near_duplicates(features, order, cell, cosine=0.99, seed=0, cell_rows=6000)
    assert 5500 < whole.sum() < 5900 and not unsplit

    read, take = [], Features.take
    monkeypatch.setattr(
        Features, "take", lambda self, rows: read.append(len(rows)) or take(self, rows)
    )
    monkeypatch.setattr(clusters, "READ_ROWS", 500)
    done = []
    found, split = near_duplicates(
        features, order, cell, cosine=0.99, seed=0, cell_rows=700, advance=done.append
    )
    assert not (found & ~whole).any() and found.sum() > 0.99 * whole.sum()
    assert [(s.cell, s.rows, s.best_only) for s in split] == [(0, 6000, 0)] and split[0].parts > 9
    assert max(read) == 500 and sum(done) == 6000

    monkeypatch.setattr(clusters, "PARTS", 3)  # too few for one split
    _, (twice,) = near_duplicates(features, order, cell, cosine=0.99, seed=0, cell_rows=1500)
    assert twice.parts > 3 and twice.best_only == 0

    monkeypatch.undo()
    other = store(tmp_path / "g", x, 777)
    again, same = near_duplicates(other, order, cell, cosine=0.99, seed=0, cell_rows=700)
    assert (again == found).all() and same == split


def test_copies_that_no_k_means_takes_apart_are_compared_with_the_best(tmp_path):
    x = np.random.default_rng(2).standard_normal((3000, 8))
    x[100:] = x[0]
    order = np.random.default_rng(3).permutation(3000)
    found, split = near_duplicates(
        store(tmp_path / "f", x, 3000),
        order,
        np.zeros(3000, np.int32),
        cosine=0.9999,
        seed=0,
        cell_rows=64,
    )
    copies = [row for row in order if row == 0 or row >= 100]
    assert found[copies].tolist() == [False] + [True] * (len(copies) - 1)
    assert split[0].best_only > 2000


def test_near_duplicates_leave_with_their_reason(made):
    rows, reason, report = selected(
        made, k=300, clusters={"cells": 4, "most": None, "duplicate_cosine": 0.95}
    )
    assert (reason == "near_duplicate").sum() == report["reasons"]["near_duplicate"] > 0
    best, _, _ = selected(made, k=1)
    assert rows[0] == best[0] and report["eligible"] == selected(made, k=1)[2]["eligible"]
    assert report["near_duplicates"] == {"cell_rows": CELL_ROWS, "split_cells": []}


def test_the_report_names_the_cells_that_were_split(made, monkeypatch):
    monkeypatch.setattr(select, "CELL_ROWS", 100)
    _, _, report = selected(
        made, k=300, clusters={"cells": 4, "most": None, "duplicate_cosine": 0.95}
    )
    said = report["near_duplicates"]
    assert said["cell_rows"] == 100 and all(
        s["rows"] > 100 and s["parts"] > 1 for s in said["split_cells"]
    )
    assert len(said["split_cells"]) >= 2


def test_selections_that_keep_near_duplicates_keep_their_keys():
    keep, leave = ({"cells": 4, "duplicate_cosine": cosine} for cosine in (None, 0.9))
    for config in ({"k": 1}, {"k": 1, "clusters": keep}):
        assert select.identity(SelectConfig(**config), Path()) is None
    assert select.identity(SelectConfig(k=1, clusters=leave), Path()) == {"cell_rows": CELL_ROWS}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"strategy": "gumbel", "threshold": 0.5}, "fixed number"),
        ({"k": 5, "temperature": 2.0}, "only strategy 'gumbel'"),
        ({"strategy": "random", "k": 5, "random_share": 0.5}, "random_share goes with"),
        ({"threshold": 0.0, "clusters": {"cells": 5}}, "share of a fixed number"),
        ({"threshold": 0.0, "quotas": {"source": {"web": 1.0}}}, "k or fraction, not threshold"),
        (
            {"strategy": "all", "quotas": {"source": {"web": 1.0}}},
            "k or fraction, not strategy 'all'",
        ),
    ],
)
def test_settings_that_contradict_each_other(config, message):
    with pytest.raises(ValidationError, match=message):
        SelectConfig(**config)


def test_a_penalty_on_the_spread_ranks_by_mean_minus_spread(made):
    table = Table(made.artifacts["score"].data / "scores.lance")
    logit, spread = table.column("logit"), table.column("spread")
    order, _, report = selected(made, k=200, spread_penalty=5.0)
    lowered = np.where(made.index.is_pool(), logit - 5 * spread, np.nan)
    assert order.tolist() == np.argsort(-lowered, kind="stable")[:200].tolist()
    plain, _, _ = selected(made, k=200)
    assert order.tolist() != plain.tolist()
    assert report["cut_logit"] is None  # no score divides selected from rejected rows
    with pytest.raises(ValidationError, match="rank by score"):
        SelectConfig(strategy="random", k=5, spread_penalty=1.0)


def test_a_score_of_one_seed_has_no_spread_to_subtract(made):
    parents = {name: made.artifacts[name] for name in ("sources", "embed", "category")}
    one = run_stage(made, "estimator", EstimatorConfig(seeds=1, steps=5))
    score_parents = {"sources": parents["sources"], "embed": parents["embed"], "estimator": one}
    score = run_stage(made, "score", ScoreConfig(sweep_sample=50), parents=score_parents)
    with pytest.raises(EmtError, match="no spread over seeds"):
        run_stage(
            made,
            "select",
            SelectConfig(k=5, spread_penalty=1.0),
            parents=parents | {"score": score},
        )
