"""When the estimator stops, what its seeds are, and how far they are apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file
from synthetic import Made, make_workspace, pool, robot, run_stage

from emt_core.proximity.classifier import Examples, Stop, halves_agree
from emt_core.proximity.measures.linear import train
from emt_core.proximity.metrics.rank_agreement import spearman
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.workspace.table import Table


@pytest.fixture(scope="module")
def separable(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Robot data is apart from the pool in most of 256 dimensions, as in a real VLM's features."""
    rng = np.random.default_rng(0)
    sources = [pool("web", 1500, spread=1.0), robot("arm", 400, mean=rng.normal(size=256))]
    return make_workspace(tmp_path_factory.mktemp("separable"), sources, dim=256)


def steps_of(artifact) -> dict[str, np.ndarray]:
    table = parquet.read_table(artifact.data / "steps.parquet")
    return {name: table.column(name).to_numpy() for name in table.column_names}


def test_separable_features_do_not_stop_at_the_first_look(separable: Made):
    plain = run_stage(separable, "estimator", EstimatorConfig(stop="accuracy", seeds=1))
    settled = run_stage(separable, "estimator", EstimatorConfig())
    assert plain.metrics["steps"] == 5 and plain.metrics["stopped"] == "accuracy"
    assert settled.metrics["steps"] >= 75 and settled.metrics["stopped"] == "accuracy"
    assert settled.metrics["first_look_accuracy"] >= 0.9
    steps = steps_of(settled)
    assert steps["agreement"][-1] >= 0.9
    early = (steps["step"] >= 75) & (steps["step"] < settled.metrics["steps"])
    assert not (steps["agreement"][early] >= 0.9).any()


def validation(n: int = 400) -> Examples:
    robot_rows = np.arange(n) < n // 2
    return Examples(
        x=np.zeros((n, 1)), robot=robot_rows, stratum=robot_rows.astype(int), rows=np.arange(n)
    )


def looks(config: EstimatorConfig, logits_at) -> tuple[int, str]:
    """The step and reason where looks at these logits [members, rows] stop."""
    stop = Stop(config, validation())
    for step in range(config.eval_every, config.steps + 1, config.eval_every):
        _, reason = stop.look(step, np.atleast_2d(logits_at(step)))
        if reason:
            return step, reason
    return config.steps, "steps"


SIDE = np.where(np.arange(400) < 200, 1.0, -1.0)
ORDER = np.random.default_rng(0).permutation(400) / 1000


def members(apart: float) -> np.ndarray:
    """Four members that all tell the classes apart, each with so much noise of its own."""
    noise = np.random.default_rng(1).normal(size=(4, 400))
    return 5 * SIDE + ORDER + apart * noise


def test_seeds_that_disagree_are_no_end():
    """Every member is sure, but the best fifth is each one's own until step 240."""
    config = EstimatorConfig(steps=1000, eval_every=20)
    assert looks(config, lambda step: members(1.0 if step < 240 else 0.001)) == (240, "accuracy")
    assert looks(config, lambda step: members(1.0)) == (1000, "steps")
    assert halves_agree(members(1.0)[:, 200:]) < 0.7 < 0.95 < halves_agree(members(0.001)[:, 200:])


def test_halves_agree_as_far_as_they_share_the_best_fifth():
    rows = np.arange(100.0)
    moved = np.roll(rows, 5)  # of the 20 best, 5 are others
    assert halves_agree(np.stack([rows, moved])) == 0.75
    assert halves_agree(np.stack([rows, rows, moved, moved])) == 0.75
    assert np.isnan(halves_agree(rows[None])) and np.isnan(halves_agree(np.zeros((2, 19))))


def test_min_steps_hold_whatever_the_agreement():
    for least in (40, 100, 300):
        config = EstimatorConfig(min_steps=least, eval_every=20)
        assert looks(config, lambda step: members(0.0)) == (least, "accuracy")
        assert looks(config, lambda step: 5 * SIDE + ORDER) == (least, "accuracy")  # one seed


def test_the_paper_s_plain_reading_asks_for_the_accuracy_alone():
    config = EstimatorConfig(stop="accuracy", eval_every=20)
    assert looks(config, lambda step: members(1.0)) == (20, "accuracy")
    short = EstimatorConfig(stop="accuracy", eval_every=20, steps=200)
    assert looks(short, lambda step: ORDER) == (200, "steps")


