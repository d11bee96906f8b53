"""The story and its HTML file: blocks from real artifacts, hostile text, a policy that lets nothing
out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
from app_world import HOSTILE
from synthetic import Made, make_workspace, pool, robot, run_stage

from emt_core.cli.__main__ import main
from emt_core.errors import EmtError
from emt_core.explore.reading import open_reading
from emt_core.explore.report.html import figure_json
from emt_core.explore.report.report import (
    KINDS,
    LARGEST_BYTES,
    first_story,
    render_story,
    report_html,
    save_report,
    write_report,
)
from emt_core.explore.report.story import (
    Story,
    StoryBlock,
    delete_story,
    load_story,
    save_story,
    story_names,
)
from emt_core.recipe.category import CategoryConfig
from emt_core.recipe.gap import GapConfig
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.recipe.selection import SelectConfig
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import write_json

BREAKOUT = "</script><script>window.hacked = 1</script><img src=x onerror=alert(1)>"
TEXTS = (
    (f"<image>\n{HOSTILE}", BREAKOUT),
    ("<image>\nPoint to the cup.", "(0.4, 0.6)"),
    ("<image>\nWho wrote this?", "Jane"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Sources to select, run for real on synthetic features; a hostile conversation in every third
    sample."""
    found = make_workspace(
        tmp_path_factory.mktemp("report") / "w",
        [
            pool("web", 60, texts=TEXTS, images=True),
            pool("near", 60, mean=2.0, texts=TEXTS, images=True, text_only=0.1),
            robot("arm", 48, mean=3.0),
        ],
    )
    run_stage(found, "category", CategoryConfig())
    run_stage(found, "gap", GapConfig(projection="pacmap", projection_fit=80, neighbors=5))
    run_stage(found, "estimator", EstimatorConfig(steps=40))
    run_stage(found, "score", ScoreConfig(sweep_sample=40))
    run_stage(found, "select", SelectConfig(fraction=0.25))
    remember(found.workspace, {stage: artifact.key for stage, artifact in found.artifacts.items()})
    return found


def remember(workspace: Workspace, state: dict[str, str]) -> None:
    recipe = workspace.path / "recipes" / "synthetic.yaml"
    recipe.parent.mkdir(exist_ok=True)
    recipe.write_text("name: synthetic\n")
    write_json(workspace.path / "state" / "synthetic.json", state)


def put(workspace: Workspace, stage: str, key: str, files: dict[str, str]) -> Artifact:
    """A hand-made artifact by the contract in docs/architecture.md."""
    data = workspace.building(stage, key) / "data"
    data.mkdir(parents=True)
    for name, text in files.items():
        (data / name).write_text(text)
    facts = {
        "stage": stage,
        "key": key,
        "labels": [stage],
        "config": {},
        "parents": {},
        "metrics": {},
        "rows": 1,
    }
    return workspace.commit(stage, key, {**facts, "finished": 2e9, "seconds": 60.0, "versions": {}})


@pytest.fixture
def trained(made: Made, tmp_path: Path) -> Workspace:
    """The same with training and evaluation, whose labels and task names are hostile too."""
    import shutil

    workspace = Workspace.open(shutil.copytree(made.workspace.path, tmp_path / "w"))
    steps = "\n".join(
        json.dumps({"step": n, "loss": 2.0 / (n + 1), "samples": n * 8}) for n in range(1, 2000)
    )
    put(workspace, "midtrain", "a" * 16, {"steps.jsonl": steps + '\n{"step": 2000, "lo'})
    put(workspace, "finetune", "b" * 16, {"steps.jsonl": steps})
    mean = {"n": 20, "successes": 12, "rate": 0.6, "low": 0.387, "high": 0.781}
    task = {"task": BREAKOUT, **mean, "failures": {"step_cap": 8}}
    results = {
        "benchmark": "metaworld",
        "rule": "last",
        "rule_text": "The last checkpoint counts.",
        "chosen": 200,
        "checkpoints": [
            {"checkpoint": 100, "mean": {**mean, "rate": 0.1}, "tasks": [task]},
            {"checkpoint": 200, "mean": mean, "tasks": [task], "failures": {}},
        ],
    }
    put(workspace, "evaluate", "c" * 16, {"results.json": json.dumps(results)})
    rate = {"rate": 0.5, "low": 0.3, "high": 0.7}
    kept = {"pope": {"all": {"n": 20, "origin": rate, "midtrained": {**rate, "rate": 0.55}}}}
    put(workspace, "retain", "d" * 16, {"results.json": json.dumps(kept)})
    state = {stage: artifact.key for stage, artifact in made.artifacts.items()}
    names = {"midtrain": "a", "finetune.<b>x</b>": "b", "evaluate": "c", "retain": "d"}
    remember(workspace, state | {label: key * 16 for label, key in names.items()})
    return workspace


