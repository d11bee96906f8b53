"""Details of estimators and MMD that a good AUROC hides: what stops training, which rows count."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from pyarrow import parquet
from safetensors.numpy import load_file
from synthetic import Made, make_workspace, pool, robot, run_stage

from emt_core.data.features import feature_table
from emt_core.proximity import reference
from emt_core.proximity.split import TEST, VALIDATION, split_rows
from emt_core.recipe.gap import GapConfig
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig, measure_config
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Table

SHARES = {"validation_share": 0.2, "test_share": 0.2}
STEPS = 100

# ---- what stops training


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Robot and pool are one distribution of many dimensions: rows can be learned by heart only."""
    sources = [pool("web", 120), robot("arm", 96), robot("hand", 48)]
    return make_workspace(tmp_path_factory.mktemp("alike"), sources, dim=192, seed=0)


def trained(made: Made, kind: str, *, seed: int = 0) -> Artifact:
    training = {"learning_rate": 0.02, "steps": STEPS, "stop_accuracy": 0.9, "seed": seed}
    if kind == "linear":
        return run_stage(made, "estimator", EstimatorConfig(**training, **SHARES))
    return run_stage(made, "measure", measure_config(kind="mlp", hidden=16, **training, **SHARES))


def logits_of(fitted: Artifact, x: np.ndarray) -> np.ndarray:
    if (fitted.data / "weights.safetensors").exists():
        line = load_file(fitted.data / "weights.safetensors")
        return x @ line["weight"] + line["bias"][0]
    net = load_file(fitted.data / "network.safetensors")
    hidden = np.maximum((x - net["mean"]) * net["scale"] @ net["w"].T + net["b"], 0)
    return hidden @ net["v"] + net["c"][0]


@pytest.fixture(scope="module", params=["linear", "mlp"])
def by_heart(alike: Made, request: pytest.FixtureRequest) -> Artifact:
    return trained(alike, request.param)


def test_what_is_only_learned_by_heart_does_not_stop_training(by_heart: Artifact):
    steps = parquet.read_table(by_heart.data / "steps.parquet").to_pydict()
    assert steps["train_accuracy"][-1] > 0.95
    assert by_heart.metrics["stopped"] in ("loss", "steps")
    assert np.nanmax(steps["val_accuracy"]) < 0.8


def test_the_accuracy_that_stops_training_is_that_of_the_validation_rows(
    alike: Made, by_heart: Artifact
):
    """By hand from the saved weights: the pool has half of the weight, each robot set a quarter."""
    part = split_rows(alike.index, alike.features.ok(), validation=0.2, test=0.2, seed=0)
    x = alike.features.take(range(alike.features.rows)).astype(np.float64)
    says_robot = logits_of(by_heart, x) > 0
    of_source = {}
    for source in alike.index.sources:
        rows = source.start + np.flatnonzero(part[source.start : source.stop] == VALIDATION)
        of_source[source.name] = np.mean(says_robot[rows] == (source.role == "robot"))
    expected = of_source["web"] / 2 + (of_source["arm"] + of_source["hand"]) / 4
    accuracy = (
        parquet.read_table(by_heart.data / "steps.parquet").column("val_accuracy")[-1].as_py()
    )
    assert accuracy == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_no_number_of_the_test_rows_reaches_a_weight(tmp_path: Path, kind: str):
    """Neither by batches nor by scaling nor by the stop: with other test rows the same weights."""
    sources = [pool("web", 200), robot("arm", 96, mean=3.0), robot("hand", 48, mean=3.0)]
    made = make_workspace(tmp_path, sources, dim=8)
    before = trained(made, kind)
    part = split_rows(made.index, made.features.ok(), validation=0.2, test=0.2, seed=0)
    x = made.features.take(range(made.features.rows)).astype(np.float32)
    x[part == TEST] = 7 - 3 * x[part == TEST]
    weights = load_file(next(before.data.glob("*.safetensors")))
    figures = before.metrics
    replace_features(made, x)
    shutil.rmtree(before.path)
    after = trained(made, kind)
    for name, value in load_file(next(after.data.glob("*.safetensors"))).items():
        np.testing.assert_array_equal(value, weights[name])
    assert after.metrics["steps"] == figures["steps"]
    assert after.metrics["auroc"] < figures["auroc"] - 0.1  # and the test does look at them


