"""Choose a workspace: the app's own, one opened before, or a folder by its path."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from emt_core.errors import EmtError
from emt_core.workspace.artifact import VIEW_ONLY, Workspace
from emt_core.workspace.recent import note_workspace, recent_workspaces, short_id
from pages.parts.links import set_parameter
from pages.parts.plain import escape, show_problem
from pages.parts.widgets import action

SHOWN = 8


def open_workspace(asked: Path | None) -> Workspace:
    """The workspace in view. Raises EmtError where its folder is no workspace."""
    home = (asked or Path.cwd() / "workspace").expanduser().resolve()
    if os.environ.get(VIEW_ONLY):
        return Workspace.open(home)
    chosen = st.session_state.get("_workspace") or _linked() or home
    try:
        workspace = Workspace.open(chosen, create=chosen == home)
    except EmtError as error:
        if chosen == home:
            raise
        # it was moved or deleted meanwhile: back to the app's own
        show_problem(error)
        workspace = Workspace.open(home, create=True)
    st.session_state["_workspace"] = workspace.path
    # only what differs from the app's own stands in the address
    set_parameter("workspace", None if workspace.path == home else short_id(workspace.path))
    note_workspace(workspace.path)
    return workspace


def workspace_switcher(workspace: Workspace) -> None:
    """A popover with the workspace's path, other workspaces and a field for a path."""
    label = f":material/folder_open: {escape(workspace.path.name)}"
    if workspace.read_only:
        st.caption(f"{label} · view only")
        return
    popover = st.popover(label, width="stretch", on_change="rerun", key="workspaces")
    if not popover.open:
        return
    with popover:
        st.caption("Workspace")
        st.code(str(workspace.path), language=None, wrap_lines=True)
        others = [path for path in recent_workspaces() if path != workspace.path]
        if others:
            st.caption("Opened before")
            with st.container(gap="xsmall"):
                for path in others[:SHOWN]:
                    action(
                        escape(_short(path)),
                        _switch,
                        path,
                        icon="folder",
                        key=f"open-{path}",
                        type="tertiary",
                    )
        with st.form("open-workspace", border=False):
            text = st.text_input(
                "Open another folder", placeholder="path of a workspace or of an empty folder"
            )
            if st.form_submit_button("Open", icon=":material/folder_open:") and text.strip():
                _open_path(text.strip())


def _open_path(text: str) -> None:
    """Open a workspace, or make one in a new or empty folder. Other folders are left alone."""
    path = Path(text).expanduser()
    try:
        if not path.is_absolute():
            raise EmtError("the path has to be absolute", where=text, remedy="start it with / or ~")
        if path.is_dir() and any(path.iterdir()) and not (path / "workspace.json").exists():
            raise EmtError(
                "this folder holds other files and is not a workspace",
                where=path,
                remedy="choose a new or an empty folder",
            )
        Workspace.open(path, create=True)
    except OSError as error:
        show_problem(
            EmtError("the folder cannot be opened", where=path, remedy=error.strerror or "")
        )
    except EmtError as error:
        show_problem(error)
    else:
        _switch(path.resolve())
        st.rerun()


def _switch(path: Path) -> None:
    """Open another workspace with a fresh session and address."""
    for name in list(st.session_state):
        del st.session_state[name]
    st.query_params.clear()
    st.session_state["_workspace"] = path


def _linked() -> Path | None:
    wanted = st.query_params.get("workspace")
    return next((path for path in recent_workspaces() if short_id(path) == wanted), None)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