class Elements(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def test_every_block_is_told_from_the_artifacts(trained: Workspace):
    material = open_reading(trained)
    told = {block.kind: block for block in render_story(first_story(), material)}
    assert set(told) == set(KINDS)
    assert not [block.kind for block in told.values() if block.missing]
    assert "120 samples in 2 sources" in told["data"].content.sentences[0]
    metrics = material.chain.select.metrics
    assert (
        f"{metrics['selected']} samples of {metrics['eligible']}"
        in told["selection"].content.sentences[0]
    )
    assert f"{material.chain.estimator.metrics['auroc']:.3f}" in told["scores"].content.sentences[0]
    table = told["results"].content.items[0]
    assert table.rows == (("evaluate", "metaworld", "200", "20", "60.0 % (38.7 % to 78.1 %)"),)
    assert told["retained"].content.items[0].rows[0][1:] == (
        "pope",
        "20",
        "50.0 % (30.0 % to 70.0 %)",
        "55.0 % (30.0 % to 70.0 %)",
    )
    losses = told["training"].content.items[0].figure
    assert [len(trace.x) <= 300 and trace.x[-1] == 1999 for trace in losses.data] == [True, True]


def test_examples_come_from_both_ends_and_keep_their_text(made: Made):
    near, far = render_story(first_story(), open_reading(made.workspace))[5].content.items
    scores = [
        float(p.note.split(" ")[0].replace("−", "-")) for p in (*near.pictures, *far.pictures)
    ]
    assert min(scores[: len(near.pictures)]) > max(scores[len(near.pictures) :])
    assert any("<script>" in picture.text for picture in (*near.pictures, *far.pictures))
    assert all(p.image is None or p.image[:4] == b"RIFF" for p in near.pictures)


def test_a_half_done_workspace_leaves_blocks_out(made: Made, tmp_path: Path):
    space = make_workspace(tmp_path / "w", [pool("web", 20), robot("arm", 16)])
    remember(space.workspace, {stage: artifact.key for stage, artifact in space.artifacts.items()})
    done = write_report(space.workspace, out=tmp_path / "r.html")
    assert [block.kind for block in done.blocks if block.content] == ["data"]
    assert done.left_out["The gap"] == ("gap",)
    assert done.left_out["The results"] == ("evaluate",)
    text = done.path.read_text()
    assert "The gap" not in text
    assert "script-src 'none'" in text  # no figure, no script
    with pytest.raises(EmtError, match="nothing has run"):
        write_report(Workspace.open(tmp_path / "empty", create=True))


def test_the_file_lets_nothing_in_and_nothing_out(trained: Workspace):
    story = first_story().model_copy(
        update={"title": BREAKOUT, "intro": f"{BREAKOUT}\n\n{HOSTILE}"}
    )
    blocks = tuple(
        block.model_copy(update={"heading": BREAKOUT, "caption": HOSTILE}) for block in story.blocks
    )
    text, _ = report_html(story.model_copy(update={"blocks": blocks}), open_reading(trained))
    assert len(text.encode()) < LARGEST_BYTES
    found = Elements(text)
    assert {tag for tag, _ in found.tags} <= set(
        "html head meta title style body header h1 h2 h3 p nav a main section div dl dt dd table thead tbody tr th td "
        "figure figcaption img span footer script".split()
    )
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/webp", "#")), value
    policy = next(
        a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    kinds = [a.get("type") for tag, a in found.tags if tag == "script"]
    running = [script for script, kind in zip(found.scripts, kinds, strict=True) if kind is None]
    assert len(running) == 2
    for script in running:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "unsafe-eval" not in policy
    assert "default-src 'none'" in policy
    for script, kind in zip(found.scripts, kinds, strict=True):
        if kind == "application/json":
            told = json.loads(script)
            assert {trace["type"] for trace in told["data"]} <= {"scatter", "bar", "heatmap"}
    for artifact in open_reading(trained).done.values():
        assert artifact.key in text
    assert str(trained.path) not in text  # a path of the machine is nobody's business


def test_a_figures_text_cannot_end_its_script():
    told = figure_json(go.Figure(go.Scattergl(x=[1], y=[2], name=BREAKOUT)))
    assert "<" not in told
    assert json.loads(told)["data"][0] == {"type": "scatter", "x": [1], "y": [2], "name": BREAKOUT}


@pytest.mark.browser
def test_the_file_opens_offline_without_a_request_or_an_error(
    browser, trained: Workspace, tmp_path: Path
):
    story = first_story().model_copy(update={"title": BREAKOUT})
    save_story(trained, "synthetic", "meeting", story)
    assert (
        main(
            [
                "report",
                "--workspace",
                str(trained.path),
                "--story",
                "meeting",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    file = tmp_path / "synthetic-meeting.html"
    problems: list[str] = []
    window = browser.new_context(offline=True, color_scheme="dark")
    page = window.new_page()
    page.on("console", lambda m: problems.append(m.text))
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on(
        "request",
        lambda r: None if r.url.startswith(("data:", "file:")) else problems.append(r.url),
    )
    page.goto(file.as_uri())
    page.wait_for_function("document.documentElement.dataset.drawn")
    figures = page.locator(".figure").count()
    assert figures >= 8
    page.wait_for_function(f"document.querySelectorAll('.figure .main-svg').length >= {figures}")
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == BREAKOUT
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    ink = page.evaluate("getComputedStyle(document.querySelector('.figure .xtick text')).fill")
    assert ink == "rgb(230, 233, 239)"
    window.close()
    assert not problems


def test_stories_are_kept_read_back_and_deleted(trained: Workspace):
    story = Story(
        title="T",
        blocks=(StoryBlock(kind="map", caption=HOSTILE), StoryBlock(kind="gap", shown=False)),
    )
    save_story(trained, "synthetic", "one", story)
    assert load_story(trained, "synthetic", "one") == story
    assert story_names(trained, "synthetic") == ["one"]
    assert [block.kind for block in render_story(story, open_reading(trained))] == ["map"]
    assert save_report(story, open_reading(trained), "one").name == "one.html"
    delete_story(trained, "synthetic", "one")
    assert story_names(trained, "synthetic") == []
    with pytest.raises(EmtError, match="there is no story 'one'"):
        load_story(trained, "synthetic", "one")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_storys_name_stays_in_its_folder(made: Made, name: str):
    with pytest.raises(EmtError, match="cannot be a story's name"):
        save_story(made.workspace, "synthetic", name, Story())


def test_a_broken_story_is_an_error_with_its_place(trained: Workspace):
    path = save_story(trained, "synthetic", "bad", Story())
    write_json(path, {"title": "x" * 500})
    with pytest.raises(EmtError, match="the story's field title"):
        load_story(trained, "synthetic", "bad")
    write_json(path, {"blocks": [{"kind": "from_the_future"}, {"kind": "data"}]})
    assert [
        b.kind for b in render_story(load_story(trained, "synthetic", "bad"), open_reading(trained))
    ] == ["data"]


def test_a_viewer_can_read_and_not_write(trained: Workspace):
    viewer = Workspace.open(trained.path, read_only=True)
    for act in (
        lambda: save_story(viewer, "synthetic", "x", Story()),
        lambda: delete_story(viewer, "synthetic", "x"),
        lambda: save_report(first_story(), open_reading(viewer), "x"),
    ):
        with pytest.raises(EmtError, match="viewing only"):
            act()
    assert not (trained.path / "stories").exists()
    assert re.search("The map", report_html(first_story(), open_reading(viewer))[0])
