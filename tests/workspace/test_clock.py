"""Notes of time that outlive a change of the clock."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from emt_core.run.job_folder import new_job
from emt_core.run.jobs import STARTING_S, Job, list_jobs
from emt_core.workspace import process
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.clock import STAMP, STAMP_LENGTH, make_newest, next_stamp, within
from emt_core.workspace.files import write_json
from emt_core.workspace.lineage import recipe_names

ASKED = {"title": "t", "command": ["run"]}


def test_a_job_launched_after_the_clock_was_set_back_is_still_the_newest(tmp_path: Path):
    space = Workspace.open(tmp_path / "w", create=True)
    tomorrow = (datetime.now() + timedelta(days=1)).strftime(STAMP)[:STAMP_LENGTH]
    (space.path / "jobs" / f"{tomorrow}abcd").mkdir(parents=True)
    write_json(space.path / "jobs" / f"{tomorrow}abcd" / "job.json", ASKED | {"launched": 0})
    made = [new_job(space, ASKED).name for _ in range(3)]
    assert [job.id for job in list_jobs(space)] == [*reversed(made), f"{tomorrow}abcd"]


@pytest.mark.parametrize("earlier", [[], ["20200101-000000-0001234"], ["90 dogs"], [""]])
def test_a_stamp_is_the_time_where_nothing_newer_is_there(earlier: list[str]):
    stamp = next_stamp(earlier)
    assert abs(datetime.strptime(stamp, STAMP) - datetime.now()) < timedelta(minutes=1)


def test_a_moment_in_the_future_is_not_just_now():
    assert within(time.time() - 1, 5) and within(time.time() + 1, 5)
    assert not within(time.time() - 86_400, 5) and not within(time.time() + 86_400, 5)


def test_a_dead_job_of_a_later_clock_is_not_starting_for_a_day(tmp_path: Path):
    space = Workspace.open(tmp_path / "w", create=True)
    folder = new_job(space, ASKED)
    assert Job(space, folder.name).state == "starting"
    write_json(folder / "job.json", ASKED | {"launched": time.time() + 86_400})
    assert Job(space, folder.name).state == "lost"
    write_json(folder / "job.json", ASKED | {"launched": time.time() - STARTING_S - 1})
    assert Job(space, folder.name).state == "lost"


def test_a_running_jobs_time_is_its_processs_own(tmp_path: Path):
    space = Workspace.open(tmp_path / "w", create=True)
    folder = new_job(space, ASKED)
    write_json(folder / "process.json", process.mark_of(os.getpid()))
    write_json(folder / "job.json", ASKED | {"launched": time.time() + 86_400})
    lived = Job(space, folder.name).seconds
    assert 0 < lived < 7_200
    write_json(folder / "end.json", {"code": 0, "at": time.time(), "seconds": 12.5})
    assert Job(space, folder.name).seconds == 12.5


def test_the_recipe_that_ran_last_leads_whatever_the_clock_says(tmp_path: Path):
    space = Workspace.open(tmp_path / "w", create=True)
    for name in ("one", "two"):
        space.recipe_file(name).parent.mkdir(exist_ok=True)
        space.recipe_file(name).write_text("")
    ahead = time.time() + 86_400
    os.utime(space.recipe_file("two"), (ahead, ahead))
    make_newest(space.recipe_file("one"))
    assert recipe_names(space) == ["one", "two"]
