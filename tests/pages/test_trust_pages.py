"""Trust and Ablation over an empty, a half-done and a complete workspace, and over one with a trust
report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page_runner import metrics, words

from emt_core.proximity.trust.agreement import agreement
from emt_core.proximity.trust.audit_sections import NAMES, modality_section, style_section
from emt_core.proximity.trust.calibration import calibration
from emt_core.proximity.trust.planted import planted
from emt_core.proximity.trust.stability import _numbers
from emt_core.workspace.artifact import Workspace, make_key
from emt_core.workspace.files import write_json

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
    assert (
        "no trust report yet" in words(app)
        and "trust: {}" in words(app)
        and "--until trust" in words(app)
    )


def test_a_button_runs_the_stage_only_where_the_recipe_has_it(open_page, complete_copy):
    def labels() -> list[str]:
        app = open_page("trust", complete_copy)
        assert not app.exception and "--until trust" in words(app)
        return [button.label for button in app.button]

    assert "Run up to trust" not in labels()
    recipe = Workspace.open(complete_copy).recipe_file("small")
    recipe.write_text(recipe.read_text() + "trust.learned: {}\n")
    assert "Run up to trust" in labels()


@pytest.fixture
def with_report(complete_copy):
    """The complete workspace with a report made of the stage's own sections, one of them of hostile
    names."""
    import pyarrow as pa
    from pyarrow import parquet

    space = Workspace.open(complete_copy)
    state = json.loads((space.path / "state" / "small.json").read_text())
    parents = {stage: state[stage] for stage in ("sources", "embed", "score")}
    rng, rows = np.random.default_rng(0), np.arange(90)
    scores = {"learned": rng.normal(size=90), "<b>knn</b> **x**": rng.normal(size=90)}
    truth, style = (
        (rng.random(90) < 0.5).astype(np.int8),
        np.array(["plain", "sim"], object)[rows % 2],
    )
    agreed, table = agreement(scores, rows, top_share=0.25, shown=3)
    facts = {
        n: {"name": NAMES[n], "auroc": 0.9, "overlap": 0.5, "spearman": 0.4, "rows": 90}
        for n in NAMES
    }
    modality = {n: facts.pop(n) for n in ("joint", "image", "text")}
    for restyled in facts.values():
        restyled |= {"fixed_spearman": 0.95, "fixed_overlap": 0.9}
    repeats = {
        "kind": ["seed", "without robot set", "out of fold"],
        "name": ["1", "<i>arm</i>", "5 folds"],
        "spearman": [0.97, 0.8, 0.99],
        "overlap": [0.9, 0.55, 0.95],
    }
    steady = {"title": "Stability", "question": "Would it?", "notes": ["One <u>note</u>."]}
    rows_at = {"predicted": [0.1, 0.9], "observed": [0.05, 0.95], "weight": [0.5, 0.5]}
    sections = {
        "modality": modality_section(
            modality, np.eye(3).tolist(), 0.4, ["Left out of the audits: hand."]
        ),
        "style": style_section(facts, modality["joint"], 0.4, [], 56),
        "stability": steady | {"numbers": _numbers(repeats, 0.4)},
        "calibration": calibration(
            scores["learned"], {"calibration": rows_at}, {"calibration_error": 0.04}, is_logit=True
        ),
        "agreement": agreed,
        "planted": planted(scores, truth, style, top_share=0.25),
    }
    key = make_key(stage="trust", version=1, config={}, identity=None, parents=parents)
    data = space.building("trust", key) / "data"
    data.mkdir(parents=True)
    write_json(data / "trust.json", {"score": "learned", "measure": "linear", "sections": sections})
    parquet.write_table(pa.table(table), data / "disagreements.parquet")
    parquet.write_table(pa.table(repeats), data / "stability.parquet")
    (data / "out_of_fold.parquet").touch()
    manifest = {
        "stage": "trust",
        "key": key,
        "config": {},
        "parents": parents,
        "rows": 90,
        "metrics": {},
    }
    space.commit("trust", key, manifest | {"finished": 1.0, "seconds": 1.0, "peak_memory_mb": 1})
    write_json(space.path / "state" / "small.json", state | {"trust": key})
    return complete_copy


def test_every_section_is_drawn_and_every_number_explains_itself(open_page, with_report):
    app = open_page("trust", with_report)
    assert not app.exception
    text = words(app)
    for title in (
        "Planted truth",
        "Modality audit",
        "Style audit",
        "Stability",
        "Calibration and sat",
        "Agreement bet",
    ):
        assert title in text
    assert "Where they disagree most" in text and "Left out of the audits" in text
    assert (
        len(app.get("plotly_chart")) == 1 + 3 + 2 + 1 + 1 + 2
    )  # planted, audits, stability, reliability, agreement
    specs = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    lines = [s["x0"] for spec in specs for s in spec["layout"].get("shapes", ())]
    assert (
        lines.count(0.4) == 2 and 0.25 not in lines
    )  # chance of the overlaps is the report's own share
    table = app.dataframe[0].value
    assert table["among"].tolist() == ["all samples", "plain only", "sim only"] * 2
    assert table["precision"].between(0, 1).all() and table["samples"].tolist()[0] == 90
    assert metrics(app)["Selection that stays"] == "55.0 %" and "kind: imported" in text
    assert metrics(app)["Expected calibration error"] == "0.040" and "below 0.05 is good" in text
    assert (
        int(metrics(app)["Good"])
        + int(metrics(app)["Worth a look"])
        + int(metrics(app)["Not good"])
        >= 5
    )


def test_a_report_on_another_score_is_shown_as_such(open_page, with_report):
    app = open_page("trust", with_report)
    assert "has no report" not in words(app)
    space = Workspace.open(with_report)
    key = json.loads((space.path / "state" / "small.json").read_text())["trust"]
    manifest = space.path / "trust" / key / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(facts | {"parents": facts["parents"] | {"score": "0" * 16}}))
    app = open_page("trust", with_report)
    assert not app.exception and "has no report" in words(app) and "Planted truth" in words(app)
