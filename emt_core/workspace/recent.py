"""The workspaces that this user opened last: a file in the user's configuration folder."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.workspace.files import read_json, write_json

MOST = 12


def list_file() -> Path:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "embodied-midtrain" / "workspaces.json"


def recent_workspaces() -> list[Path]:
    """Those that are still there. A list that cannot be read is an empty one."""
    try:
        found = [Path(text) for text in read_json(list_file())]
    except (OSError, EmtError, TypeError):
        return []
    return [path for path in found if (path / "workspace.json").is_file()]


def note_workspace(path: Path) -> None:
    """Put it first. Where the home folder cannot be written, nothing happens."""
    known = recent_workspaces()
    if known[:1] == [path]:
        return
    with suppress(OSError):
        write_json(list_file(), [str(p) for p in (path, *(k for k in known if k != path))][:MOST])


def short_id(path: Path) -> str:
    """Names a workspace in a link: only one that this user opened before, never any folder."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]
