"""In a real browser: an experiment's results are read, a link names the reference, a rollout is
looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from app_world import PATIENCE_MS, Server, serve
from browser_tab import settled, visit
from evaluate_world import evaluated, experiment
from playwright.sync_api import Page, expect

from emt_core.workspace.files import read_json, write_json

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three arms on Meta-World, and one evaluation on a benchmark of the paper."""
    base = tmp_path_factory.mktemp("results-served")
    space = experiment(base / "ws", seeds=(0,), episodes=4, videos=1)
    evaluated(
        space, "libero", 0.5, benchmark="libero_10", tasks=("put_both",), checkpoints=(9,), videos=0
    )
    state = read_json(space.path / "state" / "arms.json")
    write_json(space.path / "state" / "arms.json", state | {"evaluate.libero@learned/0": "libero"})
    yield from serve(space.path, base / "server.log")


def test_results_are_read_compared_and_watched(page: Page, server: Server):
    visit(page, f"{server.address}/results?reference=random", "Results")
    expect(
        page.get_by_text(re.compile(r"^12 episodes per arm: the 95 % interval is \d+ points wide"))
    ).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(
        3
    )  # by task, over fine-tuning, differences
    expect(page.get_by_text("difference in success to random")).to_be_visible()
    video = page.locator("video").first
    video.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    page.get_by_role("radiogroup").get_by_text("Successes", exact=True).click()
    settled(page)
    expect(page.get_by_text("out of steps")).to_have_count(0)
    page.get_by_role("radiogroup").get_by_text("libero_10", exact=True).click()
    expect(page).to_have_url(re.compile("benchmark=libero_10"))
    expect(page.get_by_text("Other backbones, data and compute")).to_be_visible()
    settled(page)
