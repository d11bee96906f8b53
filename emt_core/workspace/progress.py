"""Progress for a person, a log file and the app: done, total, rate, time left.

Every update also goes to `progress.json` in the building folder, so that `emt status` and the pages
see it whichever process does the work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from emt_core.errors import printable
from emt_core.workspace.files import write_json

FILE_EVERY_S = 0.5
LINE_EVERY_S = 5.0

also_log: ContextVar[Callable[[str], None] | None] = ContextVar("also_log", default=None)
"""Takes every reported line as well: the log of the job that this process does."""


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `3:02:01`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Reports one stage's progress: a live bar on a terminal, else a line every 5 s."""

    def __init__(self, *, label: str, folder: Path | None = None, quiet: bool = False) -> None:
        self.label = label
        self.folder = folder
        self.quiet = quiet
        self.console = Console(file=sys.stderr)

    def say(self, text: str) -> None:
        if not self.quiet:
            line = printable(f"{self.label:<18} {text}")
            self.console.print(line, markup=False, highlight=False)
            if (also := also_log.get()) is not None:
                also(line)

    @contextmanager
    def track(
        self, doing: str, total: int | None, *, done: int = 0, unit: str = "samples"
    ) -> Iterator[Tracker]:
        """One piece of work. done: units finished by an earlier run, not counted in the rate."""
        tracker = Tracker(self, doing, total, done, unit)
        live = not self.quiet and self.console.is_terminal
        if live:
            bar = RichProgress(
                TextColumn("{task.description:<18}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            with bar:
                task = bar.add_task(f"{self.label} {doing}", total=total, completed=done, rate="")
                tracker.on_update = lambda: bar.update(
                    task, completed=tracker.done, rate=tracker.rate_text()
                )
                yield tracker
        else:
            yield tracker
        tracker.finish()


class Tracker:
    """How far one piece of work has come; says so and writes progress.json as it advances."""

    def __init__(
        self, progress: Progress, doing: str, total: int | None, done: int, unit: str
    ) -> None:
        self.progress = progress
        self.doing = doing
        self.total = total
        self.done = done
        self.unit = unit
        self.resumed_at = done
        self.started = time.monotonic()
        self._file_at = self._line_at = 0.0
        self.on_update = lambda: None
        self._write(force=True)

    def advance(self, count: int = 1) -> None:
        self.done += count
        self.on_update()
        self._write()

    @property
    def rate(self) -> float:
        """Units per second since this process began."""
        return (self.done - self.resumed_at) / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or self.rate <= 0:
            return None
        return max(self.total - self.done, 0) / self.rate

    def rate_text(self) -> str:
        rate = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2g}"
        return f"{rate} {self.unit}/s"

    def finish(self) -> None:
        self._write(force=True)
        spent = duration(time.monotonic() - self.started)
        done = f"{self.done:,} {self.unit}"
        self.progress.say(f"{self.doing}: {done} in {spent} ({self.rate_text()})")

    def _write(self, *, force: bool = False) -> None:
        now = time.monotonic()
        folder = self.progress.folder
        # a folder that was taken away is not made anew
        if (
            folder is not None
            and folder.is_dir()
            and (force or now - self._file_at >= FILE_EVERY_S)
        ):
            self._file_at = now
            state = {
                "label": self.progress.label,
                "doing": self.doing,
                "done": self.done,
                "total": self.total,
                "unit": self.unit,
                "rate": self.rate,
                "seconds_left": self.seconds_left,
                "at": time.time(),
            }
            write_json(folder / "progress.json", state, durable=False)
        in_log = not self.progress.quiet and not self.progress.console.is_terminal
        if in_log and now - self._line_at >= LINE_EVERY_S:
            if self._line_at:
                self.progress.say(self._line())
            self._line_at = now

    def _line(self) -> str:
        total = f"/{self.total:,}" if self.total is not None else ""
        left = self.seconds_left
        rest = f", {duration(left)} left" if left is not None else ""
        return f"{self.doing}: {self.done:,}{total} {self.unit} ({self.rate_text()}{rest})"
