"""Selection against a plain loop over rows, and the properties that must hold for any pool."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from emt_core.data.draws import (
    Purpose,
    at_least,
    best_rows,
    falling_keys,
    gumbel_scores,
    ordered_rows,
    random_keys,
)
from emt_core.errors import EmtError
from emt_core.recipe.selection import SelectConfig
from emt_core.selection import Candidates, Preview, decide
from emt_core.selection.limits import largest_remainder, members_of

SOURCES = ("web", "docs", "point", "arm")
CATEGORIES = ("spatial", "text", "other")
STATUSES = ("", "missing_image")
CELLS = 5


def make(n: int, seed: int, *, levels: int = 6, duplicates: bool = False) -> Candidates:
    """A pool with many ties, robot rows, NaN, missing vectors, text-only and excluded rows."""
    rng = np.random.default_rng(seed)
    logit = rng.integers(-levels, levels, n).astype(np.float32) / 2
    status = (rng.random(n) < 0.1).astype(np.int8)
    logit[status > 0] = np.nan
    logit[rng.random(n) < 0.05] = np.nan
    return Candidates(
        source=np.sort(rng.integers(0, 4, n)).astype(np.int16),
        sources=SOURCES,
        pool=np.array([True, True, True, False]),
        category=rng.integers(0, 3, n).astype(np.int16),
        categories=CATEGORIES,
        logit=logit,
        status=status,
        statuses=STATUSES,
        text_only=rng.random(n) < 0.15,
        excluded=np.flatnonzero(rng.random(n) < 0.05),
        cell=rng.integers(0, CELLS, n).astype(np.int32),
        duplicate=rng.random(n) < 0.1 if duplicates else None,
    )


def plain_noise(seed: int, row: int) -> float:
    """Gumbel noise of a row in Python's own integers: the second stream of splitmix64 (Steele, Lea
    and Flood 2014)."""
    gamma, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    bits = mix((row + 1 + mix(seed + 2 * gamma & mask)) * gamma & mask)
    return -math.log(-math.log(((bits >> 12) + 0.5) / 2**52))


def plain_decide(c: Candidates, config: SelectConfig) -> tuple[list[int], list[str]]:
    """The definition: one row at a time, best first."""
    reason = [""] * c.rows
    for row in range(c.rows):
        if SOURCES[c.source[row]] == "arm":
            reason[row] = "robot"
        elif c.text_only[row] and not config.include_text_only:
            reason[row] = "text_only"
        elif c.status[row]:
            reason[row] = STATUSES[c.status[row]]
        elif not np.isfinite(c.logit[row]):
            reason[row] = "no_score"
        elif row in set(c.excluded.tolist()):
            reason[row] = "excluded"
    eligible = [row for row in range(c.rows) if not reason[row]]
    if config.strategy == "top":
        order = sorted(eligible, key=lambda row: (-float(c.logit[row]), row))
    elif config.strategy == "random":
        order = ordered_rows(
            random_keys(config.seed, np.array(eligible, np.int64), Purpose.RANDOM)
        ).tolist()
    elif config.strategy == "gumbel":
        drawn = {
            row: np.float32(
                float(c.logit[row]) / config.temperature + plain_noise(config.seed, row)
            )
            for row in eligible
        }
        order = sorted(eligible, key=lambda row: (-float(drawn[row]), row))
    else:
        order = eligible
    size = config.k
    if config.fraction is not None:
        size = max(1, int(config.fraction * len(eligible) + 0.5))
    by_chance = int(config.random_share * size + 0.5) if config.random_share else 0
    if c.duplicate is not None:
        for row in eligible:
            if c.duplicate[row]:
                reason[row] = "near_duplicate"
        order = [row for row in order if not c.duplicate[row]]
    room = {}
    for by, names in (("source", SOURCES), ("category", CATEGORIES)):
        shares = getattr(config.quotas, by)
        if shares:
            whole = dict(zip(shares, largest_remainder(list(shares.values()), size), strict=True))
            room.update({("quota", by, name): whole.get(name, 0) for name in names})
    for by in ("source", "category"):
        room.update(
            {(f"{by}_cap", by, name): most for name, most in getattr(config.caps, by).items()}
        )
    if config.clusters and config.clusters.most is not None:
        each = math.ceil(config.clusters.most * size / config.clusters.cells)
        room.update({("cluster_cap", "cell", cell): each for cell in range(config.clusters.cells)})
    taken = []
    after = "not_drawn" if config.strategy in ("random", "gumbel") else "below_cut"

    def go(order, size):
        got = 0
        for row in order:
            below = config.threshold is not None and float(c.logit[row]) < config.threshold
            if below or (size is not None and got >= size):
                reason[row] = reason[row] or after
                continue
            groups = {
                "source": SOURCES[c.source[row]],
                "category": CATEGORIES[c.category[row]],
                "cell": c.cell[row],
            }
            mine = [key for key in room if groups[key[1]] == key[2]]
            mine.sort(
                key=lambda key: ["quota", "source_cap", "category_cap", "cluster_cap"].index(key[0])
            )
            full = next((key for key in mine if room[key] == 0), None)
            if full is not None:
                reason[row] = full[0]
                continue
            for key in mine:
                room[key] -= 1
            taken.append(row)
            reason[row] = ""
            got += 1

    go(order, None if size is None else size - by_chance)
    if by_chance:
        rest = np.array([row for row in order if row not in taken], np.int64)
        go(ordered_rows(random_keys(config.seed, rest, Purpose.RANDOM_SHARE)).tolist(), by_chance)
    return taken, reason


@st.composite
def configs(draw) -> SelectConfig:
    strategy = draw(st.sampled_from(["top", "random", "all", "gumbel"]))
    caps = {
        by: draw(st.dictionaries(st.sampled_from(names), st.integers(0, 25)))
        for by, names in (("source", SOURCES[:3]), ("category", CATEGORIES))
    }
    size, quotas = {}, {}
    if strategy != "all":
        kind = draw(
            st.sampled_from(
                ["k", "fraction", "threshold"] if strategy == "top" else ["k", "fraction"]
            )
        )
        number = {
            "k": st.integers(1, 150),
            "fraction": st.floats(0.01, 1),
            "threshold": st.floats(-4, 4, allow_nan=False),
        }
        size = {kind: draw(number[kind])}
        if kind != "threshold" and draw(st.booleans()):
            by, names = draw(st.sampled_from([("source", SOURCES[:3]), ("category", CATEGORIES)]))
            weights = draw(st.dictionaries(st.sampled_from(names), st.integers(1, 9), min_size=1))
            quotas = {
                by: {name: weight / sum(weights.values()) for name, weight in weights.items()}
            }
    more = {}
    if strategy == "gumbel":
        more["temperature"] = draw(st.sampled_from([0.01, 0.5, 1.0, 20.0]))
    if strategy in ("top", "gumbel") and "threshold" not in size:
        more["random_share"] = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    if draw(st.integers(0, 3)) == 0:
        capped = draw(st.sampled_from([0.3, 1.0, 2.5])) if {"k", "fraction"} & set(size) else None
        more["clusters"] = {"cells": CELLS, "most": capped}
    return SelectConfig(
        **more,
        strategy=strategy,
        caps=caps,
        quotas=quotas,
        include_text_only=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
        **size,
    )


@settings(max_examples=400, deadline=None)
@given(
    config=configs(),
    n=st.integers(0, 160),
    seed=st.integers(0, 10_000),
    levels=st.integers(1, 40),
    duplicates=st.booleans(),
)
def test_decision_is_the_plain_loops(config, n, seed, levels, duplicates):
    candidates = make(n, seed, levels=levels, duplicates=duplicates)
    decision = decide(candidates, config)
    rows, reason = plain_decide(candidates, config)
    assert decision.rows.tolist() == rows
    assert [decision.reasons[code] for code in decision.code] == reason
    assert sum(decision.counts().values()) == n
    assert decision.counts() == dict(Counter(reason))


@settings(max_examples=200, deadline=None)
@given(
    strategy=st.sampled_from(["top", "random", "all", "gumbel"]),
    size=st.sampled_from([{}, {"k": 30}, {"fraction": 0.4}, {"threshold": 0.0}]),
    by=st.sampled_from(["source", "category"]),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 999),
)
def test_quotas_are_kept_or_refused_never_left_out(strategy, size, by, share, seed):
    names = {"source": SOURCES[:2], "category": CATEGORIES[:2]}[by]
    settings = {
        "strategy": strategy,
        "quotas": {by: dict(zip(names, (share, 1 - share), strict=True))},
        **size,
    }
    try:
        config = SelectConfig(**settings)
    except ValidationError:
        assert strategy == "all" or not {"k", "fraction"} & set(size)
        return
    candidates = make(160, seed)
    decision = decide(candidates, config)
    counts = np.bincount(getattr(candidates, by)[decision.rows], minlength=4)
    most = largest_remainder([share, 1 - share], decision.asked)
    assert (counts[:2] <= most).all() and not counts[2:].any()


@settings(max_examples=200, deadline=None)
@given(
    config=configs().filter(lambda c: c.plain_top),
    n=st.integers(1, 160),
    seed=st.integers(0, 10_000),
)
def test_preview_shows_what_decide_does(config, n, seed):
    candidates = make(n, seed)
    preview = Preview(candidates, include_text_only=config.include_text_only)
    decision = decide(candidates, config)
    shown = preview.composition(config)
    wanted = np.zeros((4, 3), int)
    np.add.at(wanted, (candidates.source[decision.rows], candidates.category[decision.rows]), 1)
    assert (shown.counts == wanted).all() and shown.total == len(decision.rows)
    if len(decision.rows):
        assert shown.threshold == candidates.logit[decision.rows[-1]]


def test_preview_threshold_and_k_are_inverse_up_to_ties():
    candidates = make(5000, 1, levels=2000)
    preview = Preview(candidates)
    for k in (1, 7, 100, preview.eligible):
        threshold = preview.threshold_of(k)
        assert (
            preview.k_of(threshold)
            >= k
            > preview.k_of(np.nextafter(np.float32(threshold), np.float32(np.inf)))
        )
    assert preview.k_of(np.inf) == 0 and preview.k_of(-np.inf) == preview.eligible
    assert preview.totals.sum() == preview.eligible
    inside, outside = preview.rows_near(0.0, 5)
    assert (candidates.logit[inside] >= 0).all() and (candidates.logit[outside] < 0).all()
    assert (
        np.abs(candidates.logit[inside]).max()
        <= np.sort(candidates.logit[candidates.logit >= 0])[40]
    )


def test_keys_sort_every_float_and_ties_by_row():
    values = np.array([np.inf, 3.5, 1e-40, 0.0, -0.0, -1e-40, -2.0, -np.inf, 3.5], np.float32)
    rows = np.array([9, 8, 7, 4, 3, 2, 1, 0, 5])
    assert ordered_rows(falling_keys(values, rows)).tolist() == [9, 5, 8, 7, 3, 4, 2, 1, 0]


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 80), k=st.integers(1, 90), seed=st.integers(0, 999), levels=st.integers(1, 30)
)
def test_best_rows_are_the_first_of_the_whole_order(n, k, seed, levels):
    rng = np.random.default_rng(seed)
    logit = (rng.integers(-levels, levels, n) / 4).astype(np.float32)
    logit[rng.random(n) < 0.3] = -np.inf
    whole = sorted(
        (row for row in range(n) if logit[row] > -np.inf), key=lambda row: (-logit[row], row)
    )
    assert best_rows(logit, k).tolist() == whole[:k]


def test_random_draw_is_seeded_nested_and_uniform():
    rows, purpose = np.arange(20_000), Purpose.RANDOM
    order = ordered_rows(random_keys(3, rows, purpose))
    assert (ordered_rows(random_keys(3, rows[::-1].copy(), purpose)) == order).all()
    half = rows[rows % 2 == 0]
    assert (ordered_rows(random_keys(3, half, purpose)) == order[order % 2 == 0]).all()
    assert (ordered_rows(random_keys(4, rows, purpose)) != order).mean() > 0.99
    drawn = np.bincount(
        np.concatenate([ordered_rows(random_keys(s, rows, purpose), 2000) for s in range(200)])
        // 1000
    )
    expected = 200 * 2000 / 20
    assert (
        (drawn - expected) ** 2 / expected
    ).sum() < 45.3  # chi-squared, 19 degrees of freedom, p = 0.0006


@pytest.mark.parametrize(("one", "other"), combinations(Purpose, 2))
@pytest.mark.parametrize("seed", [0, 7])
def test_draws_for_two_purposes_are_independent_with_one_seed(one, other, seed):
    """Of 20,000 rows the two lowest quarters share a sixteenth, as two draws by chance do
    (hypergeometric)."""
    rows = np.arange(20_000)
    first, second = (
        ordered_rows(random_keys(seed, rows, purpose), 5000) for purpose in (one, other)
    )
    shared = len(np.intersect1d(first, second))
    deviation = (5000 * 0.25 * 0.75 * 15_000 / 19_999) ** 0.5
    assert abs(shared - 1250) < 5 * deviation


def test_the_gumbel_noise_is_no_other_purposes_order():
    rows = np.arange(20_000)
    noise = gumbel_scores(np.zeros(len(rows), np.float32), rows, temperature=1.0, seed=0)
    for purpose in set(Purpose) - {Purpose.GUMBEL}:
        drawn = ordered_rows(random_keys(0, rows, purpose), 2000)
        assert abs(noise[drawn].mean() - noise.mean()) < 5 * noise.std() / 2000**0.5


def test_threshold_is_compared_as_written_not_as_rounded():
    just_below = np.float32(0.1) - np.float32(1e-8)
    assert float(np.float32(0.1)) > 0.1 and at_least(0.1) == np.float32(0.1)
    assert float(at_least(0.7)) >= 0.7 > float(np.nextafter(at_least(0.7), np.float32(0)))
    assert just_below < at_least(0.1)


def test_largest_remainder_keeps_the_sum():
    assert largest_remainder([1 / 3, 1 / 3, 1 / 3], 100) == [34, 33, 33]
    assert largest_remainder([0.5, 0.3, 0.2], 10) == [5, 3, 2]
    assert sum(largest_remainder([0.101, 0.299, 0.6], 1_200_000)) == 1_200_000


@pytest.mark.parametrize("groups", [[2, 0, 7], list(range(60, 20, -1)), list(range(10_000))])
def test_members_of_few_and_of_many_groups(groups):
    code = np.random.default_rng(0).integers(-1, 50, 3000).astype(np.int32)
    found = members_of(code, groups)
    assert [rows.tolist() for rows in found] == [
        np.flatnonzero(code == group).tolist() for group in groups
    ]


def test_quota_that_cannot_be_filled_is_a_shortfall_and_k_beyond_the_pool_takes_all():
    candidates = make(400, 5)
    config = SelectConfig(k=300, quotas={"category": {"text": 0.9, "other": 0.1}})
    decision = decide(candidates, config)
    texts = [row for row in decision.rows if CATEGORIES[candidates.category[row]] == "text"]
    assert decision.shortfall == {"text": 270 - len(texts)}
    everything = decide(candidates, SelectConfig(k=10_000))
    assert len(everything.rows) == everything.eligible < everything.asked == 10_000


@pytest.mark.parametrize("field", ["caps", "quotas"])
def test_unknown_group_is_named_with_the_known(field):
    config = SelectConfig(k=5, **{field: {"source": {"wbe": 1}}})
    with pytest.raises(
        EmtError, match=rf"{field}\.source names 'wbe'[\s\S]*known: web, docs, point$"
    ):
        decide(make(50, 0), config)
