"""Real small workspaces for the app: empty, half done, complete; a server; a browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_world import ARGUMENTS, CHROMIUM, PATIENCE_MS, Server, emt, hostile_world, serve
from page_runner import OpenPage, page_runner

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page


@pytest.fixture(scope="session", autouse=True)
def users_own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The list of workspaces opened lately is the tester's own, not the user's."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    yield
    os.environ.pop("XDG_CONFIG_HOME")
    if before is not None:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.fixture(autouse=True)
def main_module_stays() -> Iterator[None]:
    """A page run in the test process takes the place of `__main__`; worker processes of later tests would run it."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything from sources to select has run. Tests that write take a copy."""
    base = tmp_path_factory.mktemp("app")
    world = hostile_world(base / "world")
    emt("run", world / "recipe.yaml", "--workspace", base / "ws")
    return base / "ws"


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """open_page(name, workspace, **query): the page after its first run, in the test process."""
    return page_runner(monkeypatch)


@pytest.fixture
def complete_copy(complete: Path, tmp_path: Path) -> Path:
    return shutil.copytree(complete, tmp_path / "ws")


@pytest.fixture
def half_done(complete: Path, tmp_path: Path) -> Path:
    """Sources, features and categories are there; nothing that needs an estimator."""
    space = shutil.copytree(complete, tmp_path / "half")
    for stage in ("gap", "estimator", "score", "select"):
        shutil.rmtree(space / stage)
    return space


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "empty"


@pytest.fixture(scope="session")
def server(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app over its own copy of the complete workspace."""
    base = tmp_path_factory.mktemp("served")
    yield from serve(shutil.copytree(complete, base / "ws"), base / "server.log")


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


BROKEN_PICTURES = """() => [...document.images]
    .filter(i => i.src.includes("/media/") && i.complete && i.naturalWidth === 0).map(i => i.src)"""


@pytest.fixture(scope="session")
def window(browser) -> Iterator[BrowserContext]:
    """One window for all tests: what the app is made of is loaded once. A test has a tab and a session of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(window, server: Server):
    """A page that fails the test when it leaves an error on the console or asks for anything outside this machine."""
    with clean_tab(window, server.log) as found:
        yield found


@contextmanager
def clean_tab(window: BrowserContext, log: Path) -> Iterator[Page]:
    found = window.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    found.on("console", lambda m: problems.append(f"console: {m.text} {m.location}") if _is_problem(m) else None)
    found.on("request", lambda r: problems.append(f"left the machine: {r.url}") if _is_outside(r.url) else None)
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


def _is_problem(message) -> bool:
    """Errors on the console, but for two kinds.

    Streamlit looks for its server under the page's path before it tries the root: two 404s a deep link. And a slider
    that redraws a gallery has the server drop pictures that the browser may still be asking for; the browser reports
    it once as a 404 and Streamlit once more in words. What a page shows in the end is judged by BROKEN_PICTURES.
    """
    text = f"{message.text} {message.location.get('url', '')}"
    return message.type == "error" and "_stcore" not in text and "/media/" not in text


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:"))
