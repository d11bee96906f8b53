"""The Present page: read, edited, saved, taken away; over empty, half-done and complete
workspaces."""

from __future__ import annotations

import pytest
from app_world import HOSTILE, PATIENCE_MS, Server
from page_runner import button, metrics, words
from playwright.sync_api import Page, expect

from emt_core.explore.reading import open_reading
from emt_core.explore.report.report import KINDS, first_story
from emt_core.explore.report.story import load_story, save_story
from emt_core.workspace.artifact import VIEW_ONLY, Workspace

expect.set_options(timeout=PATIENCE_MS)


def test_an_empty_workspace_teaches(open_page, empty):
    assert "This workspace is empty" in words(open_page("present", empty))


def test_a_half_done_workspace_says_what_to_run(open_page, half_done):
    app = open_page("present", half_done)
    assert not app.exception
    assert "--until gap" in words(app)


def test_a_complete_workspace_is_told_with_measured_sentences(open_page, complete):
    app = open_page("present", complete)
    assert not app.exception
    headers = [header.value for header in app.header]
    assert headers == [
        KINDS[kind].heading for kind in ("data", "gap", "map", "scores", "selection", "examples")
    ]
    select = open_reading(Workspace.open(complete)).chain.select.metrics
    assert metrics(app)["Selected"] == f"{select['selected']:,}"
    assert "--until midtrain" in words(app)  # what is missing says what to run


def test_words_order_and_choice_are_edited_and_saved(open_page, complete_copy):
    app = open_page("present", complete_copy)
    app.segmented_control(key="mode").set_value("edit").run()
    by_label = {field.label: field for field in (*app.text_input, *app.text_area)}
    by_label["Title"].set_value(HOSTILE).run()
    by_label = {field.label: field for field in app.text_input}
    by_label["Heading of “The gap”"].set_value("How far apart?").run()
    downs = [b for b in app.button if b.label == "Down"]
    downs[0].click().run()  # the data go behind the gap
    app.toggle[-1].set_value(False).run()
    next(f for f in app.text_input if f.label == "Name").set_value("meeting").run()
    button(app, "Save story").click().run()
    assert not app.exception
    story = load_story(Workspace.open(complete_copy), "small", "meeting")
    assert story.title == HOSTILE
    assert [block.kind for block in story.blocks[:3]] == ["gap", "data", "map"]
    assert story.blocks[0].heading == "How far apart?"
    assert not story.blocks[-1].shown
    assert story.select == "select.top"
    app.segmented_control(key="mode").set_value("read").run()
    headers = [header.value.replace("\\", "") for header in app.header]
    assert headers[:2] == ["How far apart?", "The data"]


@pytest.mark.parametrize("name", ["../../up", "a b", ""])
def test_a_bad_name_is_refused_with_a_message(open_page, complete_copy, name):
    app = open_page("present", complete_copy)
    app.segmented_control(key="mode").set_value("edit").run()
    next(f for f in app.text_input if f.label == "Name").set_value(name).run()
    button(app, "Save story").click().run()
    assert not app.exception
    assert "cannot be a story's name" in words(app)
    assert not (complete_copy / "stories").exists()


def test_the_file_is_saved_into_the_workspace(open_page, complete_copy):
    app = open_page("present", complete_copy)
    button(app, "Save to the workspace").click().run()
    assert (
        "Content-Security-Policy"
        in (complete_copy / "stories" / "small" / "story.html").read_text()
    )


def test_a_viewer_reads_and_cannot_edit(open_page, complete, monkeypatch):
    monkeypatch.setenv(VIEW_ONLY, "1")
    app = open_page("present", complete)
    assert not app.exception
    assert app.title[-1].value
    assert not [b.label for b in app.button if b.label.startswith(("Save", "Run", "Delete"))]
    assert "mode" not in app.session_state
    assert "emt run" not in words(app)


@pytest.mark.browser
def test_the_downloaded_file_is_the_story(page: Page, server: Server):
    story = first_story().model_copy(update={"title": HOSTILE})
    save_story(Workspace.open(server.workspace), "small", "hostile", story)
    try:
        page.goto(f"{server.address}/present?story=hostile")
        expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
        expect(page.locator(".js-plotly-plot")).to_have_count(7)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download as HTML").click()
        text = download.value.path().read_text(encoding="utf-8")
        assert download.value.suggested_filename == "small-hostile.html"
        assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in text
        assert page.evaluate("window.hacked") is None
    finally:
        (server.workspace / "stories" / "small" / "hostile.json").unlink()
