"""Trust and Ablation over an empty, a half-done and a complete workspace, and over one with a trust report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page_runner import metrics, words

from emt_core.artifact import Workspace, make_key, write_json
from emt_core.trust.agreement import agreement
from emt_core.trust.calibration import calibration
from emt_core.trust.planted import planted

PAGES = ["trust", "ablation"]


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_and_a_half_done_workspace_teach_the_next_step(open_page, empty, half_done, name):
    app = open_page(name, empty)
    assert not app.exception and "This workspace is empty" in words(app)
    app = open_page(name, half_done)
    assert not app.exception and "has not run yet" in words(app)


def test_without_a_report_the_page_shows_the_line_to_add(open_page, complete):
    app = open_page("trust", complete)
    assert not app.exception
    assert "no trust report yet" in words(app) and "trust: {}" in words(app) and "--until trust" in words(app)


@pytest.fixture
def with_report(complete_copy):
    """The complete workspace with a report made of the stage's own sections, one of them of hostile names."""
    import pyarrow as pa
    from pyarrow import parquet

    space = Workspace.open(complete_copy)
    state = json.loads((space.path / "state" / "small.json").read_text())
    parents = {stage: state[stage] for stage in ("sources", "embed", "score")}
    rng, rows = np.random.default_rng(0), np.arange(90)
    scores = {"learned": rng.normal(size=90), "<b>knn</b> **x**": rng.normal(size=90)}
    truth, style = (rng.random(90) < 0.5).astype(np.int8), np.array(["plain", "sim"], object)[rows % 2]
    agreed, table = agreement(scores, rows, top_share=0.25, shown=3)
    variants = {n: {"name": n, "auroc": 0.9, "overlap": 0.5, "spearman": 0.4} for n in ("joint", "image", "text")}
    sections = {
        "modality": {"title": "Modality audit", "question": "Which?", "numbers": [], "variants": variants},
        "stability": {"title": "Stability", "question": "Would it?", "numbers": [], "skipped": "Nothing to repeat."},
        "calibration": calibration(scores["learned"], None, {"calibration_error": 0.04}, is_logit=True),
        "agreement": agreed,
        "planted": planted(scores, truth, style, top_share=0.25),
    }
    key = make_key(stage="trust", version=1, config={}, identity=None, parents=parents)
    data = space.building("trust", key) / "data"
    data.mkdir(parents=True)
    write_json(data / "trust.json", {"score": "learned", "measure": "linear", "sections": sections})
    parquet.write_table(pa.table(table), data / "disagreements.parquet")
    manifest = {"stage": "trust", "key": key, "config": {}, "parents": parents, "rows": 90, "metrics": {}}
    space.commit("trust", key, manifest | {"finished": 1.0, "seconds": 1.0, "peak_memory_mb": 1})
    write_json(space.path / "state" / "small.json", state | {"trust": key})
    return complete_copy


def test_every_section_is_drawn_and_every_number_explains_itself(open_page, with_report):
    app = open_page("trust", with_report)
    assert not app.exception
    text = words(app)
    for title in ("Planted truth", "Modality audit", "Stability", "Calibration and saturation", "Agreement between"):
        assert title in text
    assert "Nothing to repeat." in text and "Where they disagree most" in text
    assert metrics(app)["Expected calibration error"] == "0.040" and "below 0.05 is good" in text
    assert int(metrics(app)["Good"]) + int(metrics(app)["Worth a look"]) + int(metrics(app)["Not good"]) >= 5
