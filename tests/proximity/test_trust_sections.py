"""Each section of the trust report against its definition; planted cheats that it must catch."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from emt_core.errors import EmtError
from emt_core.models.encoders.fake import FakeEncoder
from emt_core.proximity.metrics.rank_agreement import overlap_at, spearman
from emt_core.proximity.trust.agreement import agreement
from emt_core.proximity.trust.calibration import calibration, effective_share
from emt_core.proximity.trust.number import numbered, verdict_of
from emt_core.proximity.trust.planted import FAR, NEAR, UNKNOWN, planted
from emt_core.proximity.trust.variants import _plans, own_side, restylings
from emt_core.recipe.embed import EmbedConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.trust import TrustConfig


def test_text_that_only_one_side_has_is_no_variant():
    encoder = FakeEncoder()
    for config, named in (
        ({"robot_text": "none"}, "robots have no text"),
        ({"pool_text": "none"}, "the pool have no"),
    ):
        plans, why = _plans(EmbedConfig(encoder="fake", **config), encoder)
        assert (
            set(plans) == {"joint", "image"}
            and named.split()[0] in why["text"]
            and "both to none" in why["text"]
        )
    plans, why = _plans(EmbedConfig(encoder="fake", robot_text="none", pool_text="none"), encoder)
    assert set(plans) == {"joint"} and set(why) == {"image", "text"}


def test_one_size_takes_detail_away_at_the_encoders_own_size():
    fine = Image.fromarray((np.indices((112, 112)).sum(axis=0) % 2 * 255).astype(np.uint8))
    same = restylings(56, 50)["one_size"](fine)
    assert same.size == (112, 112) and np.asarray(same).std() < 20 < np.asarray(fine).std()
    images = type("Processor", (), {"size": {"height": 112, "width": 112}})()
    assert (
        own_side(type("E", (), {"processor": type("P", (), {"image_processor": images})()})())
        == 112
    )
    assert (
        own_side(type("E", (), {"preprocess": {"size": (224, 224)}})()) == 224
        and own_side(FakeEncoder()) is None
    )


def plain_ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def test_rank_agreement_against_plain_loops():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, 60) / 2.0, rng.integers(0, 8, 60) / 2.0
    assert spearman(a, b) == pytest.approx(np.corrcoef(plain_ranks(a), plain_ranks(b))[0, 1])
    assert spearman(a, -a) == pytest.approx(-1) and np.isnan(spearman(a, np.ones(60)))
    best = [set(sorted(range(60), key=lambda i: (-x[i], i))[:17]) for x in (a, b)]
    assert overlap_at(a, b, 17) == len(best[0] & best[1]) / 17


def test_effective_sample_size_is_kongs():
    logit = np.array([0.0, 1.0, -2.0, 3.0])
    w = [np.exp(x) for x in logit]
    assert effective_share(logit) == pytest.approx(sum(w) ** 2 / sum(x * x for x in w) / 4)
    assert effective_share(logit + 900) == pytest.approx(effective_share(logit))
    assert (
        effective_share(np.zeros(50)) == pytest.approx(1)
        and effective_share(np.r_[np.zeros(99), 60]) < 0.011
    )


def test_saturated_scores_are_counted_and_called_bad():
    logit = np.r_[np.zeros(60), np.full(20, 8.0), np.full(20, -8.0)]
    numbers = {
        n["label"]: n
        for n in calibration(logit, None, {"calibration_error": 0.01}, is_logit=True)["numbers"]
    }
    assert numbers["Saturated scores"]["value"] == pytest.approx(0.4)
    assert numbers["Saturated scores"]["verdict"] == "bad"
    assert numbers["Expected calibration error"]["verdict"] == "good"


def test_a_score_that_reads_style_is_caught_and_one_that_reads_content_is_not():
    rng = np.random.default_rng(1)
    near, sim = rng.random(2000) < 0.5, rng.random(2000) < 0.5
    style = np.where(sim, "sim", "plain").astype(object)
    truth = np.where(near, NEAR, FAR).astype(np.int8)
    truth[:100] = UNKNOWN
    scores = {"cheat": sim + rng.normal(0, 0.3, 2000), "honest": near + rng.normal(0, 0.3, 2000)}
    cheat = planted(scores, truth, style, top_share=0.25)
    assert cheat["rows"] == 1900 and {n["verdict"] for n in cheat["numbers"]} == {"bad"}
    assert (
        cheat["measures"]["cheat"]["auroc_style"] > 0.95
        and cheat["measures"]["cheat"]["auroc"] < 0.55
    )
    honest = planted({"honest": scores["honest"]}, truth, style, top_share=0.25)
    assert {n["verdict"] for n in honest["numbers"]} == {"good"}
    known = np.flatnonzero(truth != UNKNOWN)
    first = known[np.argsort(-scores["honest"][known], kind="stable")[: round(0.25 * len(known))]]
    assert honest["measures"]["honest"]["precision"] == pytest.approx(near[first].mean())
    assert "skipped" in planted(scores, np.full(2000, UNKNOWN, np.int8), style, top_share=0.25)


def test_disagreements_are_the_samples_ranked_most_differently():
    rows = np.arange(100, 150)
    a = np.arange(50.0)
    b = a.copy()
    b[3], b[45] = 49.5, -1.0  # the other measure ranks row 103 first and row 145 last
    section, table = agreement({"a": a, "b": b}, rows, top_share=0.2, shown=1)
    assert table["row"] == [145, 103] and table["higher"] == [True, False]
    assert section["overlap"][0][1] == pytest.approx(0.9) and section["k"] == 10


def test_a_perfect_score_is_good_even_where_near_samples_are_rare():
    near = np.zeros(2000, bool)
    near[::100] = True  # 1 %, so that the best quarter can hold 4 % at the most
    truth, style = near.astype(np.int8), np.full(2000, "", object)
    value = near + np.linspace(0, 0.1, 2000)
    found = planted({"perfect": value}, truth, style, top_share=0.25)["numbers"][0]
    assert (
        found["value"] == pytest.approx(0.04)
        and found["verdict"] == "good"
        and "4.0%" in found["sentence"]
    )
    worst = planted({"worst": np.roll(value[::-1], 50) * ~near}, truth, style, top_share=0.25)[
        "numbers"
    ][0]
    assert worst["verdict"] == "bad"


def test_disagreements_with_ties_share_their_rank():
    a, b = np.array([0.0, 0, 0, 1, 2]), np.array([0.0, 1, 2, 3, 3])
    _, table = agreement({"a": a, "b": b}, np.arange(5), top_share=0.4, shown=9)
    places = {
        row: (p, q)
        for row, p, q in zip(
            table["row"], table["percentile"], table["other_percentile"], strict=True
        )
    }
    assert places == {
        4: (1.0, 0.875),
        0: (0.25, 0.0),
        2: (0.25, 0.5),
        3: (0.75, 0.875),
    }  # row 1: equal, so not named


def test_verdicts_go_either_way():
    assert [verdict_of(v, 0.9, 0.5) for v in (0.95, 0.7, 0.4)] == ["good", "look", "bad"]
    assert [verdict_of(v, 0.1, 0.5) for v in (0.05, 0.3, 0.6)] == ["good", "look", "bad"]
    assert verdict_of(0.5, None, None) == "unknown"
    missing = numbered("calibration_error", float("nan"))
    assert (missing["value"], missing["verdict"]) == (None, "unknown")
    with pytest.raises(EmtError, match="rising"):
        build_recipe({"name": "x", "base": "/", "trust": {"stop_points": [5, 5]}})
    assert TrustConfig(compare=("knn", "")).further() == ("score.knn", "score.")
