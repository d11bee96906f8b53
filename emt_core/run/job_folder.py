"""Folders of jobs: made before a run from a page or a terminal, removed afterwards."""

from __future__ import annotations

import secrets
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from emt_core.errors import EmtError, Stopped
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.clock import next_stamp
from emt_core.workspace.files import write_json
from emt_core.workspace.job_record import JobRecord, current
from emt_core.workspace.process import speaks


def new_job(workspace: Workspace, asked: dict[str, Any]) -> Path:
    """Make a job's folder, with what was asked in job.json. Ids sort by time of launch."""
    workspace.check_writable()
    jobs = workspace.path / "jobs"
    stamp = next_stamp(path.name for path in jobs.glob("[0-9]*"))
    folder = jobs / f"{stamp}{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {**asked, "launched": time.time()})
    return folder


def forget(folder: Path) -> None:
    """Remove a job's folder; the rename before makes sure that nobody ever finds half of one."""
    aside = folder.with_name(f".removed-{folder.name}")
    with suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def asked_for(
    workspace: Workspace,
    recipe: Path,
    *,
    until: str | None,
    start: str | None,
    overrides: Sequence[str],
    title: str = "",
    origin: Literal["app", "terminal"] = "terminal",
) -> dict[str, Any]:
    """The content of job.json for a run; its command line is the one that a person would type."""
    recipe = recipe.expanduser().resolve()
    command = ["run", str(recipe), "--workspace", str(workspace.path)]
    command += ["--until", until] if until else []
    command += ["--from", start] if start else []
    for item in overrides:
        command += ["--set", item]
    return {
        "title": title or f"{recipe.stem}: {f'up to {until}' if until else 'all stages'}",
        "command": command,
        "recipe": str(recipe),
        "until": until,
        "start": start,
        "overrides": list(overrides),
        "origin": origin,
    }


@contextmanager
def enlisted(workspace: Workspace, asked: dict[str, Any]) -> Iterator[None]:
    """Show a run from a terminal among the jobs, unless it belongs to one or made nothing new.

    Of the processes that torchrun starts, rank 0 stands for all; those that a run launched are its.
    """
    if current() is not None or not speaks():
        yield
        return
    record = JobRecord(new_job(workspace, asked), keep_log=True)
    code = 1
    try:
        with record.held():
            yield
        code = 0
    except EmtError as error:
        code = 2
        record.say(f"error: {error.message()}")
        raise
    except Exception:
        record.say(traceback.format_exc())
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        code = 130
        record.say(str(Stopped()))
        raise
    finally:
        record.end(code)
        if code == 0 and all(entry["state"] == "found" for entry in record.instances):
            forget(record.folder)
