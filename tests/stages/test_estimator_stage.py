"""The estimator stage on hand-made features: what it learns, what it holds out, how it ends on bad
input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics
from pyarrow import parquet
from safetensors.numpy import load_file
from synthetic import make_workspace, pool, robot, run_stage

from emt_core.data.features import feature_table
from emt_core.errors import EmtError
from emt_core.proximity import batches as draws_module
from emt_core.proximity.batches import Draws, robot_rows
from emt_core.proximity.classifier import scaling
from emt_core.proximity.split import TEST, TRAIN, VALIDATION, seeded_hash, split_by_hash, split_rows
from emt_core.recipe.proximity import EstimatorConfig
from emt_core.workspace.table import Table

SOURCES = [
    pool("web", 1500, no_vector=0.05),
    pool("near", 500, mean=1.5),
    robot("arm", 640, mean=5.0),
    robot("hand", 80, mean=4.5),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("ws"), SOURCES, dim=24, seed=1)


@pytest.fixture(scope="module")
def trained(made):
    return run_stage(made, "estimator", EstimatorConfig(seed=4))


def logits_of(made, artifact):
    weights = load_file(artifact.data / "weights.safetensors")
    assert weights["weight"].dtype == weights["bias"].dtype == np.float32
    assert weights["weight"].shape == (made.features.dim,) and weights["bias"].shape == (1,)
    x = made.features.take(range(made.features.rows)).astype(np.float64)
    return x @ weights["weight"] + weights["bias"][0]


def test_raw_features_times_weights_rank_robot_over_near_over_web(made, trained):
    logits = logits_of(made, trained)
    means = [logits[s.start : s.stop].mean() for s in made.index.sources]
    assert means[0] < means[1] < means[3] < means[2]
    heldout = parquet.read_table(trained.data / "heldout.parquet").to_pydict()
    np.testing.assert_allclose(heldout["logit"], logits[heldout["row"]], rtol=1e-4, atol=1e-4)


def test_the_plain_reading_stops_where_the_validation_accuracy_is_first_reached(made):
    config = EstimatorConfig(seed=4, stop="accuracy", seeds=1)
    trained = run_stage(made, "estimator", config)
    steps = parquet.read_table(trained.data / "steps.parquet").to_pydict()
    accuracy = np.array(steps["val_accuracy"])
    measured = ~np.isnan(accuracy)
    assert (
        trained.metrics["stopped"] == "accuracy" and trained.metrics["steps"] == len(accuracy) < 500
    )
    assert (np.flatnonzero(measured) + 1).tolist() == list(range(5, len(accuracy) + 1, 5))
    assert accuracy[-1] >= 0.9 and (accuracy[measured][:-1] < 0.9).all()
    assert steps["loss"][0] == pytest.approx(np.log(2)) and steps["loss"][-1] < steps["loss"][0]


def test_figures_are_those_of_the_held_out_rows(trained):
    heldout = parquet.read_table(trained.data / "heldout.parquet").to_pydict()
    label, logit = np.array(heldout["label"]) == 1, np.array(heldout["logit"])
    hand = np.array(heldout["row"]) >= 2640
    weights = np.where(
        label, np.where(hand, 0.25 / hand.sum(), 0.25 / (label & ~hand).sum()), 0.5 / (~label).sum()
    )
    metrics = trained.metrics
    assert metrics["auroc"] == pytest.approx(
        sklearn.metrics.roc_auc_score(label, logit, sample_weight=weights)
    )
    p = 1 / (1 + np.exp(-logit))
    assert metrics["brier"] == pytest.approx(
        sklearn.metrics.brier_score_loss(label, p, sample_weight=weights)
    )
    assert metrics["test_accuracy"] == pytest.approx(np.sum(weights * ((logit > 0) == label)))
    assert set(metrics["auroc_by_robot"]) == {"arm", "hand"}
    curves = json.loads((trained.data / "curves.json").read_text())
    assert set(curves) == {"roc", "precision_recall", "calibration"}
    assert max(len(values) for curve in curves.values() for values in curve.values()) <= 200


def test_no_episode_is_in_two_parts_and_shares_hold(made):
    ok = made.features.ok()
    part = split_rows(made.index, ok, validation=0.1, test=0.2, seed=0)
    assert ((part == 255) == ~ok).all()
    pool_parts = part[:2000][ok[:2000]]
    assert np.mean(pool_parts == TEST) == pytest.approx(0.2, abs=1e-3)
    assert np.mean(pool_parts == VALIDATION) == pytest.approx(0.1, abs=1e-3)
    for source in made.index.of_role("robot"):
        episode = made.index.table.column("episode", start=source.start, stop=source.stop)
        seen = {
            p: set(episode[part[source.start : source.stop] == p])
            for p in (TRAIN, VALIDATION, TEST)
        }
        assert (
            all(seen.values())
            and not seen[TRAIN] & seen[TEST]
            and not seen[VALIDATION] & (seen[TRAIN] | seen[TEST])
        )
        assert len(seen[TEST]) == round(0.2 * len(set(episode)))


def test_held_out_rows_never_train(made, trained, monkeypatch):
    part = split_rows(made.index, made.features.ok(), validation=0.1, test=0.1, seed=4)
    taken = []
    plain = draws_module.take_finite
    monkeypatch.setattr(
        draws_module,
        "take_finite",
        lambda f, rows, dtype: taken.append(rows) or plain(f, rows, dtype),
    )
    again = run_stage(made, "estimator", EstimatorConfig(seed=4, steps=1999))
    rows = np.unique(np.concatenate(taken))
    assert (part[rows] == TRAIN).all() and len(rows) > 1000
    heldout = parquet.read_table(again.data / "heldout.parquet").column("row").to_numpy()
    assert (part[heldout] == TEST).all()
    one, other = (load_file(a.data / "weights.safetensors") for a in (trained, again))
    np.testing.assert_array_equal(one["weight"], other["weight"])  # same seed, same weights


def test_the_number_of_threads_changes_no_weight(made, trained):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        again = run_stage(made, "estimator", EstimatorConfig(seed=4, steps=1998))
    finally:
        torch.set_num_threads(before)
    one, other = (load_file(a.data / "weights.safetensors") for a in (trained, again))
    np.testing.assert_array_equal(one["weight"], other["weight"])


def test_robot_sets_are_balanced_whatever_their_size_and_blocks_change_nothing(made):
    arm, hand = (np.arange(s.start, s.stop) for s in made.index.of_role("robot"))
    draws = Draws(made.features, np.arange(1500, 2000), [arm, hand], 7)
    which, rows = np.hstack(
        [robot_rows([arm, hand], np.random.default_rng(i), 100) for i in range(40)]
    )
    np.testing.assert_array_equal(which == 1, rows >= hand[0])
    assert np.mean(rows >= hand[0]) == pytest.approx(0.5, abs=0.03)
    one, other = (list(draws.batches(8, 20, block_steps=size)) for size in (3, 20))
    np.testing.assert_array_equal(one, other)


def test_standardized_weights_fold_back_and_constant_dimensions_get_none(tmp_path):
    sources = [pool("web", 300), robot("arm", 160, mean=3.0)]
    made = make_workspace(tmp_path, sources, dim=6)
    x = made.features.take(range(460)).astype(np.float64)
    x[:, 0], x[:, 1] = 512.0, x[:, 1] * 0.01 + 100
    mean, scale = scaling(x, np.full(460, 1 / 460), standardize=True)
    assert scale[0] == 0
    np.testing.assert_allclose(((x - mean) * scale)[:, 1:].std(axis=0), 1)
    replace_features(made, x)
    artifact = run_stage(made, "estimator", EstimatorConfig())
    logits = logits_of(made, artifact)
    assert load_file(artifact.data / "weights.safetensors")["weight"][0] == 0
    assert sklearn.metrics.roc_auc_score(np.arange(460) >= 300, logits) > 0.9


def replace_features(made, x):
    import shutil

    table = Table(made.artifacts["embed"].data / "features.lance")
    shutil.rmtree(table.path)
    table.append(feature_table(x.astype(np.float16), [""] * len(x)))


def test_what_cannot_be_told_apart_ends_at_max_steps_and_says_so(tmp_path):
    made = make_workspace(tmp_path, [pool("web", 400), robot("arm", 240)], dim=8)
    artifact = run_stage(made, "estimator", EstimatorConfig(steps=33, standardize=False))
    assert artifact.metrics["stopped"] == "steps" and artifact.metrics["steps"] == 33
    assert artifact.metrics["val_accuracy"] < 0.9 and 0.2 < artifact.metrics["auroc"] < 0.8


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([pool("web", 50)], "no source has role 'robot'"),
        ([robot("arm", 50)], "no source has role 'pool'"),
        ([pool("web", 50), robot("arm", 8)], "'arm' has 1 episode with"),
        ([pool("web", 50), robot("arm", 16)], "'arm' has 2 episodes with"),
        ([pool("web", 50, no_vector=1.0), robot("arm", 80)], "0 pool samples may train"),
        ([pool("web", 50), robot("arm", 80, no_vector=1.0)], "'arm' has 0 episodes"),
    ],
)
def test_bad_input_ends_in_one_clear_message(tmp_path, sources, message):
    made = make_workspace(tmp_path, sources, dim=4)
    with pytest.raises(EmtError, match=message) as raised:
        run_stage(made, "estimator", EstimatorConfig())
    assert raised.value.remedy


def test_a_vector_that_is_not_finite_never_trains(tmp_path):
    made = make_workspace(tmp_path, [pool("web", 100), robot("arm", 80)], dim=4)
    x = made.features.take(range(180)).astype(np.float32)
    x[:100, 2] = np.nan
    replace_features(made, x)
    with pytest.raises(EmtError, match="not finite"):
        run_stage(made, "estimator", EstimatorConfig())


def test_hash_split_is_exact_stable_and_even():
    hashes = seeded_hash(np.arange(10_000), "0:web")
    assert len(np.unique(hashes)) == 10_000
    np.testing.assert_array_equal(hashes[:50], seeded_hash(np.arange(50), "0:web"))
    part = split_by_hash(hashes, validation=0.1, test=0.3)
    assert [int((part == p).sum()) for p in (TRAIN, VALIDATION, TEST)] == [6000, 1000, 3000]
    assert abs(np.corrcoef(part == TEST, np.arange(10_000))[0, 1]) < 0.03
    for n in (3, 4, 5):
        assert set(split_by_hash(hashes[:n], validation=0.1, test=0.1)) == {TRAIN, VALIDATION, TEST}
