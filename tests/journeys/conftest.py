"""Workspaces, the server and the browser of the app's tests."""

from app_fixtures import *  # noqa: F403
