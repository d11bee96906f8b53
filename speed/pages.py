"""What a person waits for: every page's first paint, a slider's figures, a lasso's gallery,
measured in the browser.

    python speed/million.py --demo workspace-demo --out workspace-million
    python speed/pages.py --workspace workspace-million [--repeats 3] [--pages map,select]
                          [--out FILE.md]

paint    from navigation until the page's title and its first figure, table, number or picture show
whole    until nothing runs and nothing changes any more: the end of the last change
cold     the first visit to a server just started, nothing cached; one fresh server a page
warm     a new session on a server that has shown the page before; median of the repeats

The browser's own clock takes every time; a MutationObserver notes what changes. Goals: paint 2 s
warm and 5 s cold, slider to figures 300 ms, lasso to gallery 500 ms.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
]
VIEWPORT = {"width": 1440, "height": 900}
QUIET_MS = 1500
PATIENCE_MS = 240_000

WATCH = """() => {
  const seen = (where, what) => [...where.querySelectorAll(what)]
    .some((e) => e.getBoundingClientRect().height > 0);
  const content = '.js-plotly-plot .main-svg, [data-testid="stMetric"], '
    + '[data-testid="stDataFrame"], '
    + '[data-testid="stImage"] img, [data-testid="stCode"], [data-testid="stTable"]';
  const busy = '[data-testid="stSkeleton"], [data-testid="stSpinner"], [data-stale="true"]';
  const m = (window.__m = { paint: null, last: 0, plot: 0, since: 0 });
  const main = () => document.querySelector('[data-testid="stMain"]');
  new MutationObserver((changes) => {
    const now = performance.now();
    for (const change of changes) {
      const at = change.target.nodeType === 1 ? change.target : change.target.parentElement;
      if (!at || !at.closest || !at.closest('[data-testid="stMain"]')) continue;
      m.last = now;
      if (at.closest('.js-plotly-plot')) m.plot = now;
    }
    const where = main();
    if (m.paint === null && where && seen(where, 'h1') && seen(where, content)) {
      requestAnimationFrame(() => requestAnimationFrame(() => { m.paint ??= performance.now(); }));
    }
  }).observe(document, { childList: true, subtree: true, characterData: true, attributes: true,
                         attributeFilter: ['d', 'transform', 'src', 'style', 'points', 'href'] });
  window.__quiet = (ms) => {
    const app = document.querySelector('[data-testid="stApp"]');
    const running = app && app.getAttribute('data-test-script-state') === 'running';
    const loading = [...document.images].some((i) => !i.complete);
    const titled = main() && seen(main(), 'h1');
    return app && titled && !running && !loading && !document.querySelector(busy)
      && performance.now() - m.last > ms;
  };
  window.__since = (event) => {
    const begin = () => { m.since = performance.now(); m.plot = 0; };
    document.addEventListener(event, begin, { capture: true, once: true });
  };
}"""


@contextmanager
def server(workspace: Path) -> Iterator[str]:
    """A fresh app over the workspace; its address."""
    sys.path.insert(0, str(ROOT / "tests" / "worlds"))
    from app_world import serve

    with (
        tempfile.TemporaryDirectory() as aside,
        contextmanager(serve)(workspace, Path(aside) / "server.log") as app,
    ):
        yield app.address


@contextmanager
def opened(browser: Browser) -> Iterator[Page]:
    """A page in a context of its own: a new session, an empty cache."""
    context = browser.new_context(viewport=VIEWPORT)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(f"({WATCH})()")
    try:
        yield page
    finally:
        context.close()


def quiet(page: Page) -> None:
    page.wait_for_function(f"window.__quiet && window.__quiet({QUIET_MS})")


def visit(browser: Browser, address: str) -> dict[str, float | None]:
    """Milliseconds to paint and to the last change."""
    with opened(browser) as page:
        page.goto(address, wait_until="commit")
        quiet(page)
        # a page of words alone (no jobs yet) is painted when it is whole
        return page.evaluate(
            "({paint: window.__m.paint ?? window.__m.last, whole: window.__m.last})"
        )


def move_slider(browser: Browser, address: str, repeats: int) -> list[float]:
    """For each key press on the K slider, ms to the last change of a figure."""
    with opened(browser) as page:
        page.goto(f"{address}/select")
        quiet(page)
        thumb = page.get_by_role("slider", name="K, samples kept")
        thumb.focus()
        found = []
        for _ in range(repeats):
            page.evaluate("window.__since('keydown')")
            thumb.press("PageUp")
            page.wait_for_function("window.__m.plot > window.__m.since")
            quiet(page)
            found.append(page.evaluate("window.__m.plot - window.__m.since"))
        return found


def draw_box(browser: Browser, address: str, repeats: int) -> list[float]:
    """Milliseconds from letting go of the mouse to the first picture of the region's gallery, a box
    each."""
    found = []
    for turn in range(repeats):
        with opened(browser) as page:
            page.goto(f"{address}/map")
            quiet(page)
            box = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first.bounding_box()
            assert box is not None
            x = box["x"] + box["width"] * (0.3 + 0.05 * turn)
            y = box["y"] + box["height"] * 0.3
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 60, y + 40, steps=4)
            page.mouse.move(x + box["width"] * 0.35, y + box["height"] * 0.4, steps=4)
            page.evaluate("""() => {
              window.__since('mouseup');
              window.__gallery = null;
              const look = () => {
                const image = document.querySelector(
                    '[data-testid="stMain"] [data-testid="stImage"] img');
                if (image && image.complete && image.naturalWidth)
                    window.__gallery = performance.now();
                else requestAnimationFrame(look);
              };
              look();
            }""")
            page.mouse.up()
            page.wait_for_function("window.__gallery !== null")
            found.append(page.evaluate("window.__gallery - window.__m.since"))
    return found


def pages_of_the_app() -> dict[str, str]:
    """Title -> address below the root, from the router's table."""
    from pages.parts.router import PAGES

    entries = [entry for group in PAGES.values() for entry in group]
    return {title: "" if place == 0 else name for place, (title, name, *_) in enumerate(entries)}


def machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model n" in line
    ]
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} CPUs, {total:.0f} GB"


def milliseconds(values: list[float | None] | list[float], goal: float | None = None) -> str:
    given = [value for value in values if value is not None]
    if not given:
        return "–"
    text = f"{statistics.median(given):,.0f} ms"
    return text if goal is None else f"{text} {'✓' if statistics.median(given) <= goal else '✗'}"


def report(
    rows: list[tuple[str, ...]], interactions: dict[str, list[float]], facts: dict[str, Any]
) -> str:
    lines = [
        "# What a person waits for at a million samples",
        "",
        f"`python speed/pages.py --workspace W --repeats {facts['repeats']}` on {facts['date']}:",
        f"{facts['machine']}; load {facts['before']:.1f} before, {facts['after']:.1f} after;",
        "server and headless chromium on this machine.",
        f"Workspace: {facts['rows']:,} rows, made by `speed/million.py`. Goals in brackets; ✓ met, "
        "✗ missed.",
        "`paint`: title and first content on screen; `whole`: the last change. Cold: one fresh "
        "server a page.",
        "",
        "| page | cold paint [5 s] | cold whole | warm paint [2 s] | warm whole |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    if interactions:
        lines += ["", "| interaction | median | slowest |", "|---|---|---|"]
        for (name, values), goal in zip(interactions.items(), (300, 500), strict=True):
            lines.append(
                f"| {name} [{goal} ms] | {milliseconds(values, goal)} | {max(values):,.0f} ms |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pages", help="addresses of pages, by commas; default: all")
    parser.add_argument(
        "--no-cold", action="store_true", help="leave out the visits to fresh servers"
    )
    parser.add_argument("--no-interactions", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    asked = parser.parse_args()
    from emt_core.workspace.artifact import Workspace

    rows_held = max(
        (a.rows for a in Workspace.open(asked.workspace, read_only=True).artifacts("sources")),
        default=0,
    )
    facts: dict[str, Any] = {
        "machine": machine(),
        "before": os.getloadavg()[0],
        "rows": rows_held,
        "repeats": asked.repeats,
        "date": time.strftime("%d %B %Y"),
    }
    wanted = pages_of_the_app()
    if asked.pages is not None:
        wanted = {
            title: path
            for title, path in wanted.items()
            if (path or "first") in asked.pages.split(",")
        }
    workspace = asked.workspace.resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        cold: dict[str, dict[str, float | None]] = {}
        for title, path in {} if asked.no_cold else wanted.items():
            with server(workspace) as address:
                cold[title] = visit(browser, f"{address}/{path}")
                print(f"{title} cold: {cold[title]}", flush=True)
        rows = []
        interactions = {}
        with server(workspace) as address:
            for title, path in wanted.items():
                visit(browser, f"{address}/{path}")
                times = [visit(browser, f"{address}/{path}") for _ in range(asked.repeats)]
                first = cold.get(title, {})
                rows.append(
                    (
                        title,
                        milliseconds([first.get("paint")], 5000),
                        milliseconds([first.get("whole")]),
                        milliseconds([t["paint"] for t in times], 2000),
                        milliseconds([t["whole"] for t in times]),
                    )
                )
                print(" | ".join(rows[-1]), flush=True)
            if not asked.no_interactions:
                interactions["slider to figures"] = move_slider(browser, address, 3 * asked.repeats)
                print("slider", interactions["slider to figures"], flush=True)
                interactions["lasso to gallery"] = draw_box(browser, address, asked.repeats)
        browser.close()
    text = report(rows, interactions, {**facts, "after": os.getloadavg()[0]})
    print(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
