"""Jobs: every state with what can be done about it, many of them, and a journey in a real
browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from app_world import PATIENCE_MS, serve
from page_runner import button, words

from emt_core.errors import EmtError
from emt_core.run import jobs
from emt_core.run.edits import change_settings
from emt_core.run.job_folder import new_job
from emt_core.run.jobs import Job
from emt_core.workspace import process as process_mark
from emt_core.workspace.artifact import VIEW_ONLY, Workspace
from emt_core.workspace.files import read_json, write_json
from pages.parts.job_card import what_now


def labels(app) -> list[str]:
    return [b.label for b in app.button]


def job(
    space: Workspace,
    title: str,
    *,
    code: int | None = None,
    cancel: bool = False,
    lives: bool = False,
) -> Job:
    folder = new_job(space, {"title": title, "command": ["run", title], "recipe": None})
    if lives:
        write_json(folder / "process.json", process_mark.mark_of(os.getpid()))
        write_json(
            folder / "progress.json",
            {"instances": [entry("embed", "made"), entry("gap", "building")]},
        )
    else:
        write_json(folder / "process.json", {"pid": 1, "host": "", "boot": "", "started": 0})
    if cancel:
        write_json(folder / "cancel.json", {"at": time.time(), "hard": False})
    if code is not None:
        write_json(folder / "end.json", {"code": code, "at": time.time()})
    (folder / "log.txt").write_text(f"{title} **says** <b>this</b>\n")
    return Job(space, folder.name)


def entry(stage: str, state: str) -> dict[str, str]:
    return {"label": stage, "stage": stage, "key": "0" * 16, "state": state}


def test_without_jobs_the_page_teaches(open_page, empty):
    app = open_page("jobs", empty)
    assert not app.exception and "No jobs yet" in words(app)


def test_each_state_has_its_buttons(open_page, half_done):
    space = Workspace.open(half_done)
    jobs.remove_finished(space)
    cases = [
        (job(space, "one", code=0), "done", {"Run again", "Remove"}),
        (job(space, "two", code=2), "failed", {"Run again", "Remove"}),
        (job(space, "three", code=130, cancel=True), "cancelled", {"Resume", "Remove"}),
        (job(space, "four"), "lost", {"Resume", "Remove"}),
        (job(space, "five", lives=True), "running", {"Cancel"}),
        (job(space, "six", lives=True, cancel=True), "stopping", {"Stopping"}),
    ]
    app = open_page("jobs", half_done)
    assert not app.exception and not app.error
    for found, state, wanted in cases:
        assert found.state == state
        mine = {b.label for b in app.button if b.key and b.key.endswith(f"jobs-{found.id}")}
        assert mine == wanted, (state, mine)
    assert "two **says** <b>this</b>\n" in [
        code.value + "\n" for code in app.code
    ]  # a failure's log is open
    assert what_now(cases[4][0], "running") == (0.0, "gap (2 of 2)")
    assert what_now(cases[4][0], "lost") == (0.0, "Stopped during gap")
    app.segmented_control(key="jobs").set_value("trouble").run()
    assert {b.key.rpartition("jobs-")[2] for b in app.button if b.label == "Remove"} == {
        cases[1][0].id,
        cases[3][0].id,
    }
    button(app, "Remove ended jobs").click().run()
    assert not app.exception
    assert {found.id for found in jobs.list_jobs(space)} == {cases[4][0].id, cases[5][0].id}
    for found in jobs.list_jobs(space):  # this very process "runs" them
        write_json(found.path / "end.json", {"code": 0, "at": 0})


def test_a_running_card_shows_each_worker_with_its_rate_and_restarts(open_page, half_done):
    space = Workspace.open(half_done)
    jobs.remove_finished(space)
    found = job(space, "shared", lives=True)
    building = space.building("gap", "0" * 16)
    try:
        assert found.workers == []
        state = {"host": "node1", "pid": 41, "shards": 2, "rows": 600, "seconds": 4.0}
        workers = building / "data" / "workers"
        write_json(workers / "0.json", state | {"restarts": 0})
        write_json(workers / "1.json", state | {"rows": 0, "seconds": 0.0, "restarts": 2})
        write_json(workers / "1.error.json", {"what": "no"})  # no worker's state
        app = open_page("jobs", half_done)
        assert not app.exception
        assert "2 workers: 150, 0 rows/s, 2 restarts" in words(app)
        (table,) = [frame.value for frame in app.dataframe]
        assert table["Rows/s"].tolist() == [150.0, 0.0] and table["Restarts"].tolist() == [0, 2]
    finally:
        shutil.rmtree(building)


def test_many_jobs_come_in_pages(open_page, half_done):
    space = Workspace.open(half_done)
    jobs.remove_finished(space)
    for number in range(23):
        job(space, f"job {number}", code=0)
    app = open_page("jobs", half_done)
    assert not app.exception and "23 jobs" in words(app)
    assert labels(app).count("Remove") == 10


def test_a_recipe_that_is_gone_is_a_message(open_page, half_done):
    space = Workspace.open(half_done)
    found = job(space, "old", code=130, cancel=True)
    write_json(found.path / "job.json", {**found.asked, "recipe": str(half_done / "gone.yaml")})
    app = open_page("jobs", half_done)
    next(b for b in app.button if b.key == f"again-jobs-{found.id}").click().run()
    assert not app.exception and "the recipe of this job is gone" in words(app).lower()


def test_an_error_stands_at_its_own_button_and_outlives_the_poll(open_page, half_done, monkeypatch):
    """The job cards are drawn again every second: they neither show nor drop a page's error."""

    refused = True

    def refuse(*args, **kwargs):
        if refused:
            raise EmtError("the disk is full")

    def shown() -> list[str]:
        return [text.value for text in app.text if text.value == "The disk is full."]

    space = Workspace.open(half_done)
    running = job(space, "lives", lives=True)
    for module, name in ((jobs, "launch"), (Job, "cancel")):
        monkeypatch.setattr(module, name, refuse)
    app = open_page("select", half_done)
    next(b for b in app.button if b.label.startswith("Run up to")).click().run()
    page = [str(getattr(element, "value", "")) for element in app.main]
    assert page.index("The disk is full.") > page.index("Score has not run yet")
    assert len(shown()) == 1
    app.run()
    assert not shown()
    next(b for b in app.button if b.key == f"cancel-Select-{running.id}").click().run()
    app.run()  # a poll
    assert len(shown()) == 1
    refused = False
    next(b for b in app.button if b.key == f"cancel-Select-{running.id}").click().run()
    assert not shown()
    # this very process "runs" the job
    write_json(running.path / "end.json", {"code": 0, "at": 0})


