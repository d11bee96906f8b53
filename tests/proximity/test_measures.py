"""Every proximity measure against its definition written as a plain loop, and through the stages as
a run would."""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from safetensors.numpy import load_file
from synthetic import Made, make_workspace, pool, robot, run_stage

from emt_core.data.features import Features, feature_table
from emt_core.errors import EmtError
from emt_core.proximity.base import measure_of
from emt_core.proximity.classifier import Examples, train_classifier
from emt_core.proximity.measures import dsir
from emt_core.proximity.measures.bank import Bank
from emt_core.proximity.measures.distance import mean_distance
from emt_core.proximity.measures.knn import kth_distance
from emt_core.proximity.scores import RUNS_MODEL
from emt_core.proximity.stream import score_blocks
from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import MEASURES, MeasureConfig, ScoreConfig, measure_config
from emt_core.recipe.recipe import build_recipe
from emt_core.workspace.table import Table

SOURCES = [
    pool("web", 700, no_vector=0.1, text_only=0.1),
    pool("near", 300, mean=2.5),
    robot("arm", 240, mean=5.0),
    robot("hand", 80, mean=4.0),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return make_workspace(tmp_path_factory.mktemp("ws"), SOURCES, dim=12, seed=2)


def scored(made: Made, config: MeasureConfig, **runtime) -> tuple[np.ndarray, dict]:
    """Fit and score; the same config again (with another runtime) starts over."""
    for stage in ("measure", "score"):
        shutil.rmtree(made.workspace.path / stage, ignore_errors=True)
    run_stage(made, "measure", config, runtime=Runtime(workers=0, **runtime))
    artifact = run_stage(
        made, "score", ScoreConfig(sweep_sample=200), runtime=Runtime(workers=0, **runtime)
    )
    return Table(artifact.data / "scores.lance").column("logit"), artifact.metrics


def fitted_bank(made: Made) -> dict[str, np.ndarray]:
    return load_file(made.artifacts["measure"].data / "bank.safetensors")


def test_every_kind_has_a_module_of_the_protocol():
    for kind in MEASURES:
        module: Any = measure_of(kind)
        assert isinstance(module.LOGIT, bool) and callable(module.fit)
        assert callable(module.scorer if kind in RUNS_MODEL else module.scores)


@pytest.mark.parametrize("normalize", [False, True])
def test_average_distance_is_the_loop_over_robot_frames(made, normalize):
    found, metrics = scored(
        made, measure_config(kind="distance", robot_rows=60, normalize=normalize)
    )
    stored = fitted_bank(made)
    x, ok = made.features.take(range(made.index.rows)).astype(np.float64), made.features.ok()
    bank = stored["vectors"].astype(np.float64)
    if normalize:
        bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    sets = [
        bank[np.isin(stored["rows"], np.arange(s.start, s.stop))]
        for s in made.index.of_role("robot")
    ]
    assert sorted(map(len, sets)) == [30, 30]
    for row in np.flatnonzero(ok)[::37]:
        v = x[row] / np.linalg.norm(x[row]) if normalize else x[row]
        mean = sum(sum(math.dist(v, y) for y in part) / len(part) for part in sets) / len(sets)
        assert found[row] == pytest.approx(-mean, rel=1e-5)
    assert (np.isnan(found) == ~ok).all() and metrics["pool"]["mean_score"] is None
    assert metrics["heldout"]["auroc"] > 0.8


def test_knn_is_the_kth_smallest_distance_and_sees_no_heldout_episode(made):
    found, metrics = scored(made, measure_config(kind="knn", neighbors=4))
    stored, ok = fitted_bank(made), made.features.ok()
    x = made.features.take(range(made.index.rows)).astype(np.float64)
    for row in np.flatnonzero(ok)[::37]:
        near = sorted(math.dist(x[row], y) for y in stored["vectors"].astype(np.float64))
        assert found[row] == pytest.approx(-near[3], rel=2e-5)
    episodes = made.index.table.column("episode")
    robots = ~made.index.is_pool()
    banked = set(zip(made.index.codes()[stored["rows"]], episodes[stored["rows"]], strict=True))
    every = set(zip(made.index.codes()[robots], episodes[robots], strict=True))
    assert 0 < len(every - banked) < len(every)
    assert metrics["heldout"]["auroc"] > 0.8


def test_neighbors_over_several_tiles_and_near_duplicates():
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((5000, 8)) + 40).astype(
        np.float32
    )  # a long common mean, three tiles
    bank = Bank.of(vectors.copy(), np.full(5000, 1 / 5000, np.float32), normalize=False)
    x = np.concatenate([vectors[:3], (rng.standard_normal((29, 8)) + 40).astype(np.float32)])
    exact = np.sqrt(((x[:, None].astype(float) - vectors[None].astype(float)) ** 2).sum(-1))
    assert kth_distance(x, bank, 1)[:3] == pytest.approx(0, abs=5e-3)
    assert kth_distance(x, bank, 7) == pytest.approx(np.sort(exact, axis=1)[:, 6], rel=1e-4)
    assert mean_distance(x, bank) == pytest.approx(exact.mean(axis=1), rel=1e-5)


