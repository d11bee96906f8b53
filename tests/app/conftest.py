"""Real small workspaces for the app: empty, half done, complete; a server; a browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_world import small_world

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>window.hacked = 1</script> <b>bold?</b> **stars** $\\alpha^2$ :red[x] [link](javascript:alert(1))"
"""Stands as the first question of a pool sample; every page must show it letter by letter."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 120_000


def hostile_world(folder: Path) -> Path:
    """The small world with one hostile caption (web:0) in it."""
    small_world(folder)
    path = folder / "web" / "web.json"
    rows = json.loads(path.read_text())
    rows[0]["conversations"][0]["value"] = f"<image>\n{HOSTILE}"
    path.write_text(json.dumps(rows))
    return folder


def emt(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emt_core.cli", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything from sources to select has run. Tests that write take a copy."""
    base = tmp_path_factory.mktemp("app")
    world = hostile_world(base / "world")
    emt("run", world / "recipe.yaml", "--workspace", base / "ws")
    return base / "ws"


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


@dataclass
class Server:
    address: str
    workspace: Path
    log: Path


def serve(workspace: Path, log: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    command += ["--server.headless", "true", "--logger.enableRich", "false", "--", "--workspace", str(workspace)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=os.environ | {"NO_COLOR": "1"})
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        yield Server(address, workspace, log)
    finally:
        process.terminate()
        process.wait(20)


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


@pytest.fixture
def page(browser, server: Server):
    """A page that fails the test when it leaves an error on the console or asks for anything outside this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = context.new_page()
    found.set_default_timeout(PATIENCE_MS)
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    found.on("console", lambda m: problems.append(f"console: {m.text}") if _is_problem(m) else None)
    found.on("request", lambda r: problems.append(f"left the machine: {r.url}") if _is_outside(r.url) else None)
    yield found
    context.close()
    assert not problems, problems
    log = server.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-3000:]


def _is_problem(message) -> bool:
    # Streamlit looks for its server under the page's path before it tries the root: two 404s a deep link
    return message.type == "error" and "_stcore" not in message.location.get("url", "")


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:"))
