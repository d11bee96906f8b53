"""A viewer attacks: the real `emt app --view-only` over a complete workspace; nothing that is asked
changes a file."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_world import PATIENCE_MS, Server, free_port, running
from page_runner import page_runner, words
from places import ROOT
from playwright.sync_api import Page, expect
from snapshot import snapshot
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.testing.v1 import AppTest

from emt_core.workspace.artifact import VIEW_ONLY

WRITING = re.compile(
    r"^(Run|Save|Delete|Remove|Cancel|Kill|Resume|Rerun|Launch|Start|Add|Flag|Exclude|Undo|Export|Use|Train|Open)\b"
)
"""Labels that a viewer is never shown as a button."""

HARMLESS = re.compile(r"^Open( in|$)")
HEAR_SOCKETS = """() => {
  const Real = window.WebSocket;
  window.WebSocket = class extends Real { constructor(...a) { super(...a); window.__socket = this; } };
}"""
ALIVE = '[data-testid="stApp"][data-test-script-state="notRunning"]'


def page_names() -> list[str]:
    sys.path.insert(0, str(ROOT))
    from pages.parts.router import PAGES

    return [name for group in PAGES.values() for _, name, _ in group]


@pytest.fixture(scope="module")
def viewed(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The command that people type, over a copy of the complete workspace."""
    base = tmp_path_factory.mktemp("viewed")
    workspace = shutil.copytree(complete, base / "ws")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "emt_core.cli",
        "app",
        "--view-only",
        "--no-browser",
        "--port",
        str(port),
    ]
    yield from running([*command, "--workspace", str(workspace)], port, workspace, base / "log")


@pytest.fixture
def tab(browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(f"({HEAR_SOCKETS})()")
    yield page
    context.close()


def opened(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator('[data-testid="stMain"] h1').first).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_selector(ALIVE)


def forge(page: Page, name: str, ids: list[str]) -> None:
    """Say to the server that all these buttons were pressed, whether or not they were ever
    drawn."""
    message = BackMsg()
    state = message.rerun_script
    state.page_name = name
    for found in ids:
        entry = state.widget_states.widgets.add()
        entry.id, entry.trigger_value = found, True
    sent = base64.b64encode(message.SerializeToString()).decode()
    page.evaluate(
        "(text) => __socket.send(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)))", sent
    )
    page.wait_for_timeout(700)  # nothing tells when a message that does nothing was read
    page.wait_for_selector(ALIVE)


def all_pages(open_page, workspace: Path) -> Iterator[tuple[str, AppTest]]:
    """Every page in one session, in the test process."""
    app = open_page(page_names()[0], workspace)
    yield page_names()[0], app
    for name in page_names()[1:]:
        app.switch_page(f"pages/{name}.py")
        yield name, app.run()


@pytest.fixture(scope="module")
def pressed(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Page -> id -> label of every button that an editor is shown, those of the story's editor
    included."""
    workspace = shutil.copytree(complete, tmp_path_factory.mktemp("edited") / "ws")
    found: dict[str, dict[str, str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, app in all_pages(page_runner(patch), workspace):
            found[name] = {b.proto.id: b.label for b in app.button}
            if name == "present":
                edited = app.segmented_control(key="mode").set_value("edit").run()
                found[name] |= {b.proto.id: b.label for b in edited.button}
    return found


@pytest.mark.browser
def test_no_request_of_a_viewer_changes_a_file(
    tab: Page, viewed: Server, pressed: dict[str, dict[str, str]]
):
    before = snapshot(viewed.workspace)
    for name, ids in pressed.items():
        opened(tab, f"{viewed.address}/{name}")
        assert tab.locator('[data-testid="stException"]').count() == 0, name
        forge(tab, name, list(ids))
    assert sum(map(len, pressed.values())) > 20
    for link in (
        "present?story=../../../etc/passwd&mode=edit",
        "browse?sample=web:0&flag=exclude",
        "overview?workspace=/tmp&recipe=../../x",
        "map?region=0,0;1,1&zoom=0,1,0,1",
        "select?k=3&selection=..%2Fx",
        "jobs?job=../../x",
    ):
        opened(tab, f"{viewed.address}/{link}")
    assert snapshot(viewed.workspace) == before
    log = viewed.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-3000:]


@pytest.mark.browser
def test_the_same_forgery_works_where_writing_is_allowed(
    tab: Page, server: Server, pressed: dict[str, dict[str, str]]
):
    """Else the attack above would prove nothing."""
    ids = [found for found, label in pressed["present"].items() if label.startswith("Save to")]
    assert len(ids) == 1
    file = server.workspace / "stories" / "small" / "story.html"
    opened(tab, f"{server.address}/present")
    tab.wait_for_selector('[data-testid="stHeading"] h2')
    assert not file.exists()
    forge(tab, "present", ids)
    expect(tab.get_by_text("Saved as")).to_be_visible(timeout=PATIENCE_MS)
    assert file.exists()
    shutil.rmtree(file.parents[1])


def test_a_viewer_is_shown_nothing_to_press_that_writes(open_page, complete_copy, monkeypatch):
    monkeypatch.setenv(VIEW_ONLY, "1")
    before = snapshot(complete_copy)
    for name, app in all_pages(open_page, complete_copy):
        assert not app.exception, name
        shown = [
            b.label for b in app.button if WRITING.match(b.label) and not HARMLESS.match(b.label)
        ]
        assert (name, shown) == (name, [])
        assert "emt run " not in words(app), name
    assert snapshot(complete_copy) == before


@pytest.mark.parametrize("name", ["overview", "present"])
def test_a_viewer_of_nothing_is_told_so_and_nothing_is_made(open_page, empty, monkeypatch, name):
    monkeypatch.setenv(VIEW_ONLY, "1")
    app = open_page(name, empty)
    assert not app.exception
    assert "not a workspace" in words(app)
    assert not empty.exists()


def test_the_server_listens_here_alone_and_refuses_strangers(viewed: Server):
    import psutil

    port = int(viewed.address.rpartition(":")[2])
    listening = {
        c.laddr.ip
        for c in psutil.net_connections("tcp")
        if c.status == "LISTEN" and c.laddr.port == port
    }
    assert listening == {"127.0.0.1"}
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stranger:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            "GET /_stcore/stream HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Origin: http://elsewhere.example",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        )
        stranger.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        assert b" 403 " in stranger.recv(200)
    upload = urllib.request.Request(
        f"{viewed.address}/_stcore/upload_file/a/b", data=b"x" * 4096, method="PUT"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(upload, timeout=30)
    assert refused.value.code in (400, 403, 405, 413)
