"""A browser tab for journeys through the app.

It fails the test where a page left an error or a broken picture, or asked for anything outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

BROKEN_PICTURES = """() => [...document.images]
    .filter(i => i.src.includes("/media/") && i.complete && i.naturalWidth === 0).map(i => i.src)"""

BUSY = ", ".join(
    (
        '[data-testid="stStatusWidget"]',
        '[data-testid="stSkeleton"]',
        '[data-testid="stSpinner"]',
        '[data-stale="true"]',
    )
)


@contextmanager
def clean_tab(window: BrowserContext, log: Path) -> Iterator[Page]:
    found = window.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    found.on(
        "console",
        lambda m: problems.append(f"console: {m.text} {m.location}") if _is_problem(m) else None,
    )
    found.on(
        "request",
        lambda r: problems.append(f"left the machine: {r.url}") if _is_outside(r.url) else None,
    )
    yield found
    broken = found.evaluate(BROKEN_PICTURES)
    for _ in range(20):  # a run of the page may still be under way
        if not broken:
            break
        found.wait_for_timeout(500)
        broken = found.evaluate(BROKEN_PICTURES)
    found.close()
    assert not broken, f"pictures that the page still shows and could not load: {broken}"
    assert not problems, problems
    text = log.read_text(errors="replace")
    assert "Traceback" not in text, text[-3000:]


def visit(page: Page, address: str, title: str) -> None:
    """Open a page of the app by its address and wait until it is all there."""
    page.goto(address)
    page.get_by_role("heading", name=title, exact=True).wait_for()
    settled(page)


def settled(page: Page) -> None:
    """Nothing runs and nothing is left to load."""
    page.wait_for_function(f"() => !document.querySelector('{BUSY}')")
    assert page.locator('[data-testid="stException"]').count() == 0


def metric(page: Page, label: str) -> Locator:
    """The value on the card that this label begins."""
    card = page.locator('[data-testid="stMetric"]').filter(
        has_text=re.compile(f"^{re.escape(label)}")
    )
    return card.locator('[data-testid="stMetricValue"]')


def _is_problem(message) -> bool:
    """Errors on the console, but for two kinds.

    Streamlit looks for its server under the page's path before it tries the root: two 404s a deep
    link. And a slider
    that redraws a gallery has the server drop pictures that the browser may still be asking for;
    the browser reports
    it once as a 404 and Streamlit once more in words. What a page shows in the end is judged by
    BROKEN_PICTURES.
    """
    text = f"{message.text} {message.location.get('url', '')}"
    return message.type == "error" and "_stcore" not in text and "/media/" not in text


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:"))
