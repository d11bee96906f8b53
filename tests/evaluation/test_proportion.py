"""Intervals and paired tests, against published values and against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from emt_core.evaluation.proportion import holm, mcnemar, paired, wilson


def test_wilson_intervals():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson(81, 263) == pytest.approx((0.25530, 0.36620), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(150, 300) == pytest.approx((0.4438, 0.5562), abs=1e-4)
    assert wilson(50, 50)[1] == 1.0


def test_mcnemar_is_the_binomial_tail():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(10, 2) == pytest.approx(0.03857, abs=1e-5)
    assert mcnemar(6, 6) == 1.0


def test_holm_keeps_the_order_given_and_never_exceeds_one():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_paired_outcomes_are_compared_case_by_case():
    better = [1, 1, 1, 1, 1, 1, 0, 0, 1, 1]
    worse = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    found = paired(better, worse)
    assert (found.cases, found.better, found.worse) == (10, 6, 0)
    assert found.difference == pytest.approx(0.6)
    assert found.low < 0.6 < found.high
    assert found.p == pytest.approx(2 / 64)
    assert "McNemar" in found.test
    turned = paired(worse, better)
    assert (turned.difference, turned.p) == (pytest.approx(-0.6), found.p)


def test_chains_are_compared_by_how_far_they_came():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 4, 200) / 5
    further = paired(base + 0.2, base)
    assert "permutation" in further.test
    assert further.p < 0.001
    assert further.difference == pytest.approx(0.2)
    assert paired(base, base).p == 1.0


def test_two_equal_policies_are_seldom_called_different():
    rng = np.random.default_rng(1)
    found = [paired(rng.random(50) < 0.5, rng.random(50) < 0.5, draws=200) for _ in range(200)]
    assert sum(f.p < 0.05 for f in found) <= 14  # exact tests keep below 5 %; 14 of 200 is 7 %
    assert sum(not f.low <= 0 <= f.high for f in found) <= 24


def test_cases_have_to_match():
    with pytest.raises(ValueError, match="two outcomes"):
        paired([1, 0], [1])
    with pytest.raises(ValueError, match="two outcomes"):
        paired([], [])
