"""The Probe page: nothing yet, no model to compare with, several arms."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_runner import words
from probed import probed, retained, rolled_out

from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_json


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    space = Workspace.open(tmp_path / "ws", create=True)
    (space.path / "recipes").mkdir()
    (space.path / "recipes" / "r.yaml").write_text("name: r\nprobe: {}\n")
    return space


def test_nothing_probed_says_what_it_takes(open_page, space: Workspace):
    app = open_page("probe", space.path)
    assert not app.exception
    assert "No model has been probed yet" in words(app)
    assert "Run up to probe" in [button.label for button in app.button]


def test_without_the_origin_the_page_says_how_to_have_it(open_page, space: Workspace):
    probed(space, "a" * 16, 0.4, midtrain="m1")
    write_json(space.path / "state" / "r.json", {"probe": "a" * 16})
    app = open_page("probe", space.path)
    assert not app.exception
    assert "Nothing to compare with" in words(app)
    assert "start: backbone" in " ".join(block.value for block in app.code)


def test_gained_moved_and_lost_stand_arm_by_arm(open_page, space: Workspace):
    probed(space, "0" * 16, 0.5)
    probed(space, "1" * 16, 0.4, midtrain="m1")
    probed(space, "2" * 16, 0.6, midtrain="m2")
    retained(space, "3" * 16, "m1", lost=30)
    rolled_out(space, "4" * 16, "m1", success=0.5)
    labels = ("probe.origin", "probe@full/0", "probe@<b>lora</b>/0", "retain@full/0")
    keys = {label: f"{number}" * 16 for number, label in enumerate(labels)}
    write_json(space.path / "state" / "r.json", keys)
    app = open_page("probe", space.path)
    assert not app.exception and not app.error
    told = words(app)
    assert "Rollouts are worth their price" in told
    assert "Rollouts are hardly worth their price" in told
    assert "<b>lora" not in told
    assert "Not enough runs: 1 of the probed models have been rolled out" in told
    verdicts = app.dataframe[0].value
    assert set(verdicts["verdict"]) == {"read better", "read worse", "no difference seen"}
    lost = app.dataframe[-1].value
    assert lost["change, points"].iloc[0].startswith("-30.0")
    app.segmented_control(key="probe-head").set_value("mlp").run()
    assert not app.exception
