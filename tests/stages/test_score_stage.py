"""The score stage: exact against float64, independent of commits and files, and the embed artifact
stays as it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from plain_measures import plain_diversity
from safetensors.numpy import save_file
from synthetic import make_workspace, pool, put_artifact, robot, run_stage

from emt_core.data.features import Features, feature_table
from emt_core.errors import EmtError
from emt_core.proximity.stream import BLOCK_ROWS, error_bound, stream_logits
from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.workspace.table import Table

SOURCES = [
    pool("web", 900, no_vector=0.1, text_only=0.1),
    pool("near", 500, mean=2.0),
    robot("arm", 320, mean=5.0),
    robot("hand", 80, mean=4.0),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = make_workspace(tmp_path_factory.mktemp("ws"), SOURCES, dim=24, seed=1)
    run_stage(made, "estimator", EstimatorConfig(seed=4))
    return made


@pytest.fixture(scope="module")
def scored(made):
    return run_stage(made, "score", ScoreConfig(sweep_sample=300))


def logits(artifact):
    return Table(artifact.data / "scores.lance").column("logit")


def by_hand(made, weight, bias, status="missing_image"):
    """An estimator with these weights."""
    artifact = put_artifact(made, "estimator", {}, name=f"{weight.sum()}{bias}")
    save_file(
        {"weight": weight.astype(np.float32), "bias": np.array([bias], np.float32)},
        artifact.data / "weights.safetensors",
    )
    return artifact


def all_files(artifact):
    return {
        str(path.relative_to(artifact.path)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(artifact.path.rglob("*"))
        if path.is_file()
    }


def test_logits_match_float64_within_the_stated_bound_and_are_nan_without_a_vector(made, scored):
    from safetensors.numpy import load_file

    weights = load_file(made.artifacts["estimator"].data / "weights.safetensors")
    x, ok = made.features.take(range(made.index.rows)), made.features.ok()
    exact = x.astype(np.float64) @ weights["weight"].astype(np.float64) + float(weights["bias"][0])
    found = logits(scored)
    assert found.dtype == np.float32 and (np.isnan(found) == ~ok).all() and (~ok).any()
    assert (np.abs(found - exact) <= error_bound(x, weights["weight"], weights["bias"][0]))[
        ok
    ].all()
    assert (
        scored.rows
        == made.index.rows
        == scored.metrics["pool"]["rows"] + scored.metrics["robot"]["rows"]
    )


def test_bound_holds_where_sums_cancel(tmp_path):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((700, 1024)) + 30).astype(
        np.float16
    )  # a mean far longer than the spread, as VLMs have
    weight = rng.standard_normal(1024).astype(np.float32)
    weight -= weight.mean()
    table = Table(tmp_path / "features.lance")
    table.append(feature_table(x, [""] * 700))
    found = np.concatenate([part for _, part in stream_logits(Features(table), weight, 0.25)])
    exact = x.astype(np.float64) @ weight.astype(np.float64) + 0.25
    assert (np.abs(found - exact) <= error_bound(x, weight, 0.25)).all()
    assert (
        np.abs(found - exact).max()
        < 5e-3
        < 0.05
        < np.abs(x @ weight.astype(np.float16) - exact).max()
    )


def test_a_value_depends_on_its_row_alone(tmp_path):
    """Cut into other files, started at any row, with any thread setting: the same bits."""
    import torch

    rng = np.random.default_rng(1)
    rows = 3 * BLOCK_ROWS + 77
    x, weight = (
        rng.standard_normal((rows, 48)).astype(np.float16),
        rng.standard_normal(48).astype(np.float32),
    )
    stores = []
    for name, cuts in {"whole": [rows], "parts": [100, 300, 301, 700, rows]}.items():
        table = Table(tmp_path / name)
        for low, high in zip([0, *cuts], cuts, strict=False):
            table.append(feature_table(x[low:high], [""] * (high - low)))
        stores.append(Features(table))
    members = rng.standard_normal((5, 48)).astype(np.float32), np.arange(5, dtype=np.float32)
    whole = np.concatenate(
        [part for _, part in stream_logits(stores[0], weight, 0.5, members=members)]
    )
    plain = np.concatenate([part for _, part in stream_logits(stores[0], weight, 0.5)])
    assert (whole[:, 0] == plain).all()  # the score itself does not depend on its spread
    exact = x.astype(float) @ members[0].T.astype(float) + members[1]
    np.testing.assert_allclose(whole[:, 1], exact.std(axis=1, ddof=1), rtol=1e-5)
    threads = torch.get_num_threads()
    for start in (0, 1, 255, 256, 300, rows - 1, rows):
        torch.set_num_threads(1 + start % 2)
        got = list(stream_logits(stores[1], weight, 0.5, members=members, start=start))
        assert [at for at, part in got if len(part)][:1] == [start][: rows - start]
        assert (np.concatenate([part for _, part in got]) == whole[start:]).all()
    torch.set_num_threads(threads)


def test_features_that_are_not_finite_score_nan(tmp_path):
    x = np.zeros((600, 8), np.float16)
    x[5] = np.nan
    x[300] = np.inf
    x[599] = -np.inf
    table = Table(tmp_path / "features.lance")
    table.append(feature_table(x, [""] * 600))
    found = np.concatenate(
        [part for _, part in stream_logits(Features(table), np.ones(8, np.float32), 1.0)]
    )
    assert np.flatnonzero(np.isnan(found)).tolist() == [5, 300, 599]
    assert (found[np.isfinite(found)] == 1.0).all()


def test_two_scores_of_one_embed_live_side_by_side_and_touch_nothing(made, scored):
    before = {stage: all_files(made.artifacts[stage]) for stage in ("sources", "embed")}
    first = logits(scored)
    estimator = run_stage(made, "estimator", EstimatorConfig(seed=9, steps=20))
    other = run_stage(made, "score", ScoreConfig(sweep_sample=300))
    assert other.key != scored.key and estimator.key != scored.manifest["parents"]["estimator"]
    assert other.manifest["parents"]["embed"] == scored.manifest["parents"]["embed"]
    assert (logits(scored)[np.isfinite(first)] == first[np.isfinite(first)]).all()
    assert not np.allclose(logits(other), first, equal_nan=True)
    assert before == {stage: all_files(made.artifacts[stage]) for stage in before}


def test_commit_size_changes_nothing(made, scored):
    parents = {
        **made.artifacts,
        "estimator": made.workspace.find("estimator", scored.manifest["parents"]["estimator"]),
    }
    parents = {stage: parents[stage] for stage in ("sources", "embed", "estimator")}
    again = run_stage(
        made,
        "score",
        ScoreConfig(sweep_sample=300, seed=1),
        parents=parents,
        runtime=Runtime(workers=0, commit_rows=100),
    )
    assert np.array_equal(logits(again), logits(scored), equal_nan=True)
    assert len(list((again.data / "scores.lance" / "_versions").iterdir())) > 3


def test_metrics_count_every_score_of_every_source(made, scored):
    found, metrics = logits(scored), scored.metrics["sources"]
    for source in made.index.sources:
        part = found[source.start : source.stop]
        there = part[np.isfinite(part)]
        assert len(there) == metrics[source.name]["scored"]
        assert metrics[source.name]["missing"] == len(part) - len(there)
        assert metrics[source.name]["mean"] == pytest.approx(there.mean(dtype=np.float64))
        assert metrics[source.name]["quantiles"]["0.5"] == pytest.approx(np.median(there), abs=1e-6)
        score = 1 / (1 + np.exp(-there.astype(np.float64)))
        assert metrics[source.name]["mean_score"] == pytest.approx(score.mean())
    assert metrics["arm"]["mean"] > metrics["near"]["mean"] > metrics["web"]["mean"]


def test_sweep_holds_what_each_cut_would_have(made, scored):
    table = pq.read_table(scored.data / "sweep.parquet").to_pandas()
    found = logits(scored)
    assert len(table) == 300 == table.row.nunique()
    assert (found[table.row] == table.logit).all() and (np.diff(table.logit) <= 0).all()
    assert made.index.is_pool()[table.row].all()
    assert (made.index.table.column("n_images")[table.row] > 0).all()
    vectors = made.features.take(table.row.to_numpy()).astype(np.float32)
    for n in (2, 3, 50, 300):
        assert table.diversity[n - 1] == pytest.approx(plain_diversity(vectors[:n]), rel=1e-5)
    assert np.isnan(table.mmd2_to_robot[0])
    # cutting harder comes nearer to the robot data: best tenth against everything
    assert table.mmd2_to_robot[29] < table.mmd2_to_robot[299]


def test_weights_of_another_width_or_not_finite_are_named(made):
    for weight, message in (
        (np.ones(5), "5 weights, the features 24"),
        (np.full(24, np.nan), "not finite"),
    ):
        parents = {
            **{s: made.artifacts[s] for s in ("sources", "embed")},
            "estimator": by_hand(made, weight, 0),
        }
        with pytest.raises(EmtError, match=message):
            run_stage(made, "score", ScoreConfig(), parents=parents)


def test_a_pool_without_any_vector_is_named(tmp_path):
    sources = [replace(pool("web", 40), no_vector=1.0), robot("arm", 40)]
    made = make_workspace(tmp_path, sources, dim=24)
    parents = {**made.artifacts, "estimator": by_hand(made, np.ones(24), 0)}
    with pytest.raises(EmtError, match="no pool row has a score"):
        run_stage(made, "score", ScoreConfig(), parents=parents)
