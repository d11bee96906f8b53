"""The process of a job: `emt job FOLDER` runs the command line that the job's folder holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from emt_core.workspace.files import read_json
from emt_core.workspace.job_record import JobRecord


def run_job(folder: Path, main: Callable[[Sequence[str]], int]) -> int:
    """Give the command of `<folder>/job.json` to `main`; record its exit code and return it."""
    record = JobRecord(folder, keep_log=False)
    code = 1
    try:
        with record.held():
            cancelled = (folder / "cancel.json").exists()
            code = 130 if cancelled else main(read_json(folder / "job.json")["command"])
    finally:
        record.end(code)
    return code
