"""Probes find a planted signal, and none in shuffled answers; intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from emt_core.evaluation.probe_scores import difference_of, score_of
from emt_core.training.probe.fits import HEADS, Task, errors_of, folds_of

EPISODES = 30
EACH = 6
LEAST = {"linear": 0.8, "mlp": 0.6}
"""R^2 of a signal that is linear, from 125 frames."""


def asked(seed: int = 0, *, shuffled: bool = False, classes: bool = False) -> Task:
    """Features of which one direction tells the target; every sixth episode is unseen."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(EPISODES * EACH, 24)).astype(np.float32)
    target = features[:, :2] @ rng.normal(size=(2, 3)) + 0.1 * rng.normal(size=(len(features), 3))
    if classes:
        target = (features[:, 0] > 0).astype(np.int64)
    if shuffled:
        target = rng.permutation(target)
    episode = np.repeat(np.arange(EPISODES), EACH)
    return Task(features=features, target=target, episode=episode, seen=episode % 6 != 0)


def scored(task: Task, head: str, *, seen: bool = True) -> float:
    places = np.unique(task.episode[task.seen])
    fold = np.full(EPISODES, -1)
    fold[places] = folds_of(places, ["t"] * len(places), 5, 0)
    errors = errors_of(task, head, fold[task.episode], hidden=(32,), seed=0)
    mine = task.seen == seen
    return score_of(errors.error[mine], errors.base[mine]).score


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("classes", [False, True])
def test_a_planted_signal_is_found_and_none_in_shuffled_answers(head: str, classes: bool):
    found = scored(asked(classes=classes), head)
    none = scored(asked(classes=classes, shuffled=True), head)
    if classes:
        assert found > 0.85 and 0.35 < none < 0.65
    else:
        assert found > LEAST[head] and none < 0.1
        assert scored(asked(), head, seen=False) > LEAST[head]


def test_a_probe_never_learns_from_the_episode_that_it_is_tested_on():
    """Noise that is the same within an episode: a probe that saw a frame of it would know it."""
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(EPISODES), EACH)
    code = rng.normal(size=(EPISODES, 40))[episode].astype(np.float32)
    answer = rng.normal(size=(EPISODES, 1))[episode]
    task = Task(features=code, target=answer, episode=episode, seen=episode >= 0)
    for head in HEADS:
        assert scored(task, head) < 0.2


def test_folds_spread_every_task():
    tasks = ["a", "b"] * 10
    fold = folds_of(np.arange(20), tasks, 5, 0)
    for task in ("a", "b"):
        mine = [fold[n] for n in range(20) if tasks[n] == task]
        assert sorted(mine) == sorted([*range(5)] * 2)
    assert not np.array_equal(fold, folds_of(np.arange(20), tasks, 5, 1))


def test_a_numbers_dimension_that_never_moves_is_no_merit():
    task = asked()
    still = np.concatenate([task.target, np.full((len(task.target), 1), 0.5)], 1)
    with_still = Task(features=task.features, target=still, episode=task.episode, seen=task.seen)
    assert scored(with_still, "linear") == pytest.approx(scored(task, "linear"), abs=1e-6)


def test_an_interval_covers_and_a_paired_difference_is_narrower():
    rng = np.random.default_rng(0)
    base = np.full(60, 10.0)
    hard = rng.gamma(4, 1, 60)  # some episodes are hard for every model
    covered = 0
    for _ in range(100):
        drawn = rng.choice(len(hard), 40)
        score = score_of(hard[drawn], base[drawn])
        covered += score.low <= 1 - hard.sum() / base.sum() <= score.high
    assert covered >= 85
    better = hard - 0.3
    apart = difference_of(better, hard, base)
    assert apart.low > 0 and apart.score == pytest.approx(0.03)
    alone = score_of(hard, base)
    assert apart.high - apart.low < 0.1 * (alone.high - alone.low)