def test_a_score_depends_on_its_row_alone(tmp_path):
    """Other files, other starts, other thread counts: the same bits."""
    rng = np.random.default_rng(1)
    rows = 2 * 128 + 50
    x = rng.standard_normal((rows, 16)).astype(np.float16)
    bank = Bank.of(
        rng.standard_normal((300, 16)).astype(np.float32),
        np.full(300, 1 / 300, np.float32),
        normalize=False,
    )
    stores = []
    for name, cuts in {"whole": [rows], "parts": [60, 61, 200, rows]}.items():
        table = Table(tmp_path / name)
        for low, high in zip([0, *cuts], cuts, strict=False):
            table.append(feature_table(x[low:high], [""] * (high - low)))
        stores.append(Features(table))

    def run(features, **options):
        parts = list(score_blocks(features, 128, lambda b: mean_distance(b, bank), **options))
        return np.concatenate([part for _, part in parts])

    whole = run(stores[0], threads=1)
    for start in (0, 1, 127, 128, 200, rows - 1):
        assert (run(stores[1], start=start, threads=2) == whole[start:]).all()


def test_mlp_learns_what_a_line_cannot(tmp_path):
    """Robots on both sides of the pool: the linear estimator is at chance there, the MLP is not."""
    side = np.zeros(8)
    side[0] = 4
    sources = [pool("web", 900), robot("left", 200, mean=-side), robot("right", 200, mean=side)]
    made = make_workspace(tmp_path, sources, dim=8, seed=0)
    found, metrics = scored(
        made, measure_config(kind="mlp", hidden=32, learning_rate=1e-2, steps=300)
    )
    assert metrics["heldout"]["auroc"] > 0.95 and metrics["is_logit"]
    stored = load_file(made.artifacts["measure"].data / "network.safetensors")
    x = made.features.take(range(made.index.rows)).astype(np.float64)
    for row in range(0, len(x), 97):
        hidden = [
            max(0.0, float(w @ ((x[row] - stored["mean"]) * stored["scale"]) + b))
            for w, b in zip(stored["w"], stored["b"], strict=True)
        ]
        assert found[row] == pytest.approx(
            float(np.dot(hidden, stored["v"])) + float(stored["c"][0]), abs=1e-3
        )
    curves = json.loads((made.artifacts["measure"].data / "curves.json").read_text())
    assert {"roc", "precision_recall", "calibration"} <= set(curves)


