"""`emt app`: the explorer in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from emt_core.cli.options import ThereOpt
from emt_core.errors import EmtError, Stopped
from emt_core.recipe.shipped import shipped
from emt_core.workspace.artifact import VIEW_ONLY, Workspace


def open_app(
    workspace: ThereOpt,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from here only.")
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    view_only: Annotated[
        bool,
        typer.Option("--view-only", help="Nothing can be launched or changed, by page or request."),
    ] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Begin with an empty workspace where there is none yet.")
    ] = False,
) -> None:
    """Open the explorer in a browser."""
    folder = workspace.expanduser()
    if not new and not view_only and not (folder / "workspace.json").exists():
        kind = "this folder is not a workspace" if folder.is_dir() else "there is no such folder"
        raise EmtError(
            kind,
            where=workspace.absolute(),
            remedy="look at the path again; to begin with an empty workspace there: "
            f"emt app -w {workspace} --new",
        )
    space = Workspace.open(workspace, create=new, read_only=view_only)
    command = [sys.executable, "-m", "streamlit", "run", str(shipped("app.py"))]
    command += ["--server.port", str(port), "--server.address", address]
    command += ["--server.headless", str(not browser or not _has_display()).lower()]
    command += ["--server.maxUploadSize", "0"] if view_only else []
    command += ["--", "--workspace", str(space.path)]
    environment = os.environ | ({VIEW_ONLY: "1"} if view_only else {})
    try:
        # the app's own folder holds .streamlit/config.toml: theme, XSRF and CORS protection
        ended = subprocess.run(command, cwd=shipped("app.py").parent, env=environment)
    except Stopped:
        raise Stopped("the app has ended; jobs that were launched in it go on") from None
    raise typer.Exit(ended.returncode)


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
