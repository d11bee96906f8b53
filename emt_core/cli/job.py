"""The process of a job: `python -m emt_core.cli.job FOLDER` runs the command line that the job folder holds."""

from __future__ import annotations

import sys
from pathlib import Path

from emt_core.workspace.files import read_json
from emt_core.workspace.job_record import JobRecord


def run_job(folder: Path) -> int:
    """Run the command line of `<folder>/job.json` in this process, record its exit code and return it."""
    record = JobRecord(folder, keep_log=False)
    code = 1
    try:
        with record.held():
            from emt_core.cli.main import main

            code = (
                130
                if (folder / "cancel.json").exists()
                else main(read_json(folder / "job.json")["command"])
            )
    finally:
        record.end(code)
    return code


if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1])))
