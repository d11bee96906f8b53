"""What the Overview is made of: folds, boxes, arrows, the next step, recipes edited in the
workspace, kept plans."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import yaml
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.explore.figures.flow import HEIGHT, STATE_COLOR, WIDTH, flow_picture
from emt_core.explore.figures.palette import INK, rgb
from emt_core.explore.report.html import figure_json
from emt_core.explore.tables.flow import Box, boxes_of, edges_of, folds_of, stage_columns
from emt_core.explore.tables.headline import headline
from emt_core.flow import FLOW, STAGES
from emt_core.recipe.form import settings_of
from emt_core.recipe.recipe import load_recipe
from emt_core.run.edits import add_stage, change_settings
from emt_core.run.plan import Plan, make_plan
from emt_core.run.plan_cache import PlanCache
from emt_core.run.recipes import add_recipe
from emt_core.run.runner import run_plan
from emt_core.run.status import InstanceStatus, next_step, plan_status
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.recent import note_workspace, recent_workspaces, short_id


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=24, episodes=6)


@pytest.fixture
def workspace(world: Path, tmp_path: Path) -> Workspace:
    space = Workspace.open(tmp_path / "w", create=True)
    add_recipe(space, world / "recipe.yaml")
    return space


def state(
    label: str, found: str = "done", parents: tuple[str, ...] = (), **facts: object
) -> InstanceStatus:
    stage = label.partition(".")[0].partition("@")[0]
    return InstanceStatus(
        label=label, stage=stage, key="k" * 16, state=found, parents=parents, **facts
    )  # type: ignore[arg-type]


CHAIN = [
    state("sources", rows=10, seconds=1.0),
    state("embed", parents=("sources",)),
    state("category", parents=("sources",)),
    state("estimator", parents=("sources", "embed")),
    state("score", parents=("sources", "embed", "estimator")),
    state("select.top", parents=("sources", "embed", "category", "score")),
    state("select.random", parents=("sources", "embed", "category")),
]


def test_arrows_say_each_way_once():
    edges = edges_of(folds_of(CHAIN))
    assert ("sources", "embed") in edges and ("score", "select.top") in edges
    assert ("sources", "score") not in edges  # the longer way says it
    assert ("embed", "select.random") in edges  # a random draw takes no score
    assert ("embed", "select.top") not in edges


def test_every_stage_has_a_box_and_columns_follow_the_arrows():
    folds = folds_of(CHAIN)
    assert {fold.stage for fold in folds} == set(STAGES)
    columns = stage_columns()
    for stage in FLOW:
        for parent in stage.feeders:
            assert columns[parent] < columns[stage.name]
    absent = next(fold for fold in folds if fold.stage == "gap")
    assert absent.state == "absent" and not absent.members


def test_arms_and_seeds_fold_and_the_worst_state_shows():
    arms = [state(f"select.top@arm{arm}/{seed}") for arm in range(3) for seed in range(5)]
    arms[7] = state(arms[7].label, "failed")
    fold = next(fold for fold in folds_of([*CHAIN[:5], *arms]) if fold.stage == "select")
    assert fold.id == "select.top" and len(fold.members) == 15 and fold.state == "failed"
    [box] = boxes_of([fold], {})
    assert box.lines == ("top", "14 of 15 done")
    many = [state(f"select.s{number}") for number in range(9)]
    [fold] = [fold for fold in folds_of([*CHAIN[:5], *many]) if fold.stage == "select"]
    assert fold.id == "select@" and len(fold.members) == 9


def test_the_picture_can_be_clicked_everywhere_and_no_arrow_hides_behind_a_box():
    folds = folds_of(CHAIN)
    figure = flow_picture(
        boxes_of(folds, {"embed": "<b>192</b> dimensions"}), edges_of(folds), chosen="embed"
    )
    assert set(figure.data[0].customdata) == {fold.id for fold in folds}
    assert any("&lt;b&gt;192&lt;/b&gt;" in note.text for note in figure.layout.annotations)
    boxes = [(s.x0, s.x1, s.y0, s.y1) for s in figure.layout.shapes if s.type == "rect"]
    assert len(boxes) == len(folds)
    assert all(
        x1 - x0 == pytest.approx(WIDTH) and y1 - y0 == pytest.approx(HEIGHT)
        for x0, x1, y0, y1 in boxes
    )
    for path in (s.path for s in figure.layout.shapes if s.type == "path"):
        points = [
            tuple(map(float, pair.split(",")))
            for pair in path.replace("M", "").replace("C", "").split()
        ]
        for x, y in points[1:-1]:
            assert not any(x0 < x < x1 and y0 < y < y1 for x0, x1, y0, y1 in boxes), path


@pytest.mark.parametrize(
    ("states", "kind", "label", "says"),
    [
        (
            [state("sources", "missing"), state("embed", "missing")],
            "run",
            "sources",
            "Nothing has run yet",
        ),
        ([state("sources"), state("embed", "missing")], "run", "embed", "Next: embed"),
        (
            [state("sources"), state("embed", "failed", message="no GPU\nmore")],
            "mend",
            "embed",
            "no GPU.",
        ),
        ([state("sources"), state("embed", "running")], "wait", "embed", "embed is running"),
        (
            [state("sources", "stale", why="files changed"), state("embed", "stale")],
            "renew",
            "sources",
            "1 later stage",
        ),
        ([state("sources"), state("embed")], "look", "", "up to date"),
        ([state("select"), state("evaluate.sim")], "look", "evaluate.sim", "see the results"),
        ([state("score"), state("trust", "missing")], "run", "trust", "what it seems to mean?"),
        (
            [
                state(
                    "embed",
                    "interrupted",
                    progress={"done": 1200, "total": 5000, "unit": "samples"},
                )
            ],
            "resume",
            "embed",
            "1,200 of 5,000 samples",
        ),
    ],
)
def test_the_next_step_is_one_sentence(states, kind, label, says):
    step = next_step(states)
    assert (step.kind, step.label) == (kind, label)
    assert says in step.sentence and "\n" not in step.sentence
    assert bool(step.button) == (kind not in ("wait", "look"))


def test_what_a_job_will_come_to_needs_no_launch():
    states = [state("sources"), state("embed", "missing")]
    assert next_step(states).button
    step = next_step(states, {"k" * 16})
    assert step.kind == "wait" and not step.button and "embed will run next" in step.sentence


def test_a_stale_instance_says_what_changed(world, workspace):
    recipe = workspace.path / "recipes" / "small.yaml"
    run_plan(make_plan(load_recipe(recipe)), workspace, until="category", quiet=True)
    run_plan(make_plan(load_recipe(recipe)), workspace, until="estimator", quiet=True)
    change_settings(workspace, "small", "estimator", {"steps": 61})
    found = {s.label: s for s in plan_status(make_plan(load_recipe(recipe)), workspace)}
    assert found["estimator"].state == "stale" and found["estimator"].why == "steps changed"
    assert found["embed"].state == "done" and found["category"].state == "done"
    change_settings(workspace, "small", "embed", {"pooling": "last"})
    found = {s.label: s for s in plan_status(make_plan(load_recipe(recipe)), workspace)}
    assert found["embed"].why == "pooling changed"
    assert found["estimator"].why == "steps changed; embed changed"
    image = world / "web" / "web.json"
    image.write_text(image.read_text() + "\n")
    found = {s.label: s for s in plan_status(make_plan(load_recipe(recipe)), workspace)}
    assert found["sources"].why == "its input files changed"
    assert found["category"].why == "sources changed"


def test_settings_are_changed_in_place_or_beside(workspace):
    path = workspace.path / "recipes" / "small.yaml"
    before = yaml.safe_load(path.read_text())
    assert (
        change_settings(workspace, "small", "estimator", {"steps": 7}, beside="short")
        == "estimator.short"
    )
    raw = yaml.safe_load(path.read_text())
    assert raw["estimator.short"]["steps"] == 7 and raw["estimator"] == before["estimator"]
    change_settings(workspace, "small", "select.top", {"k": 5})
    assert yaml.safe_load(path.read_text())["select.top"]["k"] == 5
    text = path.read_text()
    for label, settings, beside, says in (
        ("estimator", {"steps": -1}, None, "steps"),
        ("estimator", {"no_such": 1}, None, "no_such"),
        ("estimator", {}, "short", "already"),
        ("estimator", {}, "../x", "cannot be a copy.s name"),
        ("nothing", {}, None, "no 'nothing'"),
    ):
        with pytest.raises(EmtError, match=says):
            change_settings(workspace, "small", label, settings, beside=beside)
    assert path.read_text() == text


def test_settings_carry_their_documentation(workspace):
    recipe = load_recipe(workspace.path / "recipes" / "small.yaml")
    found = {
        s.name: s for i in recipe.instances if i.stage == "estimator" for s in settings_of(i.config)
    }
    steps = found["steps"]
    assert (steps.value, steps.kind, steps.changed) == (60, "whole", True) and steps.help
    assert found["stop_accuracy"].kind == "number" and not found["stop_accuracy"].changed
    embed = {
        s.name: s for i in recipe.instances if i.stage == "embed" for s in settings_of(i.config)
    }
    assert embed["pooling"].options == ("last", "mean") and embed["revision"].optional


def test_a_stage_is_added_where_it_fits(workspace):
    path = workspace.path / "recipes" / "small.yaml"
    raw = yaml.safe_load(path.read_text())
    del raw["gap"]
    path.write_text(yaml.safe_dump(raw))
    assert add_stage(workspace, "small", "gap") == "gap"
    assert make_plan(load_recipe(path)).get("gap")
    del raw["estimator"], raw["score"], raw["select.top"]
    path.write_text(yaml.safe_dump(raw))
    text = path.read_text()
    with pytest.raises(EmtError):
        add_stage(workspace, "small", "score")  # nothing would feed it
    assert path.read_text() == text


def test_a_recipe_is_taken_in_once(world, workspace, tmp_path):
    assert add_recipe(workspace, world / "recipe.yaml") == "small"
    other = tmp_path / "other.yaml"
    raw = yaml.safe_load((world / "recipe.yaml").read_text())
    other.write_text(yaml.safe_dump({**raw, "base": str(world), "estimator": {}}))
    with pytest.raises(EmtError, match="another recipe named 'small'"):
        add_recipe(workspace, other)
    viewed = Workspace(workspace.path, read_only=True)
    for refused in (
        lambda: add_recipe(viewed, world / "recipe.yaml"),
        lambda: add_stage(viewed, "small", "gap"),
        lambda: change_settings(viewed, "small", "gap", {}),
    ):
        with pytest.raises(EmtError, match="viewing only"):
            refused()


def test_a_plan_is_kept_until_its_recipe_changes(workspace, monkeypatch):
    path = workspace.path / "recipes" / "small.yaml"
    plans = PlanCache()
    first = plans.plan(path)
    assert plans.plan(path) is first
    change_settings(workspace, "small", "select.top", {"k": 3})
    assert plans.plan(path) is not first
    raw = yaml.safe_load(path.read_text())
    raw["sources"][0]["path"] = "gone.json"
    path.write_text(yaml.safe_dump(raw))
    (problem,) = {i.problem for i in plans.plan(path).instances} - {None}
    assert "gone.json" in problem.where
    states = {s.stage: s.state for s in plan_status(plans.plan(path), workspace)}
    assert states["sources"] in ("missing", "stale")  # no dead end: every stage has its state
    raw["sources"][0]["format"] = "no-such"
    path.write_text(yaml.safe_dump(raw))
    for _ in range(2):
        with pytest.raises(EmtError, match="no-such"):
            plans.plan(path)


def test_recent_workspaces_are_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert recent_workspaces() == []
    spaces = [Workspace.open(tmp_path / name, create=True).path for name in ("a", "b", "c")]
    for path in (*spaces, spaces[0]):
        note_workspace(path)
    assert recent_workspaces() == [spaces[0], spaces[2], spaces[1]]
    (spaces[2] / "workspace.json").unlink()
    assert recent_workspaces() == [spaces[0], spaces[1]]
    assert len({short_id(path) for path in spaces}) == 3
    (tmp_path / "config" / "embodied-midtrain" / "workspaces.json").write_text("{broken")
    assert recent_workspaces() == []


def test_a_plan_whose_renewal_fails_is_renewed_later(workspace, monkeypatch):
    path = workspace.path / "recipes" / "small.yaml"
    plans = PlanCache()
    first = plans.plan(path)
    tried = []

    def broken(*_: object, **__: object) -> Plan:
        tried.append(threading.current_thread())
        raise MemoryError

    monkeypatch.setattr("emt_core.run.plan_cache.make_plan", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    for times in (1, 2):
        monkeypatch.setattr("emt_core.run.plan_cache.FRESH_S", -1.0)
        assert plans.plan(path) is first  # the old one is still good
        monkeypatch.setattr("emt_core.run.plan_cache.FRESH_S", 1e6)
        deadline = time.monotonic() + 30
        while (len(tried) < times or tried[-1].is_alive()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(tried) == times


def test_headlines_are_of_the_metrics_that_stages_write():
    from emt_core.stages.midtrain import _metrics

    step = {
        "step": 1,
        "loss": 1.25,
        "samples": 16,
        "tokens": 900,
        "supervised": 300,
        "seconds": 2.0,
        "memory_mb": 10,
    }
    assert headline("midtrain", _metrics([step], 100, {})) == "loss 1.250"
    assert headline("estimator", {"auroc": 0.98}) == "AUROC 0.980"
    assert headline("estimator", {"auroc": None}) == "" and headline("nothing", {"x": 1}) == ""


def test_the_words_in_the_boxes_can_be_read():
    """WCAG's contrast, 4.5:1 for small text, on a box's ground over the page's: Streamlit's inks
    are by theme."""
    from streamlit.elements.lib.streamlit_plotly_theme import GRAY_90

    assert (
        INK == GRAY_90
    )  # Streamlit's frontend replaces this by #262730 on light ground, #fafafa on dark
    boxes = [
        Box(id=name, title=name, state=name, column=0, lines=("words",)) for name in STATE_COLOR
    ]
    figure = flow_picture(boxes, [], chosen="done")
    assert all(
        "color" not in note.text.partition("</span>")[2] for note in figure.layout.annotations
    )
    assert INK not in figure_json(figure)  # a report has its own theme
    fills = [shape.fillcolor for shape in figure.layout.shapes if shape.type == "rect"]
    for page, ink in (("#FFFFFF", "#262730"), ("#12151C", "#fafafa")):
        for note, fill in zip(figure.layout.annotations, fills, strict=True):
            assert note.font.color == INK
            red, green, blue, alpha = (float(part) for part in fill[5:-1].split(","))
            ground = mixed((red, green, blue), rgb(page), alpha)
            assert contrast(mixed(rgb(ink), ground, note.opacity), ground) >= 4.5


def mixed(over: tuple[float, ...], under: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    return tuple(alpha * a + (1 - alpha) * b for a, b in zip(over, under, strict=True))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio, of two colours of 0 to 255."""

    def luminance(color: tuple[float, ...]) -> float:
        parts = [
            c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in color
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
