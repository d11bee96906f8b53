"""Map, Select and Browse as tools: flags, notes, filters, marks, views, comparisons, exclusion by
recipe."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import yaml
from app_world import HOSTILE, emt
from page_runner import OpenPage, button, metrics, words
from streamlit.testing.v1 import AppTest

from emt_core.explore.curation.flags import FlagBook
from emt_core.explore.curation.views import SavedView, ViewBook
from emt_core.explore.tables import search
from emt_core.run.recipes import notes
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import finished
from pages.parts import glossary
from pages.parts.browse import filters as browse_filters
from pages.parts.links import OLD_LABELS, renewed

WIDE = "-9999,-9999;9999,9999"


@pytest.fixture(scope="module")
def two_selections(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The complete workspace with one more selection, of half the size."""
    space = shutil.copytree(complete, tmp_path_factory.mktemp("two") / "ws")
    recipe = space / "recipes" / "small.yaml"
    raw = yaml.safe_load(recipe.read_text()) | {"select.few": {"k": 10}}
    recipe.write_text(yaml.safe_dump(raw, sort_keys=False))
    emt("run", recipe, "--workspace", space)
    return space


@pytest.fixture
def book(complete_copy: Path) -> FlagBook:
    return FlagBook(*_of(complete_copy))


def _of(folder: Path):
    space = Workspace.open(folder)
    return space, finished(space, "small")["sources"]


def test_a_sample_is_flagged_noted_and_unflagged(
    open_page: OpenPage, complete_copy: Path, book: FlagBook
):
    app = open_page("browse", complete_copy, sample="web:2")
    button(app, "Wrong").click().run()
    app.text_area[0].set_value(HOSTILE).run()
    assert not app.exception
    assert book.read().rows(["wrong"]).tolist() == [2]
    assert book.read().notes == {2: HOSTILE}
    assert HOSTILE not in "".join(str(m.value) for m in app.markdown)
    button(app, "Wrong").click().run()
    assert book.read().rows(["wrong"]).tolist() == []


def test_turning_a_page_sorts_nothing_anew(
    open_page: OpenPage, complete_copy: Path, monkeypatch: pytest.MonkeyPatch, book: FlagBook
):
    asked, arrange = [], browse_filters.arranged
    monkeypatch.setattr(
        browse_filters, "arranged", lambda *given: asked.append(given) or arrange(*given)
    )
    app = open_page("browse", complete_copy, set="Whole pool", sort="random")
    first = words(app)
    button(app, "Next").click().run()
    assert words(app) != first
    assert len(asked) == 1
    app.multiselect(key="flag").set_value(["wrong"]).run()
    assert "**0 samples**" in words(app)
    book.set([3], "wrong")
    assert "**1 sample**" in words(app.run())


def test_flags_filter_the_gallery(open_page: OpenPage, complete_copy: Path, book: FlagBook):
    book.set([2, 4, 6], "doubtful")
    book.note(8, "odd")
    app = open_page("browse", complete_copy, set="Whole pool")
    assert "**96 samples**" in words(app)
    app.multiselect(key="flag").set_value(["doubtful"]).run()
    assert "**3 samples**" in words(app)
    assert sum("doubtful" in m.value for m in app.markdown) == 3
    app.multiselect(key="flag").set_value(["doubtful", "has a note"]).run()
    assert "**4 samples**" in words(app)


def test_a_page_is_flagged_at_once_and_taken_back(
    open_page: OpenPage, complete_copy: Path, book: FlagBook
):
    app = open_page("browse", complete_copy, selection="top")
    button(app, "Exclude all").click().run()
    assert book.read().counts()["exclude"] == 20
    assert "20 samples: flagged **exclude**" in words(app)
    button(app, "Undo").click().run()
    assert book.read().counts()["exclude"] == 0


def test_a_sample_leads_to_its_neighbors_in_the_result(open_page: OpenPage, complete: Path):
    app = open_page("browse", complete, sample="web:2", set="Whole pool", sort="index")
    assert "of 96 of whole pool" in words(app)
    first = app.query_params["sample"]
    button(app, "Next").click().run()
    assert app.query_params["sample"] != first
    button(app, "Previous").click().run()
    assert app.query_params["sample"] == first


def test_more_like_this_orders_by_distance(open_page: OpenPage, complete: Path):
    app = open_page("browse", complete, like="web:2", set="Whole pool")
    cards = [m.value for m in app.markdown if ":gray[distance]" in m.value]
    assert len(cards) == 24
    values = [float(card.split("**")[1]) for card in cards]
    assert values == sorted(values)
    assert values[0] == 0