def test_a_score_is_judged_on_the_test_rows(alike: Made):
    """What is learned by heart ranks the training rows perfectly and the test rows by chance."""
    parents = {name: alike.artifacts[name] for name in ("sources", "embed")}
    parents["measure"] = trained(alike, "mlp", seed=1)
    score = run_stage(alike, "score", ScoreConfig(sweep_sample=20), parents=parents)
    part = split_rows(alike.index, alike.features.ok(), validation=0.2, test=0.2, seed=1)
    rows = np.flatnonzero(part == TEST)
    stratum = alike.index.codes()[rows]
    weights = 0.25 / np.bincount(stratum)[stratum] * np.where(stratum == 0, 2, 1)
    logits = Table(score.data / "scores.lance").column("logit")[rows]
    expected = sklearn.metrics.roc_auc_score(stratum > 0, logits, sample_weight=weights)
    assert score.metrics["heldout"]["auroc"] == pytest.approx(expected)
    assert expected < 0.8


def replace_features(made: Made, x: np.ndarray) -> None:
    table = Table(made.artifacts["embed"].data / "features.lance")
    shutil.rmtree(table.path)
    table.append(feature_table(x.astype(np.float16), [""] * len(x)))


# ---- sigma


def distances(rows: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    return apart[np.triu_indices(len(rows), 1)]


def test_sigma_takes_as_many_rows_of_every_source_however_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nine tenths of the rows lie close together; dealt out evenly, most pairs are far apart."""
    monkeypatch.setattr(reference, "SIGMA_ROWS", 90)
    sources = [
        pool("large", 2000, spread=0.1),
        pool("left", 40, mean=-50.0, spread=0.1),
        robot("right", 40, mean=50.0, spread=0.1),
    ]
    made = make_workspace(tmp_path, sources, dim=4)
    ok = made.features.ok()
    assert reference.Reference(index=made.index, features=made.features, ok=ok).sigma > 25


def test_sigma_of_the_gap_is_that_of_pool_and_robots_together(tmp_path: Path):
    means = {"web": 0.0, "near": 40.0, "arm": 80.0}
    sources = [
        (pool if name != "arm" else robot)(name, 60, mean=mean) for name, mean in means.items()
    ]
    made = make_workspace(tmp_path, sources, dim=6)
    config = GapConfig(projection="tsne", projection_fit=60, neighbors=5)
    gap = json.loads((run_stage(made, "gap", config).data / "gap.json").read_text())
    x = made.features.take(range(180)).astype(np.float64)
    assert gap["sigma"] == pytest.approx(np.median(distances(x)), rel=1e-3)
    assert np.median(distances(x[:60])) < 5 < 35 < gap["sigma"]


def test_sigma_of_the_sweep_is_that_of_pool_and_robots_together(tmp_path: Path):
    """Most pairs lie between the sets, so that the pool's own distances would be far too small."""
    means = {"web": 0.0, "arm": 60.0, "hand": 120.0}
    sources = [
        (pool if name == "web" else robot)(name, 60, mean=mean) for name, mean in means.items()
    ]
    made = make_workspace(tmp_path, sources, dim=6)
    run_stage(made, "estimator", EstimatorConfig(steps=5))
    score = run_stage(made, "score", ScoreConfig(sweep_sample=120))
    x = made.features.take(range(180)).astype(np.float64)
    assert score.metrics["sweep"]["sigma"] == pytest.approx(np.median(distances(x)), rel=1e-3)
    assert np.median(distances(x[:60])) < 5 < 50 < score.metrics["sweep"]["sigma"]
