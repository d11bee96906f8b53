"""An audit hook that refuses every write below a workspace opened for viewing only.

Functions that write call `Workspace.check_writable` first. This guard stands behind them in a
server for viewers (`emt app --view-only`), for code that forgets to: a Python audit hook (PEP 578)
is called for every file that Python opens, makes, renames or removes, from any library.

It does not see native writers (Lance); only stages use them, and a stage needs a lock file first,
which is seen. Nor does Python tell it the folder of `os.open(name, flags, dir_fd=...)`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from emt_core.errors import EmtError

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGED: dict[str, tuple[tuple[int, int | None], ...]] = {
    **dict.fromkeys(("os.remove", "os.rmdir", "shutil.rmtree"), ((0, 1),)),
    **dict.fromkeys(("os.mkdir", "os.chmod"), ((0, 2),)),
    **dict.fromkeys(("os.chown", "os.utime"), ((0, 3),)),
    **dict.fromkeys(("os.rename", "os.link"), ((0, 2), (1, 3))),
    "os.symlink": ((1, 2),),
    **dict.fromkeys(
        ("os.truncate", "os.setxattr", "os.removexattr", "sqlite3.connect"), ((0, None),)
    ),
}
"""Audit event -> (position of a path it may change, position of that path's `dir_fd`), ..."""

_guarded: set[str] = set()
_installed = False


def guard(root: os.PathLike[str] | str) -> None:
    """Until the process ends, raise EmtError at whatever would change a file below `root`."""
    global _installed
    _guarded.add(os.path.realpath(root))
    if not _installed:
        _installed = True
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    for path in changed_paths(event, arguments):
        for root in _guarded:
            if path == root or path.startswith(root + os.sep):
                raise EmtError(
                    "this workspace is open for viewing only",
                    where=path,
                    remedy="open it without --view-only",
                )


def changed_paths(event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    """Absolute paths that the step behind an audit event may change."""
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITING:
            yield from _absolute(path)
    else:
        for place, folder in CHANGED.get(event, ()):
            yield from _absolute(arguments[place], None if folder is None else arguments[folder])


def _absolute(path: Any, dir_fd: int | None = None) -> Iterator[str]:
    """dir_fd: the open folder that `path` starts from; None or -1: the working folder."""
    if not isinstance(path, str | bytes | os.PathLike):
        return  # an open descriptor, or a database in memory
    name = os.fsdecode(path)
    if dir_fd is not None and dir_fd >= 0:
        with suppress(OSError):  # no /proc on this system
            name = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name)  # noqa: PTH115, PTH118
    # the last part is not resolved: a link in the workspace is the workspace's, wherever it points
    folder, last = os.path.split(os.path.abspath(name))  # noqa: PTH100 (runs for every file opened)
    yield os.path.join(os.path.realpath(folder), last)  # noqa: PTH118
