"""Figures hold the data that went in, and their size does not grow with the pool."""

from __future__ import annotations

import re
import tomllib

import numpy as np
import pandas as pd
import pytest
from places import ROOT

from emt_core.explore import numbers
from emt_core.explore.figures import estimator, palette
from emt_core.explore.figures import scores as distributions
from emt_core.explore.figures import select as composition
from emt_core.explore.figures.comparison import in_and_out
from emt_core.explore.figures.sweep import FIRST_ROWS, sweep
from emt_core.explore.tables.scores import (
    beyond,
    bin_edges,
    bins_for,
    distribution,
    superiority,
    to_scale,
)


def lumps(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    codes = rng.integers(0, 3, n).astype(np.int16)
    return (codes * 2 + rng.normal(size=n)).astype(np.float32), codes


# numbers and palette


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (987, "987"),
        (9876, "9,876"),
        (12_345, "12.3 k"),
        (1_200_000, "1.2 M"),
        (3.1e9, "3.1 G"),
        (None, "–"),
    ],
)
def test_short_counts(value, text):
    assert numbers.short(value) == text


def test_other_numbers():
    assert numbers.whole(1234567) == "1,234,567"
    assert numbers.counted(1, "sample") == "1 sample"
    assert numbers.counted(1200, "sample") == "1,200 samples"
    assert numbers.share(0.2934) == "29.3 %"
    assert numbers.share(0.0) == "0.0 %"
    assert numbers.share(1e-5) == "< 0.1 %"
    assert numbers.logit(2.314) == "+2.31"
    assert numbers.logit(-0.07) == "−0.07"
    assert numbers.logit(-5.54e34) == "−5.5e+34" and numbers.decimal(5.54e34) == "5.5e+34"
    assert numbers.decimal(0.00001) == "1.0e-05"
    assert numbers.change(0.5, 0.25) == "+25.0 points"
    assert numbers.change(None, 0.25) is None
    assert numbers.logit(float("nan")) == numbers.MISSING
    assert numbers.probability(0) == 0.5
    assert numbers.probability(-800) == 0.0


def test_a_source_keeps_its_color_and_robots_are_orange():
    names, roles = ["a", "b", "arm", "c"], ["pool", "pool", "robot", "pool"]
    found = palette.source_colors(names, roles)
    assert found["arm"] == palette.ROBOT
    assert len(set(found.values())) == 4
    assert palette.source_colors(["a", "b"], ["pool", "pool"])["b"] == found["b"]
    assert palette.category_colors(["spatial", "new"])["new"] == palette.UNKNOWN_CATEGORY


def test_every_category_has_a_color_of_its_own():
    from emt_core.selection.category import CATEGORIES

    assert set(CATEGORIES) == set(palette.CATEGORY)
    assert len(set(palette.CATEGORY.values())) == len(palette.CATEGORY)
    assert palette.ROBOT not in palette.CATEGORY.values()


def test_theme_has_the_palette_and_is_safe():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert tuple(config["theme"]["chartCategoricalColors"]) == palette.SOURCE_CYCLE
    assert config["server"]["enableXsrfProtection"] is True
    assert config["server"]["enableCORS"] is True
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["fileWatcherType"] == "none"
    assert config["browser"]["gatherUsageStats"] is False
    for side in ("light", "dark"):
        assert re.fullmatch("#[0-9A-F]{6}", config["theme"][side]["backgroundColor"])


# distributions


def test_distribution_counts_every_finite_value_once():
    rng = np.random.default_rng(0)
    values, codes = lumps(rng, 5000)
    values[::50] = np.nan
    data = distribution(values, codes, ("a", "b", "c"), bin_edges(values, "logit"))
    assert data.totals.sum() == np.isfinite(values).sum()
    for place in range(3):
        mine = values[(codes == place) & np.isfinite(values)]
        assert data.mean[place] == pytest.approx(mine.mean(), abs=1e-4)
        width = data.edges[1] - data.edges[0]
        assert np.allclose(
            data.quantiles[place],
            np.quantile(mine, [0.05, 0.25, 0.5, 0.75, 0.95]),
            atol=1.5 * width,
        )
        assert (data.density[place] * width).sum() == pytest.approx(1)
    assert data.by_median().names == ("c", "b", "a")
    assert data.pick(["b", "none"]).names == ("b",)


