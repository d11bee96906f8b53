"""In a real browser: an episode plays, a source is added and read, the gap and the estimator are
looked at."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_world import PATIENCE_MS, Server, serve
from browser_tab import settled, visit
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)
MAIN = '[data-testid="stMain"]'


@pytest.fixture(scope="module")
def server(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of our own: this journey changes the recipe."""
    base = tmp_path_factory.mktemp("data-served")
    yield from serve(shutil.copytree(complete, base / "ws"), base / "server.log")


def test_an_episode_plays_with_its_curves(page: Page, server: Server):
    visit(page, f"{server.address}/sources", "Sources")
    expect(page.get_by_role("heading", name="3 sources", exact=True)).to_be_visible()
    page.locator(MAIN).get_by_role("button", name="Open", exact=True).nth(1).click()
    expect(page.get_by_role("heading", name="arm", exact=True)).to_be_visible()
    settled(page)
    assert "source=arm" in page.url
    page.get_by_role("radiogroup").get_by_text("5 · open the drawer").click()
    expect(page).to_have_url(re.compile("episode=5"))
    settled(page)
    player = page.locator(".js-plotly-plot").first
    picture = player.locator(".im image")
    expect(player.get_by_text("frame 0 · 0.00 s")).to_be_visible()
    expect(picture).to_have_attribute("href", re.compile("^data:image/jpeg"))
    first = picture.get_attribute("href")
    expect(player.locator(".ytick").get_by_text("grip")).to_be_visible()
    player.get_by_text("Play").click()
    expect(player.get_by_text("frame 9 · 0.90 s")).to_be_visible()
    assert picture.get_attribute("href") != first
    visit(page, page.url, "Sources")  # the link holds source and episode
    expect(page.get_by_role("heading", name="arm", exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot").first.get_by_text("frame 0 · 0.00 s")).to_be_visible()


def test_a_source_is_added_looked_at_saved_and_read(page: Page, server: Server):
    visit(page, f"{server.address}/sources", "Sources")
    page.get_by_role("button", name="Add a source").click()
    expect(page.get_by_role("heading", name="Add a source", exact=True)).to_be_visible()
    settled(page)
    for label, text in (("Name", "again"), ("Path", "web/web.json"), ("Image root", "images")):
        field = page.get_by_role("textbox", name=label, exact=True)
        field.fill(text)
        field.press("Enter")
        settled(page)
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    look = page.get_by_role("button", name="Preview the first 200 rows")
    expect(look).to_be_enabled()
    look.click()
    expect(page.locator('[data-testid="stMetric"]').filter(has_text="Kept")).to_contain_text("96")
    save = page.get_by_role("button", name="Save", exact=True)
    expect(save).to_be_enabled()
    save.click()
    expect(
        page.get_by_text("Changed since the sources were read: 1 added (again).")
    ).to_be_visible()
    expect(page.get_by_text("in the recipe, not read yet")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Run sources").click()
    expect(page.get_by_text("The sources were read again.")).to_be_visible()
    settled(page)
    expect(page.get_by_text("in the recipe, not read yet")).to_have_count(0)
    expect(page.get_by_text("Changed since the sources were read")).to_have_count(0)
    assert page.locator(MAIN).get_by_role("button", name="Open", exact=True).count() == 4


def test_the_gap_is_read_without_hovering(page: Page, server: Server):
    visit(page, f"{server.address}/gap", "Gap")
    matrix = page.locator(".js-plotly-plot").first
    expect(matrix.locator(".heatmap-label").first).to_be_visible()
    assert matrix.locator(".heatmap-label").count() >= 9
    page.get_by_text("raw", exact=True).click()
    settled(page)
    assert "values=raw" in page.url
    expect(page.get_by_text(re.compile(r"^distance")).first).to_be_visible()


def test_estimator_and_scores_draw(page: Page, server: Server):
    visit(page, f"{server.address}/estimator", "Estimator")
    expect(page.locator(".js-plotly-plot")).to_have_count(6)
    visit(page, f"{server.address}/scores", "Scores")
    page.get_by_text("before and after", exact=True).click()
    expect(page.get_by_text("After selection")).to_be_visible()
    settled(page)
    expect(page.locator(".js-plotly-plot")).to_have_count(5)