def test_viewers_see_jobs_and_touch_none(open_page, half_done, monkeypatch):
    job(Workspace.open(half_done), "old", code=0)
    monkeypatch.setenv(VIEW_ONLY, "1")
    app = open_page("jobs", half_done)
    assert not app.exception and "old" in words(app)
    assert not {"Remove", "Run again", "Resume", "Cancel", "Remove ended jobs"} & set(labels(app))


running_app = contextmanager(serve)


def newest(space: Workspace, title: str, but: Job | None = None) -> Job:
    for _ in range(1200):
        found = next(
            (j for j in jobs.list_jobs(space) if j.asked["title"] == title and j != but), None
        )
        if found is not None and (found.path / "process.json").exists():
            return found
        time.sleep(0.05)
    raise AssertionError(f"no job {title!r}")


@pytest.fixture
def own_space(half_done: Path) -> Iterator[Workspace]:
    space = Workspace.open(half_done)
    jobs.remove_finished(space)
    yield space
    for found in jobs.active_jobs(space):
        found.cancel(hard=True)


@pytest.mark.browser
@pytest.mark.timeout(900)  # two servers, four jobs and the grace before a kill
def test_a_job_is_launched_watched_killed_resumed_and_cancelled(
    window, own_space: Workspace, tmp_path: Path
):
    """The app restarts in between: what runs goes on, and the page finds it again."""
    from browser_tab import clean_tab, settled
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)

    with (
        running_app(own_space.path, tmp_path / "first.log") as server,
        clean_tab(window, server.log) as page,
    ):
        page.goto(f"{server.address}/?stage=gap")
        expect(page.get_by_text(re.compile("Next: gap"))).to_be_visible()
        page.get_by_role("button", name="Run what is missing").click()
        first = newest(own_space, "small: all stages")
        os.kill(
            read_json(first.path / "process.json")["pid"], signal.SIGSTOP
        )  # it will not listen to a request
        expect(page.get_by_text(re.compile("Running:"))).to_be_visible()

    with (
        running_app(own_space.path, tmp_path / "second.log") as server,
        clean_tab(window, server.log) as page,
    ):
        page.goto(f"{server.address}/jobs")
        expect(page.get_by_text(re.compile(r"^small: all stages · \d\d:\d\d$"))).to_be_visible()
        assert first.active
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("button", name="Stopping")).to_be_visible()
        page.get_by_role("button", name="Kill").click()  # offered once the grace is over
        page.get_by_role("button", name="Resume").click()
        second = newest(own_space, "small: all stages", but=first)
        assert first.state == "cancelled"
        expect(
            page.get_by_text(re.compile("Created gap, estimator, score and select.top"))
        ).to_be_visible()
        assert second.state == "done"

        change_settings(
            own_space,
            "small",
            "estimator",
            {"steps": 10**6, "stop_accuracy": 1.0, "learning_rate": 1e-9},
            beside="endless",
        )
        page.goto(f"{server.address}/?stage=estimator.endless")
        page.get_by_role("button", name="Run up to estimator.endless").click()
        title = "small: up to estimator.endless"
        expect(
            page.get_by_text(re.compile(r"estimator\.endless \(3 of 3\), .* of 1,000,000"))
        ).to_be_visible()
        expect(
            page.get_by_role("link", name=re.compile("Running: estimator.endless"))
        ).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        # the job's card offers it, and so does the next step once it knows
        expect(page.get_by_role("button", name="Resume").first).to_be_visible()
        assert newest(own_space, title).state == "cancelled"
        expect(page.get_by_text(re.compile("estimator.endless was stopped"))).to_be_visible()
        settled(page)