def test_where_the_accuracy_is_out_of_reach_a_rising_held_out_loss_ends_it():
    """Half of the robots stay on the wrong side, more and more certainly: loss has its least."""
    wrong = np.where(np.arange(400) % 2 == 0, SIDE, 0.5)
    config = EstimatorConfig(steps=2000, eval_every=20)

    def logits_at(step):
        return wrong * step / 200 + ORDER / 10

    losses = {
        s: Stop(config, validation()).look(s, logits_at(s)[None])[0].loss
        for s in range(20, 2001, 20)
    }
    step, reason = looks(config, logits_at)
    assert reason == "loss" and 75 <= step < 2000
    half = step // 2 // 20 * 20
    assert losses[step] > losses[half]
    assert min(losses, key=losses.__getitem__) < step


def test_a_training_that_never_stops_keeps_the_step_of_the_lowest_held_out_loss():
    """Few rows in many dimensions that overlap: the training rows are learned by heart."""
    rng = np.random.default_rng(0)
    dim = 60

    def rows(count: int) -> np.ndarray:
        x = rng.normal(size=(count, dim))
        x[: count // 2, 0] += 0.7
        return x

    train_rows = rows(40)
    held = rows(200)
    validation = Examples(held, np.arange(200) < 100, (np.arange(200) < 100) * 1, np.arange(200))

    def trained(**settings):
        config = EstimatorConfig(seeds=1, batch=40, learning_rate=0.05, eval_every=10)
        config = config.model_copy(update={"stop": "accuracy", **settings})
        batches = (train_rows[None] for _ in range(config.steps))
        return train(config, batches, validation, mean=np.zeros(dim), scale=np.ones(dim))

    long = trained(stop_accuracy=0.999, steps=400)
    losses = np.array(long.history.val_loss)
    assert long.stopped == "steps" and len(losses) == 400
    assert long.history.kept == int(np.nanargmin(losses)) + 1 < 400
    assert np.nanmin(losses) < losses[-1] - 0.1  # the last step has overfitted
    exactly = trained(stop_accuracy=1.01, steps=long.history.kept)  # keeps its last step
    assert exactly.history.kept is None
    np.testing.assert_array_equal(long.weight, exactly.weight)
    np.testing.assert_array_equal(long.bias, exactly.bias)


def test_the_score_is_the_mean_of_seeds_and_their_deviation_stands_beside_it(separable: Made):
    estimator = run_stage(separable, "estimator", EstimatorConfig(seeds=4))
    stored = load_file(estimator.data / "weights.safetensors")
    assert stored["members"].shape == (4, 256) and stored["member_bias"].shape == (4,)
    np.testing.assert_allclose(
        stored["weight"], stored["members"].mean(axis=0), rtol=1e-5, atol=1e-8
    )
    table = Table(run_stage(separable, "score", ScoreConfig(sweep_sample=50)).data / "scores.lance")
    x = separable.features.take(range(separable.features.rows)).astype(np.float64)
    logits = x @ stored["members"].T.astype(np.float64) + stored["member_bias"]
    np.testing.assert_allclose(table.column("logit"), logits.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(table.column("spread"), logits.std(axis=1, ddof=1), atol=1e-4)
    metrics = separable.artifacts["score"].metrics
    in_pool = logits[separable.index.is_pool()].std(axis=1, ddof=1)
    assert metrics["spread"]["median"] == pytest.approx(np.median(in_pool), rel=1e-3)
    apart = [spearman(logits[:1500, 0], logits[:1500, k]) for k in range(1, 4)]
    assert max(apart) < 0.999  # each seed draws batches of its own


def test_one_seed_has_no_spread(separable: Made):
    run_stage(separable, "estimator", EstimatorConfig(seeds=1))
    score = run_stage(separable, "score", ScoreConfig(sweep_sample=50))
    assert np.isnan(Table(score.data / "scores.lance").column("spread")).all()
    assert score.metrics["spread"] is None
    assert separable.artifacts["estimator"].metrics["seed_agreement"] is None


def test_members_train_alone(separable: Made, tmp_path: Path):
    """A member's weights do not depend on how many others train beside it."""
    settings = {"stop": "accuracy", "stop_accuracy": 1.0, "steps": 20}
    two, four = (
        load_file(
            run_stage(separable, "estimator", EstimatorConfig(seeds=n, **settings)).data
            / "weights.safetensors"
        )["members"]
        for n in (2, 4)
    )
    np.testing.assert_allclose(two, four[:2], rtol=1e-6, atol=1e-9)
