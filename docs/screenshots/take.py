"""Take the screenshots of this folder from a running app: every page, 1280 and 1920 px wide, light and dark.

emt app --workspace W --no-browser --port 8501     in one terminal
python docs/screenshots/take.py http://127.0.0.1:8501
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
PAGES = {"map": "", "scores": "scores", "select": "select", "browse": "browse"}
SIZES = {1280: 900, 1920: 1080}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PATIENCE_MS = 180_000
COLOURS = 256
MOST_BYTES = 300_000
BUSY = '[data-testid="stStatusWidget"],[data-testid="stSkeleton"],[data-testid="stSpinner"],[data-stale="true"]'


def settled(page: Page) -> None:
    page.wait_for_selector('[data-testid="stHeading"]')
    page.wait_for_timeout(1500)
    page.wait_for_function(f"() => !document.querySelector('{BUSY}')")
    page.wait_for_timeout(2500)


def save(picture: bytes, path: Path) -> None:
    """As it is where that is small enough, else with a palette of 256 colours (which flattens the palest greys)."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT).save(path, optimize=True)


def main(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for scheme in ("light", "dark"):
            for width, height in SIZES.items():
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                page.set_default_timeout(PATIENCE_MS)
                for name, path in PAGES.items():
                    page.goto(f"{address}/{path}")
                    settled(page)
                    target = HERE / f"{name}-{width}-{scheme}.png"
                    save(page.screenshot(), target)
                    print(target.name, f"{target.stat().st_size / 1024:.0f} KiB")
                context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
