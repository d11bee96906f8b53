"""What the Gap and Estimator pages say: order, ranking, sentences, neighbours against slow
references, figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic import make_workspace, pool, robot

from emt_core.data.features import Features
from emt_core.data.images.thumbnails import placeholder
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.explore.figures import estimator as estimators
from emt_core.explore.figures import gap
from emt_core.explore.figures import scores as distributions
from emt_core.explore.figures import sources as source_mix
from emt_core.explore.tables.contact_strip import contact_strip, handful
from emt_core.explore.tables.estimator import confusion, remarks
from emt_core.explore.tables.gap import (
    ALL_ROBOTS,
    cluster_order,
    matrix_table,
    nearest_sources,
    reading,
)
from emt_core.explore.tables.measured import Measured
from emt_core.explore.tables.neighbor_pairs import Frames, drawn, nearest_of_all, row_in_role
from emt_core.explore.tables.scores import bin_edges, distribution, joined, to_scale
from emt_core.proximity.neighbors import pool_bank
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import after_reading

SOURCES = [
    pool("web", 300, text_only=0.1, no_vector=0.05),
    pool("near", 40, mean=2.0),
    robot("arm", 96, mean=3.0),
]
FACTS = {
    "sources": ["far", "near", "arm", "hand"],
    "roles": ["pool", "pool", "robot", "robot"],
    "mmd2": [
        [0.0, 0.5, 0.9, 0.8],
        [0.5, 0.0, 0.2, 0.7],
        [0.9, 0.2, 0.0, 0.1],
        [0.8, 0.7, 0.1, 0.0],
    ],
    "mmd2_normalized": (
        np.array([[0, 5, 9, 8], [5, 0, 2, 7], [9, 2, 0, 1], [8, 7, 1, 0]]) / 9
    ).tolist(),
    "groups": {
        "within_pool": 0.5,
        "within_robot": 0.1,
        "across": 0.65,
        "to_robot": {"far": 0.85, "near": 0.4, "arm": 0.05, "hand": 0.06},
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("gap") / "ws", SOURCES)


@pytest.fixture(scope="module")
def index(made) -> Index:
    return Index(made.artifacts["sources"])


@pytest.fixture(scope="module")
def features(made) -> Features:
    return Features.at(made.artifacts["embed"].data / "features.lance")


def test_clustered_order_puts_near_ones_side_by_side():
    rng = np.random.default_rng(0)
    spots = np.array([0.0, 10.0, 0.1, 10.1, 0.2]) + rng.normal(0, 0.01, 5)
    distances = np.abs(spots[:, None] - spots[None])
    order = cluster_order(distances)
    assert sorted(order) == list(range(5))
    assert {frozenset(order[:3]), frozenset(order[:2])} & {frozenset({0, 2, 4}), frozenset({1, 3})}
    assert cluster_order(distances - 0.2)  # unbiased estimates may lie below zero
    assert cluster_order(distances[:2, :2]) == [0, 1]


def test_the_matrix_keeps_its_names_in_any_order():
    table = matrix_table(FACTS, [2, 0, 3, 1], normalized=False)
    assert list(table.columns) == list(table.index) == ["arm", "far", "hand", "near"]
    assert table.loc["arm", "near"] == 0.2
    assert matrix_table(FACTS, [0, 1, 2, 3], normalized=True).to_numpy().max() == 1


def test_nearest_sources_are_ranked_for_each_robot_set():
    found = nearest_sources(FACTS)
    assert list(found) == [ALL_ROBOTS, "arm", "hand"]
    assert found["arm"] == [("near", Measured(0.2)), ("far", Measured(0.9))]
    assert found[ALL_ROBOTS][0] == ("near", Measured(0.4))
    assert nearest_sources({**FACTS, "roles": ["pool"] * 4}) == {}


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (
            {"within_pool": 0.5, "within_robot": 0.1, "across": 0.65},
            "1.3x farther apart across groups",
        ),
        ({"within_pool": 0.5, "within_robot": 0.4, "across": 0.3}, "are not apart"),
        ({"within_pool": 0.5, "within_robot": 0.1, "across": 0.3}, "Some pool sources"),
        ({"within_pool": 0.1, "within_robot": 0.5, "across": 0.3}, "Some robot sets"),
        ({"within_pool": None, "within_robot": None, "across": 0.3}, "too few sources"),
    ],
)
def test_the_gap_in_a_sentence(groups, says):
    assert says in reading({**FACTS, "groups": groups})


@pytest.mark.parametrize(
    ("distances", "says"),
    [
        ([0.9, 0.8], None),
        ([0.9, 0.2], "But p1 is nearer to the robot sets than these to one another."),
        ([0.2, 0.9, 0.1], "But p2 and p0 are nearer"),
        ([0.9, 0.1, 0.15, 0.2, 0.25, 0.28, 0.29], "But p1, p2, p3, p4 and 2 more are nearer"),
    ],
)
def test_the_sentence_names_pool_sources_that_lie_among_the_robot_sets(distances, says):
    count = len(distances)
    values = np.zeros((count + 2, count + 2))
    values[:count, count:] = np.array(distances)[:, None] + [0.05, -0.05]
    facts = {
        "sources": [f"p{place}" for place in range(count)] + ["arm", "hand"],
        "roles": ["pool"] * count + ["robot"] * 2,
        "mmd2": values.tolist(),
        "groups": {"within_pool": 0.2, "within_robot": 0.3, "across": 0.5},
    }
    assert (" But " in reading(facts)) == (says is not None)
    assert (says or "") in reading(facts)


def test_pool_bank_is_exact_when_small_and_bounded_when_not(index, features):
    whole = pool_bank(index, features)
    assert whole.total == 340
    ok = features.ok()
    assert whole.rows.tolist() == [row for row in range(340) if ok[row]]
    part = pool_bank(index, features, limit=50)
    assert len(part.rows) <= 50
    assert (part.rows >= 300).sum() >= 5  # a small source keeps a floor
    assert part.rows.tolist() == pool_bank(index, features, limit=50).rows.tolist()
    query = features.take([380])[0].astype(np.float32)
    rows, distances = whole.nearest(query, 5)
    vectors = features.take(whole.rows).astype(np.float64)
    slow = np.linalg.norm(vectors - query, axis=1)
    assert rows.tolist() == whole.rows[np.argsort(slow, kind="stable")[:5]].tolist()
    assert distances == pytest.approx(np.sort(slow)[:5], rel=1e-5)


def test_one_pass_finds_what_a_slow_search_finds(index, features):
    pool_rows = index.is_pool()
    rows, distances, searched = nearest_of_all(features, 380, pool_rows, 6)
    ok = features.ok()
    candidates = np.flatnonzero(pool_rows & ok)
    slow = np.linalg.norm(
        features.take(candidates).astype(np.float64) - features.take([380])[0], axis=1
    )
    assert rows.tolist() == candidates[np.argsort(slow, kind="stable")[:6]].tolist()
    assert distances == pytest.approx(np.sort(slow)[:6], rel=1e-4)
    assert searched == len(candidates)
    own, _, _ = nearest_of_all(features, 380, ~pool_rows, 3)
    assert 380 not in own
    without = int(np.flatnonzero(~ok)[0])
    with pytest.raises(EmtError, match="no feature"):
        nearest_of_all(features, without, pool_rows, 3)


def test_samples_are_picked_by_id_episode_or_chance(index, features):
    assert row_in_role(index, "arm:3", "robot") == 343
    with pytest.raises(EmtError, match="not of role pool"):
        row_in_role(index, "arm:3", "pool")
    ok = features.ok()
    for seed in range(20):
        row = drawn(index, features, "pool", seed)
        assert row is not None
        assert row < 340
        assert ok[row]
    assert drawn(index, features, "robot", 1) == drawn(index, features, "robot", 1)
    frames = Frames.of(index, index.of_role("robot")[0])
    first = frames.rows_of(int(frames.episode[0]))
    assert first[0] == 340
    assert set(frames.episode[first - 340]) == {int(frames.episode[0])}
    assert frames.nearest_episode(10**6) == frames.episode[-1]


def test_a_handful_is_seeded_has_images_and_spreads_over_episodes(index):
    web, arm = index.sources[0], index.sources[2]
    found = handful(index, web, 6)
    assert len(found) == 6
    assert all(sample.images for _, sample in found)
    assert [row for row, _ in found] == [row for row, _ in handful(index, web, 6)]
    assert [row for row, _ in found] != [row for row, _ in handful(index, web, 6, seed=1)]
    episodes = [sample.episode for _, sample in handful(index, arm, 5)]
    assert len(set(episodes)) == len(episodes)
    strip = contact_strip([placeholder(64)] * 2, columns=3, side=32)
    assert strip[:4] == b"RIFF"


def test_the_chain_after_a_reading_holds_nothing_of_another(made):
    space: Workspace = made.workspace
    other = make_workspace(space.path, [pool("web", 10), robot("arm", 16)], seed=9)
    done = {"sources": made.artifacts["sources"], "embed": made.artifacts["embed"]}
    chain = after_reading(space, done, other.artifacts["sources"])
    assert not chain.has("embed")
    assert after_reading(space, done, made.artifacts["sources"]).has("sources", "embed")


@pytest.mark.parametrize(
    ("metrics", "levels", "says"),
    [
        ({"auroc": 0.999, "steps": 10, "graded_share": 0.2}, ["warn", "warn"], "Almost separable"),
        (
            {"auroc": 0.95, "graded_share": 0.9, "calibration_error": 0.2},
            ["good", "good", "look"],
            "separated well",
        ),
        ({"auroc": 0.8, "stopped": "steps", "steps": 60}, ["look", "look"], "weak ranking"),
        (
            {"auroc": 0.5, "auroc_by_robot": {"a": 0.9, "b": 0.5}},
            ["warn", "look"],
            "better than chance",
        ),
        (
            {"auroc": 0.95, "first_look_accuracy": 0.97, "stopped": "accuracy"},
            ["good", "warn"],
            "Separable at the first look (97.0% after 5 steps)",
        ),
        (
            {"first_look_accuracy": 0.97, "stopped": "steps", "steps": 3, "val_accuracy": 0.97},
            ["warn", "look"],
            "Separable at the first look (97.0% after 3 steps)",
        ),
        (
            {"auroc": 0.8, "stopped": "loss", "steps": 60, "val_accuracy": 0.7},
            ["look", "look"],
            "ended after 60 steps without reaching the target accuracy of 90%",
        ),
        (
            {"auroc": 0.8, "stopped": "steps", "steps": 60, "val_accuracy": 0.95},
            ["look", "look"],
            "before the ranking settled",
        ),
        ({"seed_agreement": 0.8, "seeds": 8}, ["look"], "halves of the 8 seeds share 80%"),
        ({}, [], ""),
    ],
)
def test_an_estimator_in_plain_words(metrics, levels, says):
    found = remarks(metrics, {"stop_accuracy": 0.9})
    assert [remark.level for remark in found] == levels
    assert says in " ".join(remark.text for remark in found)


def test_confusion_counts_each_row_once():
    found = confusion(np.array([1, 1, 1, 0, 0]), np.array([2.0, 0.0, -1.0, 0.0, 3.0]))
    assert found.tolist() == [[1, 2], [1, 1]]


def test_figures_hold_what_they_were_given():
    names = [f"s{i}" for i in range(20)]
    values = np.random.default_rng(0).random((20, 20))
    figure = gap.mmd_matrix(values, names, ["pool"] * 15 + ["robot"] * 5, normalized=True)
    assert figure.data[0].texttemplate is None
    assert len(figure.layout.shapes) == 40
    small = gap.mmd_matrix(values[:3, :3], names[:3], ["pool", "pool", "robot"], normalized=False)
    assert small.data[0].text[0][0] == f"{values[0, 0]:.2f}".removeprefix("0")
    bars = gap.ranked([("near", Measured(0.1)), ("far", Measured(0.9, 0.02))], {})
    assert list(bars.data[0].y) == ["far", "near"]
    assert list(bars.data[0].text) == ["0.90 ± 0.02", "0.100"]
    groups = {"pool": Measured(1.8, 0.03), "selected": Measured(1.6)}
    diverse = gap.diversity_bars({"a": Measured(1.2)}, groups, {}, {"pool": 1.85})
    assert list(diverse.data[0].y) == ["a", "selected", "all pool"]
    assert list(diverse.data[0].text) == ["1.200", "1.600", "1.80 ± 0.03"]
    assert list(diverse.data[1].x) == [1.85]
    assert list(diverse.data[2].x) == [1.2, 1.6, 1.85]  # no number under the paper's diamond
    mix = source_mix.source_mix(["a", "b"], ["x", "y", "z"], np.array([[3, 1, 0], [0, 0, 0]]), {})
    assert [trace.name for trace in mix.data] == ["x", "y"]
    assert list(mix.data[0].x) == [0.75, 0]


def test_estimators_share_their_axes():
    steps = pd.DataFrame({"step": range(1000), "val_loss": 1.0, "val_accuracy": 0.5})
    colors = estimators.run_colors(["a", "b"])
    assert len(set(colors.values())) == 2
    learned = estimators.learning({"a": steps, "b": steps.head(3)}, colors)
    assert [trace.name for trace in learned.data] == ["a", "a", "b", "b"]
    assert len(learned.data[0].x) <= 601
    assert learned.data[0].x[-1] == 999
    assert learned.data[0].marker.symbol[-1] == "x"
    curve = {
        "false_positive_rate": [0, 1],
        "true_positive_rate": [0, 1],
        "recall": [0, 1],
        "precision": [1, 0.5],
    }
    assert len(estimators.rocs({"a": curve, "b": curve}, colors).data) == 3
    assert list(estimators.precision_recalls({"a": curve}, colors).data[1].y) == [1, 0.5]
    bins = {"predicted": [0.1], "observed": [0.2], "weight": [1.0]}
    assert list(estimators.reliabilities({"a": bins}, colors).data[1].x) == [0.1]
    assert "75.0%" in estimators.confusion(np.array([[3, 1], [0, 4]])).data[0].text[0]


def test_groups_are_drawn_before_and_after_selection():
    rng = np.random.default_rng(0)
    values, codes = (
        rng.normal(size=500).astype(np.float32),
        rng.integers(0, 2, 500).astype(np.int16),
    )
    edges = bin_edges(values, "logit", 40)
    whole = distribution(values, codes, ("a", "b"), edges)
    chosen = distribution(values, codes, ("a", "b"), edges, values > 0.5)
    violin = distributions.violins(whole, {}, axis="score (logit)", chosen=chosen)
    assert [t.name for t in violin.data] == ["a", "a, selected", "a", "b", "b, selected", "b"]
    lower = np.asarray(violin.data[1].y)
    upper = np.asarray(violin.data[0].y)
    assert lower.max() <= 1 <= upper.min() + 1e-9
    assert (
        1 - lower.min() <= upper.max() - 1 + 0.05
    )  # what is selected never looks larger than the whole
    steps = distributions.histograms(whole, {}, axis="score (logit)", chosen=chosen, log=True)
    assert [t.name for t in steps.data] == ["a", "a, selected", "b", "b, selected"]
    assert sum(steps.data[1].customdata) == int(chosen.totals[0])
    both = joined(whole, chosen.pick(["b"]))
    assert both.names == ("a", "b", "b")
    assert steps.layout.xaxis.title.text == "score (logit)"
    assert to_scale(values, "score") is values
    with pytest.raises(ValueError, match="different bins"):
        joined(whole, distribution(values, codes, ("a", "b"), bin_edges(values, "logit", 10)))
