"""Progress that a person, a log file and the app can read: done, total, rate, time left.

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
    """Reports one stage's progress. Silent where `quiet`; a live bar on a terminal, a line every 5
    s in a log."""

    def __init__(self, *, label: str, folder: Path | None = None, quiet: bool = False) -> None:
        self.label, self.folder, self.quiet = label, folder, quiet
        self.console = Console(file=sys.stderr)

    def say(self, text: str) -> None:
        if not self.quiet:
            line = f"{self.label:<18} {text}"
            self.console.print(line, markup=False, highlight=False)
            if (also := also_log.get()) is not None:
                also(line)

    @contextmanager
    def track(
        self, doing: str, total: int | None, *, done: int = 0, unit: str = "samples"
    ) -> Iterator[Tracker]:
        """One piece of work. `done` counts what an earlier, interrupted run had finished: the rate
        leaves it out."""
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
    def __init__(
        self, progress: Progress, doing: str, total: int | None, done: int, unit: str
    ) -> None:
        self.progress, self.doing, self.total, self.done, self.unit = (
            progress,
            doing,
            total,
            done,
            unit,
        )
        self.resumed_at, self.started = done, time.monotonic()
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
        return (
            f"{self.rate:,.0f} {self.unit}/s"
            if self.rate >= 10
            else f"{self.rate:.2g} {self.unit}/s"
        )

    def finish(self) -> None:
        self._write(force=True)
        spent = time.monotonic() - self.started
        self.progress.say(
            f"{self.doing}: {self.done:,} {self.unit} in {duration(spent)} ({self.rate_text()})"
        )

    def _write(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self.progress.folder is not None and (force or now - self._file_at >= FILE_EVERY_S):
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
            write_json(self.progress.folder / "progress.json", state, durable=False)
        if (
            not self.progress.quiet
            and not self.progress.console.is_terminal
            and now - self._line_at >= LINE_EVERY_S
        ):
            if self._line_at:
                of = f"/{self.total:,}" if self.total is not None else ""
                left = (
                    f", {duration(self.seconds_left)} left" if self.seconds_left is not None else ""
                )
                self.progress.say(
                    f"{self.doing}: {self.done:,}{of} {self.unit} ({self.rate_text()}{left})"
                )
            self._line_at = now