def test_training_steps_of_mlp_and_line_are_backpropagation_and_adamw_by_hand():
    """Three steps in plain loops over rows and units: from the second on AdamW looks at a
    gradient's size."""
    import torch

    rng = np.random.default_rng(0)
    mean, scale = rng.normal(size=3), rng.uniform(0.5, 2, 3)
    batches = [rng.normal(size=(6, 3)) for _ in range(3)]
    label = [1, 1, 1, 0, 0, 0]
    config = measure_config(kind="mlp", batch=6, learning_rate=0.01, weight_decay=0.1, steps=3)
    robot = np.array(label) > 0
    checked = Examples(x=batches[0], robot=robot, stratum=robot.astype(int), rows=np.arange(6))
    start = {
        "w": rng.normal(size=(4, 3)),
        "b": rng.normal(size=4),
        "v": rng.normal(size=4),
        "c": rng.normal(size=1),
    }

    def of_mlp(p, z, y):
        """Gradient of one row's logistic loss."""
        pre = [sum(p["w"][j, d] * z[d] for d in range(3)) + p["b"][j] for j in range(4)]
        logit = sum(p["v"][j] * max(pre[j], 0) for j in range(4)) + p["c"][0]
        slope = 1 / (1 + math.exp(-logit)) - y
        back = [slope * p["v"][j] * (pre[j] > 0) for j in range(4)]
        w = np.array([[back[j] * z[d] for d in range(3)] for j in range(4)])
        return {
            "w": w,
            "b": np.array(back),
            "v": np.array([slope * max(q, 0) for q in pre]),
            "c": np.array([slope]),
        }

    def of_line(p, z, y):
        slope = 1 / (1 + math.exp(-sum(p["w"][d] * z[d] for d in range(3)) - p["c"][0])) - y
        return {"w": np.array([slope * z[d] for d in range(3)]), "c": np.array([slope])}

    def by_hand(p, gradient_of):
        """AdamW: Loshchilov & Hutter 2019, algorithm 2."""
        p = {name: value.copy() for name, value in p.items()}
        m, v = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
        for t, batch in enumerate(batches, start=1):
            rows = [
                gradient_of(p, [(x[d] - mean[d]) * scale[d] for d in range(3)], y)
                for x, y in zip(batch, label, strict=True)
            ]
            for name in p:
                g = sum(row[name] for row in rows) / 6
                m[name], v[name] = 0.9 * m[name] + 0.1 * g, 0.999 * v[name] + 0.001 * g * g
                move = (m[name] / (1 - 0.9**t)) / (np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8)
                p[name] = p[name] - 0.01 * 0.1 * p[name] - 0.01 * move
        return p

    def trained(p, logits_of):
        tensors = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
        train_classifier(
            config,
            [batch[None] for batch in batches],
            checked,
            [*tensors.values()],
            lambda x: logits_of(x.reshape(-1, 3), **tensors).reshape(1, -1),
            mean=mean,
            scale=scale,
        )
        return {name: tensor.detach().numpy() for name, tensor in tensors.items()}

    line = {"w": start["w"][0], "c": start["c"]}
    for p, gradient_of, logits_of in (
        (start, of_mlp, lambda x, w, b, v, c: torch.relu(x @ w.T + b) @ v + c),
        (line, of_line, lambda x, w, c: x @ w + c),
    ):
        want, got = by_hand(p, gradient_of), trained(p, logits_of)
        for name in p:
            assert got[name] == pytest.approx(want[name], abs=1e-12)


@pytest.mark.parametrize("per_token", [False, True])
def test_dsir_is_the_log_ratio_of_hashed_ngrams(made, per_token):
    config = measure_config(kind="dsir", buckets=50, ngrams=2, text="user", per_token=per_token)
    found, _ = scored(made, config)
    index = made.index
    texts = [" ".join(t.text for t in s.turns if t.role == "user") for _, s in index.iterate()]

    def ngrams(text):
        words = re.findall(r"\w+|[^\w\s]+", text.replace("<image>", " ").lower())
        grams = [" ".join(words[i : i + n]) for n in (1, 2) for i in range(len(words) - n + 1)]
        return [zlib.crc32(gram.encode()) % 50 for gram in grams]

    from emt_core.proximity.split import TRAIN, split_rows

    part = split_rows(index, made.features.ok(), validation=0.1, test=0.1, seed=0)

    def share(rows):
        counts = Counter(b for row in rows for b in ngrams(texts[row]))
        return {b: counts[b] / sum(counts.values()) + 1e-8 for b in range(50)}

    def members(role):
        return [
            [r for r in range(s.start, s.stop) if part[r] == TRAIN] for s in index.of_role(role)
        ]

    robots = [share(rows) for rows in members("robot")]
    web = share([row for rows in members("pool") for row in rows])
    for row in np.flatnonzero(made.features.ok())[::41]:
        hashed = ngrams(texts[row])
        weight = sum(math.log(sum(r[b] for r in robots) / len(robots) / web[b]) for b in hashed)
        assert found[row] == pytest.approx(
            weight / len(hashed) if per_token else weight, rel=1e-4, abs=1e-4
        )
    rows = np.tile(np.flatnonzero(np.isfinite(found))[::-1], 5)
    assert len(rows) > dsir.SCAN_ROWS
    of_rows = dsir.scores_of(config, index, rows, made.artifacts["measure"].data)
    np.testing.assert_array_equal(of_rows, found[rows])


