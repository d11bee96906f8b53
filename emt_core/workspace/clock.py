"""Moments that were written down, read on a clock that may have been set since."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

STAMP = "%Y%m%d-%H%M%S-%f"
STAMP_LENGTH = len("20260101-120000-000")


def within(moment: float, seconds: float) -> bool:
    """Whether a moment (epoch) lies less than so many seconds from now.

    One in the future does not: the clock was set back, so nobody knows how old it is.
    """
    return abs(time.time() - moment) < seconds


def make_newest(path: Path) -> None:
    """Touch a file so that it is newer than all others of its suffix, whatever the clock says."""
    path.touch()
    others = (other for other in path.parent.glob(f"*{path.suffix}") if other != path)
    newest = max((other.stat().st_mtime_ns for other in others), default=0)
    if path.stat().st_mtime_ns <= newest:
        os.utime(path, ns=(newest + 1_000_000, newest + 1_000_000))


def next_stamp(earlier: Iterable[str]) -> str:
    """Local time to the millisecond, as the beginning of a name that sorts behind all earlier ones.

    Where the clock was set back (also by the end of summer time), the newest of them is counted on.
    """
    stamp = datetime.now().strftime(STAMP)[:STAMP_LENGTH]
    newest = max((name[:STAMP_LENGTH] for name in earlier), default="")
    if stamp <= newest:
        with suppress(ValueError):  # somebody else's folder
            later = datetime.strptime(newest, STAMP) + timedelta(milliseconds=1)
            return later.strftime(STAMP)[:STAMP_LENGTH]
    return stamp
