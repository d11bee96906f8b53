"""Every metric against a slow plain reference, and against what its formula has to give in closed
form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_measures import kernel as k
from plain_measures import plain_diversity, plain_mmd2

from emt_core.errors import EmtError
from emt_core.proximity.metrics import calibration, diversity, kernel, mmd, ranking, sweep


def apart(x: np.ndarray, y: np.ndarray, sigma: float) -> float:
    return mmd.mmd2(mmd.mmd_means([x, y], sigma), *np.eye(2)).value


def varied(x: np.ndarray) -> float:
    return diversity.diversity(diversity.similarity_means([x]), np.ones(1)).value


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_mmd2_equals_the_plain_formula(rng):
    groups = [rng.normal(m, 1, (n, 7)) for m, n in ((0, 23), (0.5, 31), (2, 17))]
    means = mmd.mmd_means(groups, 2.0)
    one = np.eye(3)
    for i, j in ((0, 1), (1, 0), (2, 1)):
        wanted = plain_mmd2(groups[i], [groups[j]], 2.0)
        assert mmd.mmd2(means, one[i], one[j]).value == pytest.approx(wanted, abs=2e-6)
    assert mmd.mmd2(means, one[0], one[0]).value == 0
    both = plain_mmd2(groups[0], groups[1:], 2.0)
    assert mmd.mmd2(means, one[0], np.array([0, 0.5, 0.5])).value == pytest.approx(both, abs=2e-6)
    pairs = [mmd.mmd2(means, one[i], one[j]).value for i, j in ((0, 1), (0, 2))]
    assert mmd.mean_mmd2(means, [(0, 1), (0, 2)]).value == pytest.approx(np.mean(pairs))


def test_tiles_do_not_change_the_sum(rng, monkeypatch):
    x, y = rng.normal(size=(70, 5)), rng.normal(size=(45, 5))
    whole = kernel.group_means([x, y], 0.2)
    monkeypatch.setattr(kernel, "TILE", (16, 9))
    for rows, same in zip(kernel.group_means([x, y], 0.2).rows, whole.rows, strict=True):
        np.testing.assert_allclose(rows, same, atol=1e-6)


def test_each_row_has_its_mean_with_every_group_itself_left_out(rng):
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(6, 4))
    found = kernel.group_means([x, y, x[:1]], 0.3)
    np.testing.assert_allclose(found.rows[0][:, 1], k(x, y, 0.3).mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found.rows[1][:, 0], k(x, y, 0.3).mean(axis=0), atol=1e-6)
    others = (k(x, x, 0.3).sum(axis=1) - 1) / 8
    np.testing.assert_allclose(found.rows[0][:, 0], others, atol=1e-6)
    assert np.isnan(found.means[2, 2])
    np.testing.assert_allclose(found.means, found.means.T)


def test_a_far_common_mean_costs_no_precision(rng):
    x, y = rng.normal(0, 1, (40, 8)), rng.normal(0.7, 1, (40, 8))
    assert apart(x + 3000, y + 3000, 2.0) == pytest.approx(plain_mmd2(x, [y], 2.0), abs=1e-4)


def test_mmd_is_zero_on_average_for_one_distribution(rng):
    found = [apart(rng.normal(size=(30, 4)), rng.normal(size=(30, 4)), 2.0) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert min(found) < 0


def test_mmd_of_two_gaussians_has_its_closed_form(rng):
    """E[k] of N(a, I) and N(b, I) is (s^2 / (s^2 + 2))^(d/2) exp(-|a - b|^2 / 2(s^2 + 2))."""
    sigma = 2.0
    dim = 3
    shift = 1.5
    x, y = rng.normal(size=(4000, dim)), rng.normal(size=(4000, dim)) + shift / np.sqrt(dim)
    scale = (sigma**2 / (sigma**2 + 2)) ** (dim / 2)
    wanted = 2 * scale * (1 - np.exp(-(shift**2) / (2 * (sigma**2 + 2))))
    assert apart(x, y, sigma) == pytest.approx(wanted, abs=0.01)


def test_mmd_grows_with_the_shift(rng):
    x = rng.normal(size=(300, 6))
    values = [apart(x, rng.normal(size=(300, 6)) + shift, 3.0) for shift in (0, 0.3, 0.8, 2)]
    assert values == sorted(values)


@pytest.mark.parametrize("shift", [0.0, 0.4, 2.0])
def test_errors_are_how_far_samples_of_one_set_differ(rng, shift):
    """A fifth of a pool and half of a robot set, drawn again and again."""
    pool = np.concatenate([rng.normal(0, 1, (400, 6)), rng.normal(shift, 2, (600, 6))])
    robots = [rng.normal(shift, 0.6, (200, 6)), rng.normal(shift + 1, 0.6, (300, 6))]
    totals = [len(pool), *map(len, robots)]
    found = []
    for _ in range(200):
        sets = [(pool, 200), (robots[0], 100), (robots[1], 300)]
        parts = [x[rng.permutation(len(x))[:count]] for x, count in sets]
        means = mmd.mmd_means(parts, 3.0, totals)
        alike = diversity.similarity_means(parts[:1], totals[:1])
        near = mmd.mmd2(means, np.array([1, 0, 0]), np.array([0, 0.5, 0.5]))
        found.append((near, diversity.diversity(alike, np.ones(1))))
    wholes = (plain_mmd2(pool, robots, 3.0), plain_diversity(pool))
    for estimates, whole in zip(zip(*found, strict=True), wholes, strict=True):
        values = np.array([one.value for one in estimates])
        errors = np.array([one.error for one in estimates])
        assert values.mean() == pytest.approx(whole, abs=4 * values.std() / np.sqrt(200))
        # where no row differs from another in its mean, the error is up to sqrt(2) too large
        too_large = np.sqrt((errors**2).mean()) / values.std()
        assert 0.8 < too_large < (1.5 if shift == 0 else 1.2)


def test_whole_sets_have_no_error(rng):
    means = mmd.mmd_means([rng.normal(size=(30, 4)), rng.normal(size=(20, 4))], 2.0)
    assert mmd.mmd2(means, *np.eye(2)).error == 0


def test_sweeps_are_the_estimates_of_every_prefix(rng):
    rows = rng.standard_normal((700, 6))
    robots = [rng.standard_normal((30, 6)) + 1, rng.standard_normal((40, 6)) - 1]
    totals = [50, 40]
    among = mmd.mmd_means(robots, 2.0, totals)
    near, near_error = sweep.mmd2_sweep(rows, 2800, robots, among, 2.0)
    spread, spread_error = sweep.diversity_sweep(rows, 2800)
    assert np.isnan(near[0]) and np.isnan(spread[0])
    for n in (5, 40, 513, 700):
        means = mmd.mmd_means([rows[:n], *robots], 2.0, [4 * n, *totals])
        wanted = mmd.mmd2(means, np.array([1, 0, 0]), np.array([0, 0.5, 0.5]))
        assert near[n - 1] == pytest.approx(wanted.value, abs=1e-6)
        assert near_error[n - 1] == pytest.approx(wanted.error, rel=1e-3)
        alike = diversity.similarity_means([rows[:n]], [4 * n])
        wanted = diversity.diversity(alike, np.ones(1))
        assert spread[n - 1] == pytest.approx(wanted.value, rel=1e-5)
        assert spread_error[n - 1] == pytest.approx(wanted.error, rel=1e-3)


def test_the_median_distance_is_the_median_over_pairs(rng):
    x = rng.normal(size=(50, 6))
    distances = [np.linalg.norm(x[i] - x[j]) for i in range(50) for j in range(i)]
    assert kernel.median_distance(x) == pytest.approx(np.median(distances), rel=1e-5)


def test_equal_features_end_in_a_message_and_duplicates_do_not():
    with pytest.raises(EmtError, match="all features are equal"):
        kernel.median_distance(np.ones((10, 4)))
    mostly_equal = np.zeros((20, 3))
    mostly_equal[:2] = [[3, 0, 0], [0, 4, 0]]
    assert kernel.median_distance(mostly_equal) in (
        pytest.approx(3, rel=1e-4),
        pytest.approx(4, rel=1e-4),
    )


def test_normalized_by_the_largest_of_the_whole_matrix():
    matrix = np.array([[0, 2.0], [-0.1, 0]])
    np.testing.assert_allclose(mmd.normalize(matrix), [[0, 1], [0, 0]])
    np.testing.assert_allclose(mmd.normalize(np.zeros((2, 2))), 0)


def test_diversity_equals_the_plain_formula(rng):
    x = rng.normal(0.4, 1, (25, 6))
    assert varied(x) == pytest.approx(plain_diversity(x), rel=1e-5)
    assert varied(7 * x) == pytest.approx(varied(x), rel=1e-5)


def test_diversity_of_known_sets(rng):
    assert varied(np.ones((9, 4))) == pytest.approx(1, rel=1e-5)
    assert varied(np.eye(50)) == pytest.approx(np.exp(4), rel=1e-4)  # |u - v|^2 = 2 for all pairs
    assert np.isnan(varied(np.ones((1, 4))))
    x = rng.normal(size=(800, 5))
    assert varied(x[:200]) == pytest.approx(varied(x), rel=0.1)  # no drift with n


def test_diversity_of_a_mixture(rng):
    a, b = rng.normal(2, 1, (400, 5)), rng.normal(-2, 1, (400, 5))
    means = diversity.similarity_means([a, b])
    mixed = diversity.diversity(means, np.array([0.5, 0.5])).value
    assert mixed == pytest.approx(plain_diversity(np.concatenate([a, b])), rel=0.01)
    alone = diversity.diversity(means, np.array([1.0, 0])).value
    assert alone == pytest.approx(plain_diversity(a), rel=1e-5)


ranked = st.lists(
    st.tuples(st.booleans(), st.integers(-5, 5), st.floats(0.1, 3)), min_size=2, max_size=60
).filter(lambda rows: len({label for label, _, _ in rows}) == 2)


@settings(max_examples=60, deadline=None)
@given(ranked)
def test_ranking_agrees_with_counting_pairs_and_with_a_plain_loop(rows):
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    above, mass = 0.0, 0.0
    for p, weight_p in zip(scores[labels], weights[labels], strict=True):
        for n, weight_n in zip(scores[~labels], weights[~labels], strict=True):
            above += weight_p * weight_n * ((p > n) + 0.5 * (p == n))
            mass += weight_p * weight_n
    assert ranking.auroc(labels, scores, weights) == pytest.approx(above / mass, abs=1e-9)
    average, recall_before = 0.0, 0.0
    for cut in sorted(set(scores.tolist()), reverse=True):
        kept = weights[scores >= cut]
        hits = weights[(scores >= cut) & labels].sum()
        recall = hits / weights[labels].sum()
        average += (recall - recall_before) * hits / kept.sum()
        recall_before = recall
    assert ranking.average_precision(labels, scores, weights) == pytest.approx(average, abs=1e-9)


def test_curves_are_bounded_monotone_and_end_where_they_must(rng):
    labels, scores = rng.random(20_000) < 0.2, rng.normal(size=20_000)
    scores[labels] += 1.5
    roc = ranking.roc_curve(labels, scores, points=100)
    fpr, tpr = roc["false_positive_rate"], roc["true_positive_rate"]
    assert len(fpr) == len(tpr) == len(roc["threshold"]) <= 100
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert fpr == sorted(fpr) and tpr == sorted(tpr)
    assert np.trapezoid(tpr, fpr) == pytest.approx(ranking.auroc(labels, scores), abs=2e-3)
    pr = ranking.precision_recall_curve(labels, scores, points=100)
    assert len(pr["recall"]) <= 100 and pr["recall"][-1] == 1
    assert pr["precision"][-1] == pytest.approx(labels.mean())


def test_balanced_weights_give_each_class_and_each_robot_set_its_part():
    labels = np.array([1, 1, 1, 0, 0], bool)
    weights = ranking.balanced_weights(labels, np.array([7, 7, 9, 0, 1]))
    np.testing.assert_allclose(weights, [0.125, 0.125, 0.25, 0.25, 0.25])


def test_one_class_is_no_ranking():
    with pytest.raises(ValueError, match="both classes"):
        ranking.auroc(np.ones(3, bool), np.arange(3.0))
    with pytest.raises(ValueError, match="finite"):
        ranking.auroc(np.array([True, False]), np.array([0, np.nan]))


def test_reliability_against_a_plain_loop(rng):
    p, weights = rng.random(500), rng.random(500)
    labels = rng.random(500) < p**2
    found = calibration.reliability(labels, p, weights, bins=10)
    error = 0.0
    for b in range(10):
        inside = (p >= b / 10) & (p < (b + 1) / 10)
        mass = weights[inside].sum()
        error += (
            abs(np.dot(weights[inside], labels[inside] - p[inside]) / mass) * mass / weights.sum()
        )
    assert found.expected_error == pytest.approx(error, abs=1e-9)
    assert sum(found.weight) == pytest.approx(1)
    brier = np.average((p - labels) ** 2, weights=weights)
    assert calibration.brier(labels, p, weights) == pytest.approx(brier)


def test_calibrated_probabilities_have_a_small_error_and_certainty_is_kept(rng):
    p = rng.random(50_000)
    assert calibration.reliability(rng.random(50_000) < p, p).expected_error < 0.01
    assert (
        calibration.reliability(np.array([True, False]), np.array([1.0, 0.0])).expected_error == 0
    )
    np.testing.assert_allclose(calibration.sigmoid(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])