def test_random_is_uniform_seeded_and_knows_nothing(made):
    found, metrics = scored(made, measure_config(kind="random", seed=3))
    again, _ = scored(made, measure_config(kind="random", seed=3), commit_rows=100)
    other, _ = scored(made, measure_config(kind="random", seed=4))
    there = found[np.isfinite(found)]
    assert np.array_equal(found, again, equal_nan=True) and not np.array_equal(
        found, other, equal_nan=True
    )
    counts, _ = np.histogram(there, 10, (0, 1))
    assert (
        (counts - len(there) / 10) ** 2 / (len(there) / 10)
    ).sum() < 27.9  # chi-squared, 9 degrees, p = 0.001
    assert 0.3 < metrics["heldout"]["auroc"] < 0.7


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_imported_scores_are_joined_by_id(made, tmp_path, suffix):
    rows = np.random.default_rng(0).permutation(900)[:500]
    ids = made.index.table.take(rows, ["id"]).column(0).to_pylist()
    table = pa.table(
        {"name": [*ids, "web:99999", "nonsense"], "loss": [*(rows / 10).tolist(), 1.0, 2.0]}
    )
    path = tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
    config = measure_config(
        kind="imported", path=str(path), id_column="name", column="loss", lower_is_nearer=True
    )
    found, metrics = scored(made, config)
    ok = made.features.ok()
    expected = np.full(made.index.rows, np.nan, np.float32)
    expected[rows] = -(rows / 10).astype(np.float32)
    expected[~ok] = np.nan
    assert np.allclose(found, expected, equal_nan=True)
    assert made.artifacts["measure"].metrics["unknown_ids"] == 2 and metrics["heldout"] is None


def test_a_number_that_samples_carry_can_be_the_score(made):
    found, _ = scored(made, measure_config(kind="imported", meta="n"))
    assert found[710] == 10.0 and found[709] == 9.0
    with pytest.raises(EmtError, match="no sample has an imported score"):
        run_stage(made, "measure", measure_config(kind="imported", meta="nowhere"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("id,other\nweb:1,2\n", "lacks \\['score'\\]"),
        ("", "cannot be read"),
        ("id,score\na,b\n", "holds no numbers"),
        ("id,score\na,1\n", "no sample has"),
    ],
)
def test_a_file_that_does_not_fit_is_named(made, tmp_path, content, problem):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(EmtError, match=problem):
        run_stage(made, "measure", measure_config(kind="imported", path=str(path)))


@pytest.mark.parametrize("kind", ["distance", "random", "dsir"])
def test_commit_size_changes_no_score(made, kind):
    config = measure_config(kind=kind, seed=1)
    whole, _ = scored(made, config)
    small, _ = scored(made, config, commit_rows=70)
    assert np.array_equal(whole, small, equal_nan=True)


def test_why_rows_have_no_score_is_counted(made):
    found, metrics = scored(made, measure_config(kind="imported", meta="n"))
    reason = Table(made.artifacts["score"].data / "scores.lance").column("reason")
    assert ((reason == "") == np.isfinite(found)).all()
    assert metrics["missing_by_reason"] == {"no_vector": int((~made.features.ok()).sum())}


def test_settings_of_another_kind_are_refused_and_enter_no_key():
    with pytest.raises(EmtError, match=r"measure\.near: unknown key hidden; keys: .*neighbors"):
        build_recipe({"name": "x", "base": "/", "measure.near": {"kind": "knn", "hidden": 3}})
    with pytest.raises(EmtError, match="takes a file"):
        build_recipe({"name": "x", "base": "/", "measure.mine": {"kind": "imported"}})
    assert set(measure_config(kind="random").model_dump()) == {"kind", "seed"}
    assert "hidden" in measure_config(kind="mlp").model_dump()


def test_more_neighbors_than_frames_is_named(made):
    with pytest.raises(EmtError, match="9999 neighbours"):
        run_stage(made, "measure", measure_config(kind="knn", neighbors=9999))
