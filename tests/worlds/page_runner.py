"""One page of the app run in the test process, over a workspace and with a link's parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

OpenPage = Callable[..., AppTest]


def page_runner(monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """open_page(name, workspace, **query) -> the page after its first run, as a link into the app
    opens it."""
    monkeypatch.setattr(sys, "argv", ["app.py"])
    looks_for_pages = PagesManager.__init__

    def as_a_warm_server(self, *args, **kwargs):
        # a server forgets about the pages/ folder once st.navigation was called; the test runner
        # remembers it again
        looks_for_pages(self, *args, **kwargs)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", as_a_warm_server)

    def open_page(name: str, workspace: Path, **query: str) -> AppTest:
        monkeypatch.setenv("EMT_WORKSPACE", str(workspace))
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=240)
        if name != "overview":  # has the address `/`; the others' addresses are their files' names
            app.switch_page(f"pages/{name}.py")
        app.query_params.update(query)
        return app.run()

    return open_page


def words(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.text, app.code, app.title, app.header, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def button(app: AppTest, label: str):
    return next(b for b in app.button if b.label == label)
