"""The command line as a newcomer meets it: typing mistakes end in one message and exit code 2, help
says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_world import small_world
from typer.testing import CliRunner

from emt_core.cli.__main__ import app, main
from emt_core.errors import Stopped
from emt_core.flow import FLOW


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=24, episodes=6)


def help_of(verb: str) -> str:
    said = (
        CliRunner()
        .invoke(app, [verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
        .output
    )
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", said).split())


def test_sources_that_cannot_be_used_end_in_exit_code_2(world, capfd):
    recipe = str(world / "recipe.yaml")
    assert main(["sources", recipe]) == 0
    capfd.readouterr()
    assert main(["sources", recipe, "--set", "sources.web.path=nowhere.json"]) == 2
    said = capfd.readouterr()
    assert "arm" in said.out  # the others are looked at all the same
    assert "1 of 3 sources cannot be used as they are: web" in said.err
    assert str(world) in said.err and "`base`" in said.err


def test_thumbnails_in_the_place_of_a_file_are_told_before_anything_is_read(world, tmp_path, capfd):
    (tmp_path / "file").touch()
    recipe = str(world / "recipe.yaml")
    assert main(["sources", recipe, "--thumbnails", str(tmp_path / "file")]) == 2
    said = capfd.readouterr()
    assert "--thumbnails" in said.err and not said.out
    assert main(["sources", recipe, "--thumbnails", str(tmp_path / "file/below")]) == 2
    assert "a file lies where a folder is needed" in capfd.readouterr().err


def test_a_mistyped_workspace_makes_no_folder(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("the app was started"))
    assert main(["app", "-w", str(tmp_path / "wrokspace")]) == 2
    assert not (tmp_path / "wrokspace").exists()
    assert "there is no such folder" in (said := capfd.readouterr().err) and "--new" in said
    (tmp_path / "file").touch()
    assert main(["app", "--new", "-w", str(tmp_path / "file" / "below")]) == 2
    assert (
        "no workspace can be made here" in (said := capfd.readouterr().err)
        and "Traceback" not in said
    )


def test_the_app_begins_an_empty_workspace_when_asked_and_ends_in_words_of_its_own(
    tmp_path, capfd, monkeypatch
):
    def stop(*_: object, **__: object) -> None:
        raise Stopped

    monkeypatch.setattr("subprocess.run", stop)
    assert main(["app", "--new", "--no-browser", "-w", str(tmp_path / "fresh")]) == 130
    assert (tmp_path / "fresh" / "workspace.json").is_file()
    assert capfd.readouterr().err == "the app has ended; jobs that were launched in it go on\n"


@pytest.mark.parametrize("port", ["0", "80000"])
def test_a_port_that_is_none_is_refused(tmp_path, port, capfd):
    assert main(["app", "-w", str(tmp_path), "--port", port]) == 2
    assert "--port" in capfd.readouterr().err


def test_help_says_what_a_stage_needs_and_names_instances_that_there_are():
    for stage in FLOW:
        said = help_of(stage.name)
        assert "...." not in said and "?." not in said
        for parent in stage.feeders:
            assert parent in said
    assert "select.top" not in " ".join(help_of(verb) for verb in ("run", "export", "select"))


def test_a_model_that_nobody_answers_for_is_told_before_it_is_loaded(capfd, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(
        "emt_core.training.midtrain.model_check.ModelCheck",
        lambda *_, **__: pytest.fail("it was tried to load it"),
    )
    assert main(["check-model", "nobody/no-such-model-at-all"]) == 2
    said = capfd.readouterr().err
    assert "nobody/no-such-model-at-all" in said and "remedy:" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("wrong", "words"), [("tasks=[0", "not valid YAML"), ("taks=[0]", "benchmark 'metaworld'")]
)
def test_a_wrong_setting_of_a_benchmark_is_told_before_a_simulator_starts(
    capfd, wrong: str, words: str
):
    assert main(["check-benchmark", "metaworld", "--set", wrong]) == 2
    assert words in (said := capfd.readouterr().err) and "Traceback" not in said


def test_a_folder_that_is_no_policy_is_told_which_is(tmp_path, capfd):
    step = tmp_path / "data" / "policies" / "step-5"
    step.mkdir(parents=True)
    assert main(["serve", str(tmp_path / "data")]) == 2
    assert str(step) in capfd.readouterr().err
    assert main(["serve", str(tmp_path / "gone")]) == 2
    assert "no such folder" in (said := capfd.readouterr().err) and "policies/step-N" in said
