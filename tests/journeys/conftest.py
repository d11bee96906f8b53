"""Workspaces, the server and the browser of the app's tests."""

from app_fixtures import (
    complete,
    complete_copy,
    empty,
    half_done,
    open_page,
    page,
    server,
    this_process_stays_itself,
    users_own_folder,
    window,
)

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
