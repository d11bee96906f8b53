"""Pages over scores that are no logits: each says what its numbers are, and one score far out
spoils nothing."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from page_runner import metrics, words

from emt_core.explore.reading import logits
from emt_core.explore.tables.score_scale import LEARNED, OF_KIND
from emt_core.workspace.artifact import Workspace, make_key
from emt_core.workspace.table import Table

HELDOUT = {"auroc": 0.875, "average_precision": 0.75, "rows": {"pool": 8, "robot": 8}}


def with_score(folder: Path, kind: str) -> np.ndarray:
    """Add a finished score of a measure of this kind under the name of the kind; its values. The
    first is e^80."""
    space = Workspace.open(folder)
    path = space.path / "state" / "small.json"
    state = json.loads(path.read_text())
    learned = space.find("score", state["score"])
    learned_values = logits(learned)
    values = np.linspace(-1, 1, len(learned_values), dtype=np.float32)
    values[np.isnan(learned_values)] = np.nan
    values[0] = np.exp(np.float32(80))
    parents = {
        name: key for name, key in learned.manifest["parents"].items() if name != "estimator"
    }
    measure = make_key(
        stage="measure", version=1, config={"kind": kind}, identity=None, parents=parents
    )
    space.building("measure", measure).joinpath("data").mkdir(parents=True)
    facts = {
        "stage": "measure",
        "key": measure,
        "config": {"kind": kind},
        "parents": parents,
        "rows": len(values),
    }
    times = {"finished": 1.0, "seconds": 1.0, "peak_memory_mb": 1}
    space.commit("measure", measure, facts | {"metrics": {"kind": kind, "is_logit": False}} | times)
    parents = {**parents, "measure": measure}
    key = make_key(stage="score", version=1, config={}, identity=None, parents=parents)
    data = space.building("score", key) / "data"
    shutil.copytree(learned.data, data, ignore=shutil.ignore_patterns("scores.lance"))
    Table(data / "scores.lance").append(pa.table({"logit": values}))
    figures = learned.metrics | {"kind": kind, "is_logit": False, "heldout": HELDOUT}
    figures["spread"] = None
    space.commit(
        "score", key, learned.manifest | {"key": key, "parents": parents, "metrics": figures}
    )
    path.write_text(json.dumps(state | {f"measure.{kind}": measure, f"score.{kind}": key}))
    return values


def axes(app) -> list[str]:
    """Titles of the x axes of all figures."""
    figures = [json.loads(element.proto.spec)["layout"] for element in app.get("plotly_chart")]
    return [layout["xaxis"]["title"]["text"] for layout in figures if layout["xaxis"].get("title")]


def drawn(app) -> list[dict]:
    """The x of every trace that is an array, as Plotly sends it."""
    traces = [
        t for element in app.get("plotly_chart") for t in json.loads(element.proto.spec)["data"]
    ]
    return [t["x"] for t in traces if isinstance(t.get("x"), dict)]


@pytest.mark.parametrize("kind", ["knn", "delta_perplexity"])
def test_scores_of_a_measure_are_named_and_stay_readable(open_page, complete_copy, kind):
    with_score(complete_copy, kind)
    app = open_page("scores", complete_copy, score=kind)
    assert not app.exception
    assert set(axes(app)) == {OF_KIND[kind].title}
    assert OF_KIND[kind].help in [s.help for s in app.subheader] and LEARNED.help not in [
        s.help for s in app.subheader
    ]
    found = metrics(app)
    assert ("AUROC" in found) == (
        kind == "knn"
    ) and "Calibration" not in found  # perplexities tell formats apart
    assert kind != "knn" or (found["AUROC"] == "0.875" and found["Avg. precision"] == "0.750")
    assert re.search(r"\d scores? far beyond the others", words(app))
    ends = [np.frombuffer(base64.b64decode(x["bdata"]), x["dtype"]).max() for x in drawn(app)]
    assert ends and max(ends) < 100


def test_a_measure_is_cut_by_its_own_numbers(open_page, complete_copy):
    values = with_score(complete_copy, "delta_perplexity")
    app = open_page("select", complete_copy, score="delta_perplexity")
    assert not app.exception
    slider = app.slider(key="cut_threshold")
    assert slider.label == "Threshold (fall in perplexity)" and slider.max < 100
    slider.set_value(slider.min).run()
    assert not app.exception
    assert metrics(app)["Pool share"] == "100.0 %"
    app = open_page("browse", complete_copy, score="delta_perplexity", set="Whole pool")
    assert not app.exception
    both = app.slider(key="range")
    assert both.label == "Score (fall in perplexity)"
    assert "**96 samples**" in words(app) and "+5.5e+34" in words(app)
    middle = float(np.median(values[1:96]))
    both.set_value((middle, both.max)).run()  # the upper end lets e^80 pass
    assert "+5.5e+34" in words(app) and "**96 samples**" not in words(app)
    app = open_page("map", complete_copy, score="delta_perplexity", color="Score")
    assert not app.exception
    bars = [
        json.loads(element.proto.spec)["layout"].get("coloraxis")
        for element in app.get("plotly_chart")
    ]
    assert [bar["colorbar"]["title"]["text"] for bar in bars if bar] == [
        "score (fall in perplexity)"
    ]