def test_distribution_of_nothing():
    nothing = np.full(4, np.nan, np.float32)
    data = distribution(nothing, np.zeros(4, np.int16), ("a",), bin_edges(nothing, "logit"))
    assert data.totals.tolist() == [0]
    assert np.isnan(data.mean[0])
    assert data.by_median().names == ()
    assert len(distributions.violins(data, {}, axis="score").data) == 0


def test_one_perplexity_of_e80_leaves_the_others_readable():
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(10, 2, 5000), [np.exp(80), -np.exp(80), np.nan]]).astype(
        np.float32
    )
    robot = np.zeros(len(values), bool)
    robot[:10], values[:10] = True, 60  # ten robots beside a large pool are no outliers
    edges = bin_edges(values, "score", apart=robot)
    assert edges[0] < 4 and 60 <= edges[-1] < 90
    assert beyond(values, edges) == 2
    data = distribution(values, robot.astype(np.int16), ("pool", "robot"), edges)
    assert data.totals.tolist() == [4992, 10]
    assert data.counts[0, 0] == 1 and data.counts[0, -1] == 1
    assert data.quantiles[0, 2] == pytest.approx(10, abs=0.5)
    assert bin_edges(values[:5000], "logit")[[0, -1]] == pytest.approx([values[:5000].min(), 60])
    uniform = rng.uniform(0, 1, 5000).astype(np.float32)  # nothing lies far out: nothing is cut off
    assert bin_edges(uniform, "score")[[0, -1]] == pytest.approx([uniform.min(), uniform.max()])


def test_a_score_slider_reaches_what_can_be_told_apart():
    from pages.parts.score_slider import score_slider

    rng = np.random.default_rng(5)
    for scores in (
        rng.normal(0, 2, 4000),
        rng.normal(-160, 60, 4000),
        rng.uniform(0, 0.02, 50),
        np.full(3, 7.0),
    ):
        falling = np.sort(scores)[::-1]
        slider = score_slider(len(falling), lambda ranks, falling=falling: falling[ranks])
        assert slider.low <= falling[-1] and slider.high >= falling[0] and slider.low < slider.high
        assert (slider.high - slider.low) / slider.step <= 3002
        assert slider.format % slider.step == slider.format % float(slider.format % slider.step)
    far = np.concatenate([[np.exp(80)], np.sort(rng.normal(0, 2, 4000))[::-1]])
    slider = score_slider(len(far), lambda ranks: far[ranks])
    assert 5 < slider.high < 12 and slider.step == 0.01 and slider.format == "%.2f"


def test_every_kind_of_measure_says_what_its_score_is():
    from typing import get_args

    from emt_core.explore.tables.score_scale import OF_KIND
    from emt_core.proximity.base import measure_of
    from emt_core.recipe.proximity import Kind

    assert set(OF_KIND) == set(get_args(Kind))
    for kind, scale in OF_KIND.items():
        assert scale.is_logit == measure_of(kind).LOGIT
        assert ("logit" in scale.title) == scale.is_logit


def test_probability_scale_keeps_the_order():
    logit = np.array([-800, -1, 0, 1, 800], np.float32)
    assert np.all(np.diff(to_scale(logit, "probability")) >= 0)
    assert bin_edges(logit, "probability")[[0, -1]].tolist() == [0, 1]
    assert bins_for(10) == 40
    assert bins_for(10**7) == 160


def test_superiority_is_the_area_under_the_curve():
    from emt_core.proximity.metrics.ranking import auroc

    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 1, 3000).astype(np.float32), rng.normal(0, 1, 3000).astype(np.float32)
    values, codes = np.concatenate([a, b]), np.repeat([0, 1], 3000)
    data = distribution(values, codes, ("a", "b"), bin_edges(values, "logit"))
    exact = auroc(codes == 0, values)
    assert superiority(data.counts[0], data.counts[1]) == pytest.approx(exact, abs=0.005)
    assert np.isnan(superiority(data.counts[0], np.zeros_like(data.counts[0])))


