"""Every page over an empty, a half-done and a complete workspace, run by Streamlit's own test
runner."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from page_runner import metrics, words
from places import ROOT

from emt_core.data.index import Index
from emt_core.explore import reading
from pages.parts import cached

PAGES = ["map", "scores", "select", "browse"]


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_teaches_the_first_step(open_page, empty, name):
    app = open_page(name, empty)
    assert not app.exception
    assert "This workspace is empty" in words(app)
    assert f"emt run my_recipe.yaml --workspace {empty}" in words(app)
    assert any(button.label.startswith("Run ") for button in app.button)


@pytest.mark.parametrize(
    ("name", "missing"), [("map", "gap"), ("scores", "score"), ("select", "score")]
)
def test_a_half_done_workspace_says_what_is_missing(open_page, half_done, name, missing):
    app = open_page(name, half_done)
    assert not app.exception
    assert f"{missing.capitalize()} has not run yet" in words(app)
    assert f"--until {missing}" in words(app)


def test_browse_works_before_there_are_scores(open_page, half_done):
    app = open_page("browse", half_done)
    assert not app.exception
    assert "**96 samples**" in words(app)


@pytest.mark.parametrize("name", PAGES)
def test_a_complete_workspace_draws(open_page, complete, name):
    app = open_page(name, complete)
    assert not app.exception
    assert not app.error
    assert app.title[0].value == name.capitalize()


def test_scores_shows_the_estimators_held_out_figures(open_page, complete):
    from emt_core.explore import numbers
    from emt_core.workspace.artifact import Workspace
    from emt_core.workspace.lineage import finished

    found = metrics(open_page("scores", complete))
    estimator = finished(Workspace.open(complete), "small")["estimator"].metrics
    assert found["AUROC"] == numbers.decimal(estimator["auroc"])
    assert found["Steps"] == str(estimator["steps"])
    assert found["Robot frames"] == "96"


def test_sliders_move_together_and_counts_follow(open_page, complete):
    app = open_page("select", complete)
    assert metrics(app)["Selected"] == "20"
    app.slider(key="cut_k").set_value(10).run()
    assert metrics(app)["Selected"] == "10"
    assert app.slider(key="cut_fraction").value == pytest.approx(1000 / 95, abs=0.06)
    ten = app.slider(key="cut_threshold").value
    app.slider(key="cut_fraction").set_value(50.0).run()
    assert metrics(app)["Selected"] == "48"
    assert app.slider(key="cut_threshold").value < ten
    app.slider(key="cut_threshold").set_value(app.slider(key="cut_threshold").min).run()
    assert metrics(app)["Selected"] == "95"
    assert not app.exception


def test_a_bad_name_is_refused_with_a_message(open_page, complete_copy):
    app = open_page("select", complete_copy)
    app.text_input[0].set_value("no/slashes")
    next(button for button in app.button if button.label == "Save and run").click()
    app.run()
    assert not app.exception
    assert "cannot be a selection's name" in words(app)
    assert "no/slashes" not in (complete_copy / "recipes" / "small.yaml").read_text()


def test_a_sample_that_is_not_there_is_a_message(open_page, complete):
    app = open_page("browse", complete, sample="web:99999")
    assert not app.exception
    assert "There is no sample 'web:99999'" in words(app)


def test_a_sample_has_its_numbers_and_neighbors(open_page, complete):
    app = open_page("browse", complete, sample="web:2")
    found = metrics(app)
    assert found["Category"] == "grounding"
    assert any("category by: " in element.value for element in app.text)
    assert found["In this selection"]
    assert "Nearest robot frames" in words(app)
    assert sum("distance" in element.value for element in app.markdown) == 8


@pytest.mark.parametrize(
    "query", [{"region": "x"}, {"zoom": "1,2"}, {"mark": ""}, {"selection": "none"}, {"k": "-4"}]
)
def test_nonsense_in_a_link_is_ignored(open_page, complete, query):
    app = open_page("select" if "k" in query else "map", complete, **query)
    assert not app.exception
    assert not app.error


def test_no_column_is_read_twice_and_a_session_keeps_none(open_page, complete_copy, monkeypatch):
    reads: Counter[str] = Counter()

    def counting(name: str, read):
        def counted(artifact):
            reads[name] += 1
            return read(artifact)

        return counted

    for name in ("logits", "categories", "reasons", "map_points"):
        monkeypatch.setattr(reading, name, counting(name, getattr(reading, name)))
    for module in (reading, cached):
        monkeypatch.setattr(module, "Index", counting("Index", Index))
    columns = ("index", "codes", "is_pool", "logits", "order", "categories", "sides", "reasons")
    view = open_page("map", complete_copy).session_state["_view"]
    own = reading.open_reading(view.workspace)
    once = dict.fromkeys(("Index", "logits", "categories", "reasons", "map_points"), 1)
    for found in (view, own):
        for name in (*columns, "selected", "map_points") * 2:
            getattr(found, name)
        assert reads == once
        reads.clear()
    assert set(vars(view)) == {field.name for field in fields(view)}
    np.testing.assert_array_equal(view.order, own.order)
    np.testing.assert_array_equal(view.sides, own.sides)


def test_data_can_never_be_parsed_as_markup():
    """No page and no shared piece of the app has a door through which text would become HTML."""
    doors = ("unsafe_allow_html", "st.html(", "st.write(", "components.", "st.iframe(", "st.latex(")
    for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        text = path.read_text()
        assert not [door for door in doors if door in text], path.name
