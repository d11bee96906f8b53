"""Take the screenshots of this folder from a running app: every page, 1280 and 1920 px wide, light
and dark.

emt app --workspace W --no-browser --port 8501     in one terminal
python docs/screenshots/take.py http://127.0.0.1:8501 [--pages map,select] [--out FOLDER]

The pages are those of the app's router. A page is taken when nothing runs and nothing has changed
for a while; an error
on it ends the run, so that no such picture is ever committed.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
SIZES = {1280: 900, 1920: 1080}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 180_000
QUIET_MS = 2500
COLORS = 256
MOST_BYTES = 300_000
BUSY = '[data-testid="stStatusWidget"],[data-testid="stSkeleton"],[data-testid="stSpinner"],[data-stale="true"]'
WATCH = """() => {
  window.__changed = performance.now();
  new MutationObserver(() => { window.__changed = performance.now(); }).observe(
    document, { childList: true, subtree: true, characterData: true, attributes: true });
}"""
QUIET = f"""() => !document.querySelector('{BUSY}') && document.querySelector('[data-testid="stMain"] h1')
    && document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    && [...document.images].every((i) => i.complete) && performance.now() - window.__changed > {QUIET_MS}"""


def pages_of_the_app() -> dict[str, str]:
    """Name of the file to write -> address below the root."""
    from pages.parts.router import PAGES

    names = [name for group in PAGES.values() for _, name, _ in group]
    return {name: "" if place == 0 else name for place, name in enumerate(names)}


def settled(page: Page) -> None:
    page.wait_for_function(QUIET)
    if page.locator('[data-testid="stException"]').count():
        raise SystemExit(f"{page.url} shows an error; see the server's log")


def save(picture: bytes, path: Path) -> None:
    """As it is where that is small enough, else with a palette of 256 colours (which flattens the
    palest greys)."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(COLORS, method=Image.Quantize.MEDIANCUT).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address")
    parser.add_argument("--pages", help="names of pages, by commas; default: all")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    wanted = pages_of_the_app()
    if asked.pages:
        wanted = {name: wanted[name] for name in asked.pages.split(",")}
    asked.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        for scheme in ("light", "dark"):
            for width, height in SIZES.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = context.new_page()
                page.set_default_timeout(PATIENCE_MS)
                page.add_init_script(f"({WATCH})()")
                for name, path in wanted.items():
                    page.goto(f"{asked.address.rstrip('/')}/{path}")
                    settled(page)
                    target = asked.out / f"{name}-{width}-{scheme}.png"
                    save(page.screenshot(), target)
                    print(target.name, f"{target.stat().st_size / 1024:.0f} KiB", flush=True)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
