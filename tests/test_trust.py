"""The trust report: each figure against its definition, planted cheats that it must catch, and the stage as it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from app_world import emt
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.metrics.rank_agreement import overlap_at, spearman
from emt_core.recipe import build_recipe
from emt_core.trust.agreement import agreement
from emt_core.trust.calibration import calibration, effective_share
from emt_core.trust.config import TrustConfig
from emt_core.trust.number import numbered
from emt_core.trust.planted import FAR, NEAR, UNKNOWN, planted

MORE = """
measure.knn: {kind: knn, neighbours: 3}
measure.random: {kind: random}
score.learned: {parents: {estimator: ""}}
score.knn: {}
score.random: {}
select.top: {k: 20, parents: {score: learned}}
trust.learned: {compare: [knn, random], pool_rows: 40, robot_rows: 24, seeds: 2, stop_points: [5, 10], folds: 2,
  near_ids: ["web:0,2,4,6,8-40"]}
trust.knn: {pool_rows: 0, near_ids: ["web:0"], compare: [random]}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("trust")
    small_world(base / "world")
    recipe = base / "world" / "recipe.yaml"
    text = recipe.read_text().replace("score: {sweep_sample: 50}\n", "").replace("select.top: {k: 20}\n", "")
    recipe.write_text("\n".join(line for line in text.splitlines() if not line.startswith("gap")) + MORE)
    emt("run", recipe, "--workspace", base / "ws")
    return base / "ws"


def report_of(workspace: Path, name: str) -> tuple[dict, Path]:
    key = json.loads((workspace / "state" / "small.json").read_text())[f"trust.{name}"]
    data = workspace / "trust" / key / "data"
    return json.loads((data / "trust.json").read_text()), data


def test_the_report_has_every_section_and_no_number_without_its_sentence(workspace):
    report, data = report_of(workspace, "learned")
    assert list(report["sections"]) == ["modality", "style", "stability", "calibration", "agreement", "planted"]
    assert report["score"] == "learned" and report["measure"] == "linear"
    for section in report["sections"].values():
        assert section["title"] and section["question"].endswith("?")
        for number in section["numbers"]:
            assert len(number["sentence"]) > 40 and number["verdict"] in ("good", "look", "bad", "unknown")
    variants = report["sections"]["modality"]["variants"]
    assert set(variants) == {"joint", "image", "text"} and variants["joint"]["spearman"] == pytest.approx(1)
    style = report["sections"]["style"]["variants"]
    # grey takes the small world's only difference (red against blue): the shipped estimator's ranking has to suffer
    assert style["grey"]["fixed_spearman"] < style["jpeg"]["fixed_spearman"] <= 1
    assert sorted(p.name for p in (data / "variants").iterdir()) == sorted(
        f"{name}.safetensors" for name in ("joint", "image", "text", "one_size", "jpeg", "grey")
    )
    table = pq.read_table(data / "stability.parquet").to_pandas()
    assert table.kind.value_counts().to_dict() == {"seed": 2, "steps": 2, "without robot set": 2, "out of fold": 1}
    assert table.spearman.between(-1, 1).all() and table.overlap.between(0, 1).all()


def test_a_measure_without_training_says_what_it_cannot_answer(workspace):
    report, data = report_of(workspace, "knn")
    sections = report["sections"]
    assert list(sections) == ["stability", "calibration", "agreement", "planted"]
    assert "skipped" in sections["stability"] and "skipped" in sections["calibration"]
    assert not (data / "stability.parquet").exists() and sections["agreement"]["measures"] == ["knn", "random"]


def test_keys_name_every_score_compared(workspace):
    manifest = json.loads((report_of(workspace, "learned")[1].parent / "manifest.json").read_text())
    assert set(manifest["parents"]) == {"sources", "embed", "score", "score.knn", "score.random"}
    with pytest.raises(EmtError, match=r"asks for 'score.nowhere'[\s\S]*score.learned"):
        from emt_core.plan import make_plan
        from emt_core.recipe import load_recipe

        make_plan(load_recipe(workspace.parent / "world" / "recipe.yaml", ["trust.learned.compare=[nowhere]"]))


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
    assert effective_share(np.zeros(50)) == pytest.approx(1) and effective_share(np.r_[np.zeros(99), 60]) < 0.011


def test_saturated_scores_are_counted_and_called_bad():
    logit = np.r_[np.zeros(60), np.full(20, 8.0), np.full(20, -8.0)]
    numbers = {n["label"]: n for n in calibration(logit, None, {"calibration_error": 0.01}, is_logit=True)["numbers"]}
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
    assert cheat["measures"]["cheat"]["auroc_style"] > 0.95 and cheat["measures"]["cheat"]["auroc"] < 0.55
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


def test_verdicts_go_either_way():
    assert [numbered("x", v, "s", good=0.9, bad=0.5)["verdict"] for v in (0.95, 0.7, 0.4)] == ["good", "look", "bad"]
    assert [numbered("x", v, "s", good=0.1, bad=0.5)["verdict"] for v in (0.05, 0.3, 0.6)] == ["good", "look", "bad"]
    assert numbered("x", float("nan"), "s", good=1, bad=0)["value"] is None
    with pytest.raises(EmtError, match="rising"):
        build_recipe({"name": "x", "base": "/", "trust": {"stop_points": [5, 5]}})
    assert TrustConfig(compare=("knn", "")).further() == ("score.knn", "score.")