@pytest.mark.parametrize("log", [False, True])
def test_histogram_traces_hold_the_densities(log):
    values, codes = lumps(np.random.default_rng(2), 900)
    data = distribution(values, codes, ("pool", "robot", "other"), bin_edges(values, "logit", 60))
    figure = distributions.histogram(data, palette.ROLE, axis="− distance", log=log, cut=1.0)
    assert figure.layout.xaxis.title.text == "− distance"
    assert len(figure.data) == 3
    assert figure.data[1].line.color == palette.ROBOT
    assert np.nansum(figure.data[0].customdata) == data.totals[0]
    shown = np.asarray(figure.data[0].y, float)
    assert np.allclose(np.nan_to_num(shown), data.density[0])
    assert (figure.layout.yaxis.type == "log") == log
    assert [shape.x0 for shape in figure.layout.shapes] == [1.0]


def test_violins_are_bounded_and_in_order():
    values, codes = lumps(np.random.default_rng(3), 200_000)
    data = distribution(values, codes, ("a", "b", "c"), bin_edges(values, "logit")).by_median()
    figure = distributions.violins(data, {"a": "#111111"}, axis="score")
    assert len(figure.to_json()) < 60_000
    assert list(figure.layout.yaxis.ticktext) == [
        "a",
        "b",
        "c",
    ]  # bottom to top: the highest median is on top
    assert figure.data[1].x[1] == pytest.approx(data.quantiles[0, 2])
    assert max(figure.data[0].y) <= 2 + distributions.VIOLIN_HALF + 1e-9


# composition, estimator, sweep


def test_before_after_shows_shares_and_leaves_out_the_empty():
    figure = composition.before_after(
        ["a", "b", "gone"], [30, 10, 0], [5, 15, 0], {"a": "#112233", "b": "#445566"}
    )
    chosen, pool = figure.data
    assert list(pool.y) == ["b", "a"]
    assert list(pool.x) == [0.25, 0.75]
    assert list(chosen.x) == [0.75, 0.25]
    assert list(chosen.customdata) == [15, 5]


def test_shares_bar():
    figure = composition.shares_bar(["a", "b", "c"], [1, 3, 0], {})
    assert list(figure.data[0].y) == ["a", "b"]
    assert list(figure.data[0].text) == ["25.0 %", "75.0 %"]


def test_training_curve_is_thinned_and_marks_the_stop():
    n = 5000
    steps = pd.DataFrame(
        {
            "step": range(n),
            "loss": 1.0,
            "train_accuracy": 0.5,
            "val_loss": np.nan,
            "val_accuracy": np.nan,
        }
    )
    steps.loc[steps["step"] % 5 == 0, ["val_loss", "val_accuracy"]] = [0.7, 0.8]
    figure = estimator.training(steps, stopped_at=n - 1, target=0.9)
    assert all(len(trace.x) <= estimator.MAX_POINTS for trace in figure.data)
    assert [shape.x0 for shape in figure.layout.shapes if shape.line.color == palette.MARK] == [
        n - 1
    ] * 2
    assert set(figure.data[1].y) == {0.7}


def test_reliability_and_roc_hold_their_points():
    bins = {"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "weight": [0.5, 0.5]}
    figure = estimator.reliabilities({"one": bins}, {})
    assert list(figure.data[1].y) == [0.2, 0.8]


def test_sweep_starts_where_it_is_no_noise():
    n = 2000
    table = pd.DataFrame(
        {"diversity": np.linspace(1, 2, n), "mmd2_to_robot": np.linspace(0.1, 0.4, n)}
    )
    figure = sweep(table, at_share=0.25)
    assert len(figure.data) == 2
    assert figure.data[0].x[0] == pytest.approx((FIRST_ROWS + 1) / n)
    assert len(figure.data[0].x) <= 400
    assert {shape.x0 for shape in figure.layout.shapes} == {0.25}


def test_in_and_out_points_both_ways():
    figure = in_and_out(["a", "b", "c"], np.array([3, 0, 0]), np.array([1, 5, 0]), {"a": "#112233"})
    came, went = figure.data
    assert list(came.y) == ["a", "b"]
    assert list(came.x) == [3, 0]
    assert list(went.x) == [-1, -5]
