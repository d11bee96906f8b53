"""Sources, Gap and Estimator over an empty, a half-done and a complete workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from app_world import HOSTILE
from page_runner import button, metrics, words

from emt_core.explore.tables.measured import measured
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import finished

PAGES = ["sources", "gap", "estimator"]


def recipe(workspace: Path) -> dict:
    return yaml.safe_load((workspace / "recipes" / "small.yaml").read_text())


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_teaches_the_first_step(open_page, empty, name):
    app = open_page(name, empty)
    assert not app.exception
    assert "This workspace is empty" in words(app)


@pytest.mark.parametrize("name", ["gap", "estimator"])
def test_a_half_done_workspace_says_what_is_missing(open_page, half_done, name):
    app = open_page(name, half_done)
    assert not app.exception
    assert f"{name.capitalize()} has not run yet" in words(app)


def test_sources_are_there_as_soon_as_they_are_read(open_page, half_done):
    app = open_page("sources", half_done)
    assert not app.exception
    found = metrics(app)
    assert (found["Pool samples"], found["Robot frames"], found["Text only"]) == ("96", "96", "1")
    assert "3 sources" in words(app)
    assert [b.label for b in app.button].count("Open") == 3


def test_one_source_shows_its_counts_and_an_episode(open_page, complete):
    app = open_page("sources", complete, source="arm", episode="3")
    assert not app.exception
    assert metrics(app)["Kept"] == "48"
    assert app.header[0].value == "arm"
    assert "12 episodes" in words(app)
    assert "open the drawer" in [text.value for text in app.text]
    assert app.radio[0].value == 3
    assert len(app.radio[0].options) == 10
    app.text_input(key="episode-text").set_value("PUSH").run()
    assert "6 episodes of 12" in words(app)
    app.text_input(key="episode-text").set_value("nothing of the kind").run()
    assert "0 episodes of 12" in words(app)
    assert not app.exception


def test_a_source_that_is_not_there_is_no_error(open_page, complete):
    app = open_page("sources", complete, source="gone", episode="x")
    assert not app.exception
    assert "3 sources" in words(app)


def test_rejected_rows_are_opened_by_reason(open_page, complete_copy):
    done = finished(Workspace.open(complete_copy), "small")["sources"]
    facts = read_json(done.data / "sources.json")
    facts[0]["rejects"] = {"no_answer": 30, "missing_image": 1}
    (done.data / "sources.json").write_text(json.dumps(facts))
    lines = [
        {
            "id": f"web:{n}",
            "source": "web",
            "row": n,
            "own_id": "",
            "reason": reason,
            "detail": HOSTILE,
        }
        for n, reason in enumerate(["no_answer"] * 30 + ["missing_image"], start=200)
    ]
    (done.data / "rejects.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    app = open_page("sources", complete_copy, source="web")
    assert not app.exception
    assert metrics(app)["Rejected"] == "31"
    shown = app.dataframe[0].value
    assert len(shown) == 25
    assert shown["row"].tolist()[:2] == [200, 201]
    assert shown["detail"][0] == HOSTILE
    app.segmented_control(key="reason-web").set_value("missing_image").run()
    assert app.dataframe[0].value["row"].tolist() == [230]


def test_a_source_is_looked_at_before_it_is_saved_and_then_stale(open_page, complete_copy):
    app = open_page("sources", complete_copy, edit="new")
    assert button(app, "Save").disabled
    assert button(app, "Preview the first 200 rows").disabled
    app.text_input(key="src-+-llava-name").set_value("again")
    app.text_input(key="src-+-llava-path").set_value("web/nowhere.json").run()
    assert "no such file or folder" in words(app)
    app.text_input(key="src-+-llava-path").set_value("web/web.json")
    app.text_input(key="src-+-llava-image_root").set_value("images").run()
    assert "file found" in words(app)
    assert button(app, "Save").disabled
    button(app, "Preview the first 200 rows").click().run()
    assert metrics(app)["Kept"] == "96"
    button(app, "Save").click().run()
    assert not app.exception
    assert [s["name"] for s in recipe(complete_copy)["sources"]] == ["web", "arm", "hand", "again"]
    assert "1 added \\(again\\)" in words(app)
    assert "in the recipe, not read yet" in words(app)
    assert button(app, "Run sources")


def test_a_source_is_edited_and_removed(open_page, complete_copy):
    app = open_page("sources", complete_copy, edit="hand")
    assert not app.exception
    assert app.header[0].value == "Edit hand"
    assert app.selectbox(key="src-hand-lerobot-camera").value == "observation.images.front"
    app.number_input(key="src-hand-lerobot-limit").set_value(2).run()
    button(app, "Preview the first 200 rows").click().run()
    assert metrics(app)["Rows seen"] == "8"
    button(app, "Save").click().run()
    assert recipe(complete_copy)["sources"][2]["limit"] == 2
    app = open_page("sources", complete_copy, source="hand")
    button(app, "Remove").click().run()
    app.button(key="remove-confirmed").click().run()
    assert [s["name"] for s in recipe(complete_copy)["sources"]] == ["web", "arm"]
    assert "1 removed \\(hand\\)" in words(app)


def test_what_cannot_be_read_is_said(open_page, complete_copy):
    app = open_page("sources", complete_copy, edit="new")
    app.text_input(key="src-+-llava-name").set_value("broken")
    app.text_input(key="src-+-llava-path").set_value("recipe.yaml").run()
    button(app, "Preview the first 200 rows").click().run()
    assert "This source cannot be read" in words(app) or "No usable rows" in words(app)
    assert button(app, "Save anyway")
    assert not app.exception


def test_gap_shows_the_matrix_in_words_and_numbers(open_page, complete):
    app = open_page("gap", complete)
    assert not app.exception
    facts = read_json(finished(Workspace.open(complete), "small")["gap"].data / "gap.json")
    found = metrics(app)
    assert found["MMD² between sources (mean)"] == measured(facts, "groups", "across").text
    table = app.dataframe[0].value
    assert sorted(table.columns) == ["arm", "hand", "web"]
    assert table.loc["arm", "arm"] == 0
    app.segmented_control(key="values").set_value("raw").run()
    raw = app.dataframe[0].value
    names = facts["sources"]
    assert raw.loc["web", "arm"] == round(facts["mmd2"][names.index("web")][names.index("arm")], 3)
    app.segmented_control(key="order").set_value("recipe").run()
    assert list(app.dataframe[0].value.columns) == names
    assert not app.exception


def test_gap_pairs_a_frame_with_its_pool_samples_and_back(open_page, complete):
    app = open_page("gap", complete, frame="arm:5", sample="web:2")
    assert not app.exception
    assert sum("distance" in element.value for element in app.markdown) == 12
    assert app.number_input[0].value == 1
    assert "Searched 96 of 96 pool samples" in words(app)
    app.number_input[0].set_value(7).run()
    assert "arm:28" in app.query_params["frame"]
    button(app, "Random").click().run()
    assert "arm:28" not in app.query_params["frame"]
    for wrong in ("web:2", "nothing", "arm:99999"):
        app = open_page("gap", complete, frame=wrong)
        assert not app.exception
        assert ":red[:material/error:]" in words(app)


def test_estimator_interprets_what_was_measured(open_page, complete):
    app = open_page("estimator", complete)
    assert not app.exception
    measured = finished(Workspace.open(complete), "small")["estimator"].metrics
    assert metrics(app)["AUROC"] == f"{measured['auroc']:.3f}"
    assert f"AUROC {measured['auroc']:.3f}".replace(".", "\\.") in words(app)
    robots = app.dataframe[0].value
    assert robots["robot set"].tolist() == ["arm", "hand"]


def test_scores_draw_every_way(open_page, complete):
    query = {
        "after": "before and after",
        "shape": "histograms",
        "axis": "log",
        "scale": "probability",
    }
    app = open_page("scores", complete, **query)
    assert not app.exception
    assert "After selection" in words(app)


@pytest.mark.parametrize("name", PAGES)
def test_a_view_only_workspace_has_no_controls_that_write(open_page, complete, name, monkeypatch):
    opened = Workspace.open
    monkeypatch.setattr(
        Workspace, "open", lambda *a, **k: Workspace(opened(*a, **k).path, read_only=True)
    )
    app = open_page(name, complete, edit="new") if name == "sources" else open_page(name, complete)
    assert not app.exception
    labels = {b.label for b in app.button}
    assert not labels & {"Add a source", "Edit", "Remove", "Run sources", "Save"}


def test_estimators_stand_side_by_side(open_page, complete_copy):
    state = complete_copy / "state" / "small.json"
    labels = json.loads(state.read_text())
    state.write_text(json.dumps({**labels, "estimator.twin": labels["estimator"]}))
    app = open_page("estimator", complete_copy)
    assert not app.exception
    app.multiselect(key="compare").set_value(["estimator", "estimator.twin"]).run()
    assert not app.exception
    table = app.dataframe[0].value
    assert sorted(table["estimator"]) == ["estimator", "twin"]
    assert table["AUROC"].nunique() == 1
    app.multiselect(key="compare").set_value([]).run()
    assert "Choose at least one estimator" in words(app)