def test_a_search_that_stopped_goes_on(
    open_page: OpenPage, complete: Path, monkeypatch: pytest.MonkeyPatch
):
    """Bounded to no time: each press looks through one batch more, of the pool's 96 rows alone."""
    monkeypatch.setattr(search, "BATCH_ROWS", 40)
    monkeypatch.setitem(search.find_text.__kwdefaults__, "max_seconds", 0.0)
    app = open_page("browse", complete, set="Whole pool", text="a")
    found = [_shown(app)]
    while [b for b in app.button if b.label == "Continue search"]:
        button(app, "Continue search").click().run()
        assert not app.exception
        found.append(_shown(app))
    assert len(found) > 2
    assert found == sorted(set(found))


def _shown(app: AppTest) -> int:
    return next(
        int(found[1])
        for m in app.markdown
        if (found := re.fullmatch(r"\*\*(\d+) samples\*\*", m.value))
    )


def test_search_by_meaning_says_what_it_needs(open_page: OpenPage, complete: Path):
    assert "embed.clip" in words(open_page("browse", complete))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"like": "web:99999"}, "There is no sample"),
        ({"region": WIDE, "on": "../../x"}, "**20 samples**"),
    ],
)
def test_a_bad_link_is_a_message_or_ignored(
    open_page: OpenPage, complete: Path, query: dict, said: str
):
    app = open_page("browse", complete, **query)
    assert not app.exception
    assert said in words(app)


def test_the_map_marks_what_is_found(open_page: OpenPage, complete: Path):
    app = open_page("map", complete, find="web:3")
    assert "found by its id" in words(app).replace("\\", "")
    app.text_input(key="find").set_value("which of these").run()
    assert "1 samples contain this text" in words(app)
    app.text_input(key="find").set_value("<b>nothing</b>").run()
    assert "no sample has this id" in words(app)


def test_every_color_draws_as_cells(open_page: OpenPage, complete: Path):
    app = open_page("map", complete, density="true")
    for color in ("role", "source", "category", "score", "selected", "flag"):
        app.button_group(key="color").set_value(color).run()
        assert not app.exception


def test_a_link_of_an_older_version_keeps_its_color(open_page: OpenPage, complete: Path):
    app = open_page("map", complete, colour="Score", find="web:3")
    assert not app.exception
    assert app.button_group(key="color").value == "score"
    assert app.query_params["color"] == "Score" and "colour" not in app.query_params
    assert app.text_input(key="find").value == "web:3"
    both = open_page("map", complete, colour="Score", color="Flag")
    assert both.button_group(key="color").value == "flag"


def test_a_link_of_an_older_version_keeps_its_set_and_reasons(open_page: OpenPage, complete: Path):
    old = ["below the cut", "robot data, not a candidate", "the measure gives it no score"]
    app = open_page("browse", complete, set="Left out", reason=old[:2])
    assert not app.exception
    assert app.button_group(key="set").value == "left"
    assert app.multiselect(key="reason").value == ["below_cut", "robot"]
    labels = {"set": set(glossary.SETS.values()), "reason": set(glossary.REASONS.values())}
    assert renewed({"reason": old}) == {"reason": ["below the cut", "robot data", "no score"]}
    for name, renamed in OLD_LABELS.items():
        assert set(renamed.values()) <= labels[name] and not set(renamed) & labels[name]


def test_a_view_that_an_older_version_saved_keeps_its_color(
    open_page: OpenPage, complete_copy: Path
):
    space, sources = _of(complete_copy)
    gap = finished(space, "small")["gap"].key
    query = {"region": WIDE, "colour": "score"}
    ViewBook(space, sources).save(SavedView(name="old", page="map", query=query, gap=gap))
    app = open_page("map", complete_copy)
    assert app.button_group(key="color").value == "category"
    button(app, "old").click().run()
    assert not app.exception
    assert app.button_group(key="color").value == "score"


def test_a_region_is_kept_excluded_and_undone(
    open_page: OpenPage, complete_copy: Path, book: FlagBook
):
    app = open_page("map", complete_copy, region=WIDE)
    assert "in the region" in words(app)
    next(b for b in app.button if b.label == "Exclude 96").click().run()
    assert book.read().counts()["exclude"] == 96
    button(app, "Undo").click().run()
    assert book.read().counts()["exclude"] == 0
    next(t for t in app.text_input if t.label == "Name").set_value(HOSTILE[:60])
    button(app, "Save").click().run()
    kept = ViewBook(*_of(complete_copy)).read()
    assert [(view.name, view.rows) for view in kept] == [(" ".join(HOSTILE[:60].split()), 192)]
    browse = open_page("browse", complete_copy, set="Whole pool", view=kept[0].name)
    assert "**96 samples**" in words(browse)


