"""What the operating system refused, as one message: a full disk, a folder that is gone, ..."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emt_core.errors import EmtError

AGAIN = "run the same command again: finished work is kept"
FULL = ("the disk is full", "free some space")
FORBIDDEN = ("there is no permission", "give yourself the right to read and write it")
GONE = ("a file or folder is gone while it is needed", "bring it back (is its disk mounted?)")
BLOCKED = ("a file lies where a folder is needed", "name another folder or move that file")
SILENT = ("the disk or its server does not answer", "look after it (`mount`, `dmesg`)")
FAULTS: dict[int, tuple[str, str]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM), FORBIDDEN),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), BLOCKED),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT), SILENT),
    **dict.fromkeys((errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.EHOSTDOWN), SILENT),
    errno.ENOENT: GONE,
    errno.EROFS: ("the disk is read-only", "make it writable"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
}
"""Number of the system's error -> what went wrong, what to do."""


@contextmanager
def machine_faults_told(place: Path | str, *, again: str = AGAIN) -> Iterator[None]:
    """Inside, an error of the machine becomes an EmtError; every other goes on as it is.

    place: named where the error names no file, as those of Lance. again: what to do in the end.
    """
    try:
        yield
    except Exception as error:
        if (told := machine_fault(error, place, again)) is not None:
            raise told from error
        raise


def machine_fault(error: Exception, place: Path | str, again: str = AGAIN) -> EmtError | None:
    """The message for an error of the machine; None for any other, an EmtError among them."""
    number = _number(error)
    if isinstance(error, EmtError) or number not in FAULTS:
        return None
    what, remedy = FAULTS[number]
    name = getattr(error, "filename", None)
    where = name if isinstance(name, str) else place
    return EmtError(what, where=where, remedy=f"{remedy} and {again}")


def _number(error: Exception) -> int | None:
    """Libraries in Rust (Lance, safetensors) write the number into the text alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    told = re.search(r"os error (\d+)", str(error))
    return int(told[1]) if told else None
