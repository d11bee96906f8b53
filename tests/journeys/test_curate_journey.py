"""A day's work in a real browser: tune, save, browse, flag, leave out, lasso, keep a view, export,
read it again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from app_world import PATIENCE_MS, Server, serve
from browser_tab import metric, settled, visit
from playwright.sync_api import Page, expect
from pydantic import TypeAdapter

from emt_core.data.readers import locate, read
from emt_core.data.sample import Sample
from emt_core.explore.curation.flags import FlagBook
from emt_core.recipe.sources import SourceConfig
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import finished

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)
NOTE = "<i>odd</i> **stars** $x$"
VIEW = "<b>corner</b> **v** $y$"


@pytest.fixture(scope="module")
def server(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a workspace that this journey may change."""
    base = tmp_path_factory.mktemp("curated")
    yield from serve(shutil.copytree(complete, base / "ws"), base / "server.log")


@pytest.fixture
def book(server: Server) -> FlagBook:
    space = Workspace.open(server.workspace)
    return FlagBook(space, finished(space, "small")["sources"])


def test_a_cut_is_tuned_saved_browsed_and_flagged(page: Page, server: Server, book: FlagBook):
    visit(page, f"{server.address}/select?selection=top&k=23", "Select")
    expect(metric(page, "Selected")).to_have_text("23")
    page.get_by_role("slider", name="K, samples kept").press("ArrowRight")
    expect(metric(page, "Selected")).to_have_text("24")
    settled(page)
    page.get_by_role("textbox", name="Name").fill("tuned")
    page.get_by_role("textbox", name="Note").fill(NOTE)
    page.get_by_role("button", name="Save and run").click()
    expect(page.get_by_role("button", name="Browse tuned")).to_be_visible()
    expect(page.get_by_role("heading", name="Compare two selections")).to_be_visible()
    settled(page)
    _browse_and_flag(page)
    flags = book.read()
    assert flags.counts() == {"keep": 0, "doubtful": 0, "wrong": 1, "exclude": 1}
    assert flags.notes == {int(flags.rows(["exclude"])[0]): NOTE}


def _browse_and_flag(page: Page) -> None:
    """The first sample is wrong, the next one is to be excluded; both by key."""
    page.get_by_role("button", name="Browse tuned").click()
    expect(page.get_by_role("heading", name="Browse", exact=True)).to_be_visible()
    expect(page.get_by_text("24 samples")).to_be_visible()
    settled(page)
    page.get_by_role("link", name="Open").first.click()
    expect(page.get_by_text("1 of 24 of selected")).to_be_visible()
    settled(page)
    page.keyboard.press("w")
    expect(
        page.get_by_test_id("stBaseButton-primary").filter(has_text="Wrong").first
    ).to_be_visible()
    settled(page)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("2 of 24 of selected")).to_be_visible()
    settled(page)
    page.keyboard.press("x")
    expect(
        page.get_by_test_id("stBaseButton-primary").filter(has_text="Exclude").first
    ).to_be_visible()
    settled(page)
    note = page.get_by_role("textbox", name="Note")
    note.fill(NOTE)
    note.blur()
    settled(page)
    page.get_by_role("button", name="Back to the gallery").click()
    expect(page.get_by_text("24 samples")).to_be_visible()  # the result is what it was
    settled(page)
    assert page.locator('[data-testid="stMain"]').get_by_text("exclude", exact=False).count() >= 1


def test_flagged_samples_are_left_out_of_a_new_selection(
    page: Page, server: Server, book: FlagBook
):
    book.set(range(96), "")
    book.set([2], "exclude")
    book.set([4], "wrong")
    visit(page, f"{server.address}/select?k=24", "Select")
    expect(
        page.get_by_text("1 flagged sample excluded")
    ).to_be_visible()  # `exclude` is on by itself
    page.get_by_test_id("stMain").get_by_role("button", name=re.compile("wrong")).click()
    expect(page.get_by_text("2 flagged samples excluded")).to_be_visible()
    settled(page)
    page.get_by_role("textbox", name="Name").fill("clean")
    page.get_by_role("button", name="Save and run").click()
    expect(page.get_by_role("button", name="Browse clean")).to_be_visible()
    settled(page)
    raw = yaml.safe_load((server.workspace / "recipes" / "small.yaml").read_text())
    assert raw["select.clean"]["exclude"] == ["web:2,4"]
    assert finished(book.workspace, "small")["select.clean"].metrics["reasons"]["excluded"] == 2


def test_a_lasso_over_the_raster_is_kept_excluded_and_restored(page: Page, server: Server):
    """Over the density raster, whose decoys make a drawn shape arrive."""
    visit(page, f"{server.address}/map?density=true", "Map")
    page.locator(".js-plotly-plot").first.locator('.modebar-btn[data-val="lasso"]').click()
    box = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.03, 0.03)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()
    title = page.get_by_role("heading", name=re.compile(r"^\d+ samples in the region$"))
    expect(title).to_be_visible()
    settled(page)
    count = title.inner_text()
    page.get_by_role("button", name="Save view").click()
    page.get_by_role("textbox", name="Name").fill(VIEW)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved. Restore it under Views")).to_be_visible()
    page.keyboard.press("Escape")
    settled(page)
    page.get_by_role("button", name=re.compile(r"^Exclude \d")).click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    page.get_by_role("button", name="Clear region").click()
    expect(title).to_have_count(0)
    settled(page)
    page.get_by_role("button", name="Views (1)").click()
    page.get_by_role("button", name=VIEW).click()  # its name stands there letter by letter
    expect(page.get_by_role("heading", name=count)).to_be_visible()
    settled(page)
    assert page.locator('[data-testid="stMain"] b', has_text="corner").count() == 0


def test_an_export_from_the_page_reads_back(page: Page, server: Server, tmp_path: Path):
    out = tmp_path / "exported"
    visit(page, f"{server.address}/select?selection=top", "Select")
    field = page.get_by_role("textbox", name="Folder on the server")
    field.fill(str(out))
    field.press("Enter")
    settled(page)
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_text("Export top as LLaMA-Factory")).to_be_visible()
    for _ in range(240):
        if (out / "provenance.json").exists():
            break
        page.wait_for_timeout(500)
    source = TypeAdapter(SourceConfig).validate_python(
        {
            "name": "again",
            "role": "pool",
            "format": "sharegpt",
            "path": ".",
            "dataset": "embodied_midtrain",
        }
    )
    rows = list(read(source, locate(source, out)))
    assert all(isinstance(row, Sample) for row in rows)
    assert len(rows) == 20
