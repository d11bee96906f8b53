"""The main journeys in a real browser: every page clean, sliders, saving, browsing, lassoing,
hostile text."""

from __future__ import annotations

import re

import pytest
from app_world import HOSTILE, PATIENCE_MS, Server
from browser_tab import metric, settled, visit
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)


@pytest.mark.parametrize(
    ("path", "title", "figures"),
    [
        ("", "Overview", 1),
        ("overview", "Overview", 1),
        ("map", "Map", 3),
        ("scores", "Scores", 4),
        ("select", "Select", 2),
        ("browse", "Browse", 0),
    ],
)
def test_every_page_opens_by_its_address(page: Page, server: Server, path, title, figures):
    visit(page, f"{server.address}/{path}", title)
    expect(page.locator(".js-plotly-plot")).to_have_count(figures)
    assert page.locator('[data-testid="stAlert"]').count() == 0


def test_pages_are_reached_from_the_sidebar(page: Page, server: Server):
    visit(page, server.address, "Overview")
    for title in ("Map", "Jobs", "Overview"):
        page.locator('[data-testid="stSidebar"]').get_by_role("link", name=title).click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        settled(page)


def test_moving_the_threshold_changes_counts_and_the_link(page: Page, server: Server):
    visit(page, f"{server.address}/select?selection=top", "Select")
    expect(metric(page, "Selected")).to_have_text("20")
    thumb = page.get_by_role("slider", name="Threshold (logit)")
    before = float(thumb.input_value())
    thumb.focus()
    for _ in range(40):
        thumb.press("ArrowLeft")
    expect(metric(page, "Selected")).not_to_have_text("20")
    settled(page)
    count = metric(page, "Selected").inner_text()
    assert float(thumb.input_value()) < before
    assert int(count) > 20
    expect(page.get_by_role("slider", name="K, samples kept")).to_have_value(count)
    assert f"k={count}" in page.url
    visit(page, page.url, "Select")
    expect(metric(page, "Selected")).to_have_text(count)


def test_saving_a_selection_runs_a_job_and_shows_it(page: Page, server: Server):
    visit(page, f"{server.address}/select?k=15", "Select")
    page.get_by_role("textbox", name="Name").fill("from-the-browser")
    page.get_by_role("button", name="Save and run").click()
    expect(page.get_by_text("Selection from-the-browser")).to_be_visible()
    expect(page.get_by_role("button", name="Browse from-the-browser")).to_be_visible()
    recipe = (server.workspace / "recipes" / "small.yaml").read_text()
    assert "select.from-the-browser" in recipe
    settled(page)
    page.get_by_role("button", name="Browse from-the-browser").click()
    expect(page.get_by_role("heading", name="Browse", exact=True)).to_be_visible()
    expect(page.get_by_text("15 samples")).to_be_visible()


def test_a_box_on_the_map_becomes_a_gallery(page: Page, server: Server):
    visit(page, f"{server.address}/map", "Map")
    plot = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=6)
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] - 8, steps=6)
    page.mouse.up()
    expect(page.get_by_role("heading", name="Region", exact=True)).to_be_visible()
    expect(
        page.get_by_role("heading", name=re.compile(r"^\d+ samples in the region$"))
    ).to_be_visible()
    settled(page)
    assert page.locator('[data-testid="stImage"] img').count() >= 12
    assert "region=" in page.url
    visit(page, page.url, "Map")  # the link holds the region
    expect(page.get_by_role("heading", name="Region", exact=True)).to_be_visible()


def test_a_region_takes_what_is_shown_and_no_more(page: Page, server: Server):
    """A click on the legend hides nothing: the server would not know of it. The controls do."""
    visit(page, f"{server.address}/map?color=category&show=pool", "Map")
    plot = page.locator(".js-plotly-plot").first
    traces = plot.locator(".legend .traces")
    name = (traces.first.text_content() or "").split(" (")[0]
    entry = traces.first.bounding_box()
    assert entry is not None
    page.mouse.click(entry["x"] + entry["width"] / 2, entry["y"] + entry["height"] / 2)
    page.wait_for_timeout(600)  # plotly waits for a second click before it hides
    assert plot.evaluate("e => e._fullData.every(trace => trace.visible === true)")

    def in_a_box() -> int:
        box = plot.locator(".nsewdrag").first.bounding_box()
        page.mouse.move(box["x"] + 4, box["y"] + 4)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=6)
        page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] - 4, steps=6)
        page.mouse.up()
        title = page.get_by_role("heading", name=re.compile(r"^\d+ samples? in the region$"))
        expect(title).to_be_visible()
        settled(page)
        return int(title.inner_text().split()[0])

    whole = in_a_box()
    visit(page, f"{server.address}/map?color=category&show=pool&category={name}", "Map")
    assert plot.locator(".legend .traces").count() == 1
    some = in_a_box()
    assert 0 < some < whole
    page.get_by_role("link", name="Browse all").click()
    expect(page.get_by_text(f"{some} samples")).to_be_visible()


def test_browsing_searching_and_opening_a_sample(page: Page, server: Server):
    visit(page, f"{server.address}/browse?selection=top", "Browse")
    expect(page.get_by_text("20 samples")).to_be_visible()
    page.get_by_text("Whole pool", exact=True).click()
    expect(page.get_by_text("96 samples")).to_be_visible()
    field = page.get_by_role("textbox", name="Conversation contains")
    field.fill("which of THESE")
    field.press("Enter")
    expect(page.get_by_text("1 sample", exact=True)).to_be_visible()
    settled(page)
    page.get_by_role("link", name="Open").click()
    expect(page.get_by_role("heading", name="Sample", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Nearest robot frames")).to_be_visible()
    settled(page)  # the gallery's card, which says the same, is gone
    expect(page.get_by_text("Which of these is the largest?")).to_be_visible()
    expect(page).to_have_url(re.compile(r"sample=web(%3A|:)7"))


def test_data_text_stays_literal_and_harmless(page: Page, server: Server):
    visit(page, f"{server.address}/browse?sample=web:0", "Sample")
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    visit(page, f"{server.address}/browse?text=stars", "Browse")
    page.get_by_text("Whole pool", exact=True).click()
    expect(page.get_by_text("<script>window.hacked")).to_be_visible()
    settled(page)
    assert page.evaluate("window.hacked") is None
    main = page.locator('[data-testid="stMain"]')
    assert main.locator("script, .katex").count() == 0
    assert main.locator("b", has_text="bold?").count() == 0
    assert main.locator("strong", has_text="stars").count() == 0
    assert main.locator('a[href^="javascript"]').count() == 0
