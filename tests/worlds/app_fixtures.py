"""Real small workspaces for the app: empty, half done, complete; a server; a browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_world import PATIENCE_MS, Server, emt, hostile_world, serve
from browser_tab import clean_tab
from page_runner import OpenPage, page_runner

from emt_core.workspace import view_guard

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

__all__ = [
    "complete",
    "complete_copy",
    "empty",
    "half_done",
    "open_page",
    "page",
    "server",
    "this_process_stays_itself",
    "users_own_folder",
    "window",
]
"""What the conftest files of tests/pages and tests/journeys take over."""


@pytest.fixture(scope="session", autouse=True)
def users_own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The list of workspaces opened lately is the tester's own, not the user's."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    yield
    os.environ.pop("XDG_CONFIG_HOME")
    if before is not None:
        os.environ["XDG_CONFIG_HOME"] = before


MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def this_process_stays_itself() -> Iterator[None]:
    """A page run in the test process takes the place of `__main__`, and worker processes of later
    tests would run it; a
    workspace opened for viewing is guarded until the process ends."""
    yield
    sys.modules["__main__"] = MAIN
    view_guard._guarded.clear()


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything from sources to select has run. Tests that write take a
    copy."""
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
def window(browser) -> Iterator[BrowserContext]:
    """One window for all tests: what the app is made of is loaded once. A test has a tab and a
    session of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(window, server: Server):
    """A page that fails the test when it leaves an error on the console or asks for anything
    outside this machine."""
    with clean_tab(window, server.log) as found:
        yield found