def test_browse_all_shows_every_pool_sample_of_the_region(open_page: OpenPage, complete: Path):
    app = open_page("map", complete, region=WIDE)
    link = next(e.proto for e in app.get("page_link") if e.proto.label == "Browse all")
    query = dict(parse_qsl(link.query_string))
    assert query["set"] in glossary.SETS.values()
    assert "**96 samples**" in words(open_page("browse", complete, **query))


def test_flagged_samples_are_left_out_by_the_recipe(
    open_page: OpenPage, complete_copy: Path, book: FlagBook, monkeypatch: pytest.MonkeyPatch
):
    launched = []
    monkeypatch.setattr(
        "pages.parts.select.saving.start", lambda view, label, **_: launched.append(label)
    )
    book.set([0, 2, 3], "exclude")
    book.set([100], "exclude")  # a robot frame is no candidate: its id stays out of the recipe
    app = open_page("select", complete_copy)
    assert "3 flagged samples excluded" in words(app)
    assert app.slider(key="cut_k").max == 92
    next(t for t in app.text_input if t.label == "Name").set_value("clean")
    next(t for t in app.text_input if t.label == "Note").set_value(HOSTILE)
    button(app, "Save and run").click().run()
    assert not app.exception
    assert launched == ["select.clean"]
    raw = yaml.safe_load((complete_copy / "recipes" / "small.yaml").read_text())
    assert raw["select.clean"]["exclude"] == ["web:0,2-3"]
    assert notes(Workspace.open(complete_copy), "small") == {"select.clean": HOSTILE}
    app.button_group(key="leave_out").set_value([]).run()
    assert app.slider(key="cut_k").max == 95


def test_the_budget_needs_what_nobody_told_it(open_page: OpenPage, complete: Path):
    app = open_page("select", complete)
    assert "Tokens per pass" not in metrics(app)  # closed, the box draws nothing
    app.session_state["budget"] = True
    app.run()
    assert (
        metrics(app)["Tokens per pass"] == "–"
    )  # the backbone is not on this machine: nothing is made up
    app.number_input(key="image_tokens").set_value(256).run()
    assert metrics(app)["Tokens per pass"] != "–"
    assert metrics(app)["GPU-hours"] == "–"
    assert "rule of thumb" in words(app)
    app.number_input(key="tokens_per_second").set_value(10_000.0).run()
    assert metrics(app)["GPU-hours"] != "–"
    for opened in (False, True):
        app.session_state["budget"] = opened
        app.run()
    assert metrics(app)["GPU-hours"] != "–"  # what was told is kept while the box is closed


def test_two_selections_are_compared(open_page: OpenPage, two_selections: Path):
    app = open_page("select", two_selections, compare_from="few", compare_to="top")
    found = metrics(app)
    assert (found["Added"], found["Removed"], found["In both"]) == ("10", "0", "10")
    assert found["Overlap"] == "50.0 %"


def test_viewers_see_flags_and_get_no_controls(
    open_page: OpenPage, complete_copy: Path, book: FlagBook, monkeypatch: pytest.MonkeyPatch
):
    book.set([2], "wrong")
    book.note(2, HOSTILE)
    monkeypatch.setattr(
        Workspace, "open", classmethod(lambda cls, path, **_: cls(Path(path), read_only=True))
    )
    for page, query in (("browse", {"sample": "web:2"}), ("map", {"region": WIDE}), ("select", {})):
        app = open_page(page, complete_copy, **query)
        assert not app.exception
        labels = {b.label for b in app.button}
        assert not labels & {
            "Wrong",
            "Save",
            "Save and run",
            "Undo",
            "Export",
            "Run it",
            "Exclude all",
        }
        assert not [label for label in labels if label.startswith("Exclude")]
    app = open_page("browse", complete_copy, sample="web:2")
    assert HOSTILE in [t.value for t in app.text]
    assert ":material/error: wrong" in words(app)


def test_a_viewers_callback_is_refused_with_words(
    open_page: OpenPage, complete_copy: Path, book: FlagBook
):
    """A control drawn before the workspace was shut still reaches the function that writes; that
    one refuses."""
    app: AppTest = open_page("browse", complete_copy, sample="web:2")
    object.__setattr__(app.session_state["_view"].workspace, "read_only", True)
    button(app, "Keep").click().run()
    assert not app.exception
    assert not book.path.exists()
