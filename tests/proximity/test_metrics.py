"""Every metric against a slow plain reference, and against what its formula has to give in closed
form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_core.errors import EmtError
from emt_core.proximity.metrics import calibration, diversity, kernel, mmd, ranking


def slow_mmd2(x, y, sigma, unbiased):
    def k(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * sigma**2))

    def within(z):
        pairs = [
            k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if not (unbiased and i == j)
        ]
        return np.mean(pairs)

    return within(x) - 2 * np.mean([k(a, b) for a in x for b in y]) + within(y)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("unbiased", [False, True])
def test_mmd2_equals_the_plain_double_loop(rng, unbiased):
    groups = [rng.normal(m, 1, (n, 7)) for m, n in ((0, 23), (0.5, 31), (2, 17))]
    matrix = mmd.mmd2_matrix(groups, 2.0, unbiased=unbiased)
    for i, x in enumerate(groups):
        for j, y in enumerate(groups):
            wanted = 0.0 if i == j else slow_mmd2(x, y, 2.0, unbiased)
            assert matrix[i, j] == pytest.approx(wanted, abs=2e-6)


def test_tiles_do_not_change_the_sum(rng, monkeypatch):
    x, y = rng.normal(size=(70, 5)), rng.normal(size=(45, 5))
    whole = mmd.mmd2(x, y, 1.5)
    monkeypatch.setattr(kernel, "TILE", (16, 9))
    assert mmd.mmd2(x, y, 1.5) == pytest.approx(whole, abs=1e-6)


def test_kernel_means_are_the_plain_formula(rng):
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(6, 4))
    wanted = np.exp(-0.3 * ((x[:, None] - y[None]) ** 2).sum(-1))
    assert kernel.kernel_means([x, y], 0.3)[0, 1] == pytest.approx(wanted.mean(), abs=1e-6)


def test_a_far_common_mean_costs_no_precision(rng):
    x, y = rng.normal(0, 1, (40, 8)), rng.normal(0.7, 1, (40, 8))
    assert mmd.mmd2(x + 3000, y + 3000, 2.0) == pytest.approx(slow_mmd2(x, y, 2.0, False), abs=1e-4)


def test_unbiased_mmd_is_zero_on_average_for_one_distribution_and_biased_is_not(rng):
    draws = [(rng.normal(size=(30, 4)), rng.normal(size=(30, 4))) for _ in range(400)]
    unbiased = np.array([mmd.mmd2(x, y, 2.0, unbiased=True) for x, y in draws])
    biased = np.array([mmd.mmd2(x, y, 2.0) for x, y in draws])
    assert abs(unbiased.mean()) < 4 * unbiased.std() / np.sqrt(len(draws))
    assert (unbiased < 0).any() and biased.min() >= 0 and biased.mean() > 10 * abs(unbiased.mean())


def test_mmd_of_two_gaussians_has_its_closed_form(rng):
    """E[k] of N(a, I) and N(b, I) is (s^2 / (s^2 + 2))^(d/2) exp(-|a - b|^2 / 2(s^2 + 2))."""
    sigma = 2.0
    dim = 3
    shift = 1.5
    x, y = rng.normal(size=(4000, dim)), rng.normal(size=(4000, dim)) + shift / np.sqrt(dim)
    scale = (sigma**2 / (sigma**2 + 2)) ** (dim / 2)
    wanted = 2 * scale * (1 - np.exp(-(shift**2) / (2 * (sigma**2 + 2))))
    assert mmd.mmd2(x, y, sigma, unbiased=True) == pytest.approx(wanted, abs=0.01)


def test_mmd_grows_with_the_shift(rng):
    x = rng.normal(size=(300, 6))
    values = [mmd.mmd2(x, rng.normal(size=(300, 6)) + shift, 3.0) for shift in (0, 0.3, 0.8, 2)]
    assert values == sorted(values)


def test_a_mixture_is_the_weighted_sample(rng):
    """Groups of equal size mixed by halves are the concatenated sample, for the V-statistic
    exactly."""
    a, b, c = (rng.normal(m, 1, (20, 4)) for m in (0, 1, 3))
    means = mmd.group_means([a, b, c], 2.0)
    mixed = mmd.mixture_mmd2(means, np.array([0.5, 0.5, 0]), np.array([0, 0, 1.0]))
    assert mixed == pytest.approx(slow_mmd2(np.concatenate([a, b]), c, 2.0, False), abs=2e-6)


def test_median_sigma_is_the_median_distance_and_seeded(rng):
    x = rng.normal(size=(50, 6))
    distances = [np.linalg.norm(x[i] - x[j]) for i in range(50) for j in range(i)]
    assert kernel.median_distance(x) == pytest.approx(np.median(distances), rel=1e-5)
    groups = [rng.normal(size=(3000, 4)), rng.normal(size=(100, 4))]
    assert mmd.median_sigma(groups, 3) == mmd.median_sigma(groups, 3) != mmd.median_sigma(groups, 4)


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


def test_diversity_equals_the_plain_loop_without_self_pairs(rng):
    x = rng.normal(0.4, 1, (25, 6))
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [
        np.exp(-2 * np.sum((u[i] - u[j]) ** 2)) for i in range(25) for j in range(25) if i != j
    ]
    assert diversity.diversity(x) == pytest.approx(1 / np.mean(pairs), rel=1e-5)
    assert diversity.diversity(7 * x) == pytest.approx(diversity.diversity(x), rel=1e-5)


def test_diversity_of_known_sets(rng):
    assert diversity.diversity(np.ones((9, 4))) == pytest.approx(1, rel=1e-5)
    assert diversity.diversity(np.eye(50)) == pytest.approx(
        np.exp(4), rel=1e-4
    )  # |u - v|^2 = 2 for all pairs
    assert np.isnan(diversity.diversity(np.ones((1, 4))))
    x = rng.normal(size=(800, 5))
    assert diversity.diversity(x[:200]) == pytest.approx(
        diversity.diversity(x), rel=0.1
    )  # no drift with n


def test_diversity_of_a_mixture(rng):
    a, b = rng.normal(2, 1, (400, 5)), rng.normal(-2, 1, (400, 5))
    means = diversity.similarity_means([a, b])
    mixed = diversity.mixture_diversity(means, np.array([0.5, 0.5]))
    assert mixed == pytest.approx(diversity.diversity(np.concatenate([a, b])), rel=0.01)
    assert diversity.mixture_diversity(means, np.array([1.0, 0])) == pytest.approx(
        diversity.diversity(a), rel=1e-6
    )


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
