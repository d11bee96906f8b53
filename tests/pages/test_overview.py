"""The Overview over an empty, a half-done, a complete and a broken workspace; links; recipes;
viewers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from page_runner import button, metrics, words

from emt_core.run.edits import change_settings
from emt_core.workspace.artifact import VIEW_ONLY, Workspace


def param(app, name: str) -> str:
    value = app.query_params[name]
    return value[0] if isinstance(value, list) else value


def labels(app) -> list[str]:
    return [b.label for b in app.button]


def edit_recipe(workspace: Path, change) -> None:
    path = workspace / "recipes" / "small.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def test_an_empty_workspace_shows_the_flow_and_the_first_step(open_page, empty):
    app = open_page("overview", empty)
    assert not app.exception and not app.error
    assert "This workspace is empty" in words(app)
    assert len(app.get("plotly_chart")) == 1
    button(app, "Add without running").click().run()
    assert not app.exception
    assert "Nothing has run yet" in words(app) and "Run all stages" in labels(app)
    assert [path.name for path in (empty / "recipes").glob("*.yaml")] == ["demo.yaml"]
    assert not list(empty.glob("jobs/*/job.json"))


def test_a_half_done_workspace_names_the_next_stage(open_page, half_done):
    app = open_page("overview", half_done)
    assert not app.exception and not app.error
    assert "how far pool and robot data lie apart" in words(
        app
    ) and "Run what is missing" in labels(app)
    assert "Run up to gap" in labels(app)
    assert param(app, "stage") == "gap"
    app = open_page("overview", half_done, stage="embed")
    assert metrics(app)["Rows"] == "192" and "Run up to embed" not in labels(app)
    assert param(app, "stage") == "embed"


def test_a_complete_workspace_shows_every_instance_in_full(open_page, complete):
    app = open_page("overview", complete, stage="estimator")
    assert not app.exception and not app.error
    assert "All stages are up to date" in words(app)
    artifact = Workspace.open(complete).artifacts("estimator")[0]
    found = metrics(app)
    assert found["Key"] == artifact.key[:8] and found["Result"].startswith("AUROC")
    settings = app.dataframe[0].value.set_index("setting")
    assert settings.loc["steps", "value"] == "60" and settings.loc["steps", "what it does"]
    button(app, "embed").click().run()  # a parent
    assert param(app, "stage") == "embed" and "Made from" in words(app)


def test_what_changed_shows_as_stale_with_the_reason(open_page, complete_copy):
    change_settings(Workspace.open(complete_copy), "small", "estimator", {"steps": 61})
    app = open_page("overview", complete_copy)
    assert not app.exception
    assert "estimator is out of date (steps changed), and with it 2 later stages" in words(
        app
    ).replace("\\", "")
    assert "Bring up to date" in labels(app)
    settings = app.dataframe[0].value.set_index("setting")
    assert settings.loc["steps", "value"] == "61" and settings.loc["steps", "made with"] == "60"


def test_a_model_that_cannot_be_had_is_told_and_other_stages_can_run(
    open_page, half_done, tmp_path
):
    workspace = tmp_path / "w"
    shutil.copytree(half_done, workspace, symlinks=True)
    edit_recipe(
        workspace,
        lambda raw: raw.update(backbone="nobody/no-such-vlm", midtrain={"steps": 2, "batch": 2}),
    )
    app = open_page("overview", workspace)
    assert not app.exception and "no-such-vlm" in words(app)
    assert "Run up to gap" in labels(app)


def test_a_plan_that_fails_is_a_message(open_page, complete_copy):
    edit_recipe(complete_copy, lambda raw: raw["sources"][0].update(path="nowhere.json"))
    app = open_page("overview", complete_copy)
    assert not app.exception
    assert "no such file or folder" in words(app) and "nowhere.json" in words(app)
    assert len(app.get("plotly_chart")) == 1


def test_a_failure_and_an_interruption_are_told_apart(open_page, half_done):
    from emt_core.recipe.recipe import load_recipe
    from emt_core.run.plan import make_plan
    from emt_core.workspace.files import write_json

    plan = make_plan(load_recipe(half_done / "recipes" / "small.yaml"))
    space = Workspace.open(half_done)
    building = space.building("gap", plan.get("gap").key)
    write_json(building / "progress.json", {"done": 3, "total": 9, "unit": "pairs", "doing": "MMD"})
    assert "gap was stopped at 3 of 9 pairs" in words(open_page("overview", half_done))
    write_json(building / "failure.json", {"message": "<b>no</b> **memory**", "at": 0})
    app = open_page("overview", half_done)
    assert "gap failed" in words(app) and "Run again" in labels(app)
    assert "<b>no</b> **memory**" in [text.value for text in app.text]


def test_arms_and_seeds_fold_into_a_table(open_page, complete_copy):
    def experiment(raw):
        raw["arms"] = {"learned": {}, "random": {"select.top.strategy": "random"}}
        raw["seeds"] = [0, 1, 2]

    edit_recipe(complete_copy, experiment)
    app = open_page("overview", complete_copy, stage="select.top")
    assert not app.exception
    table = app.dataframe[0].value
    assert len(table) > 1 and all("@" in name for name in table["instance"])


def test_a_stage_that_the_recipe_lacks_can_be_added(open_page, complete_copy):
    edit_recipe(complete_copy, lambda raw: raw.pop("gap"))
    app = open_page("overview", complete_copy, stage="gap")
    assert "The recipe does not have this stage" in words(app)
    button(app, "Add gap to the recipe").click().run()
    assert not app.exception and "Feeds" not in words(app)
    assert "gap" in yaml.safe_load((complete_copy / "recipes" / "small.yaml").read_text())


@pytest.mark.parametrize("query", [{"stage": "no-such"}, {"recipe": "../x"}, {"selection": "gone"}])
def test_nonsense_in_a_link_is_ignored(open_page, complete, query):
    app = open_page("overview", complete, **query)
    assert not app.exception and not app.error
    assert param(app, "recipe") == "small"


def test_links_name_what_is_shown_also_where_it_is_the_default(open_page, complete):
    app = open_page("overview", complete)
    assert param(app, "recipe") == "small"
    assert param(app, "selection") == "top"
    assert "workspace" not in app.query_params  # the app's own


def test_another_workspace_is_opened_and_named_by_the_link(
    open_page, complete, half_done, tmp_path
):
    from emt_core.workspace.recent import note_workspace, short_id

    note_workspace(half_done)
    app = open_page("overview", complete)
    for link, shown in (
        ("ff", "All stages are up to date"),
        (short_id(half_done), "how far pool and robot data lie apart"),
    ):
        del app.session_state["_workspace"]  # as a fresh session: an old one keeps its workspace
        app.query_params["workspace"] = link
        app.run()
        assert not app.exception and shown in words(app)
    assert param(app, "workspace") == short_id(half_done)
    other = shutil.copytree(half_done, tmp_path / "other")
    app.session_state["_workspace"] = other
    app.run()
    assert param(app, "workspace") == short_id(other)


def test_viewers_get_no_button_that_writes(open_page, complete, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in complete.rglob("*")}
    monkeypatch.setenv(VIEW_ONLY, "1")
    app = open_page("overview", complete, stage="estimator")
    assert not app.exception
    wrong = [name for name in labels(app) if name.startswith(("Run", "Change", "Add", "Check"))]
    assert not wrong
    assert "view only" in words(app)
    assert {path: path.stat().st_mtime_ns for path in complete.rglob("*")} == before


def test_what_would_stop_a_later_stage_is_shown_before_it_runs(open_page, half_done, tmp_path):
    workspace = tmp_path / "w"
    shutil.copytree(half_done, workspace, symlinks=True)

    def mistake(raw):
        raw["select.top"]["caps"] = {"source": {"nobody": 3}}

    edit_recipe(workspace, mistake)
    app = open_page("overview", workspace)
    assert not app.exception
    shown = " ".join(element.value for element in app.text)
    assert "names 'nobody'" in shown and "Where: select.top" in shown
