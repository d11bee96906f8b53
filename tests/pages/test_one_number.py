"""A quantity has one number, wherever it is printed: in stage outputs, on pages, in the report, on
the command line."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from app_world import hostile_world
from page_runner import OpenPage, metrics, words
from rich.console import Console
from small_world import write_pool

from emt_core.cli.ablation import ablation
from emt_core.cli.demo import render_findings
from emt_core.cli.run import run_recipe
from emt_core.explore import numbers
from emt_core.explore.reading import open_reading
from emt_core.explore.report.report import first_story, report_html
from emt_core.explore.tables.measured import Measured
from emt_core.proximity import reference
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import finished
from pages.parts.router import PAGES

SAMPLED = 80
"""Rows that pool and robot data are measured on, of 154 and 96: their figures have an error."""

NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?: ± [\d.]*\d)?(?: %)?"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("one")
    world = hostile_world(folder / "world")
    write_pool(world / "more", 60)
    more = "  - {name: more, role: pool, format: llava, path: more/web.json, image_root: images}\n"
    recipe = world / "recipe.yaml"
    text = recipe.read_text().replace("{sweep_sample: 50}", f"{{sweep_sample: {SAMPLED}}}")
    text = text.replace("sources:\n", f"sources:\n{more}")
    recipe.write_text(text + "select.random: {strategy: random, k: 40}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "SAMPLE_ROWS", SAMPLED)
        run_recipe(recipe, folder / "ws", None)
    yield folder / "ws"


@pytest.fixture(scope="module")
def outputs(ran: Path) -> SimpleNamespace:
    """What the stages left."""
    done = finished(Workspace.open(ran, read_only=True), "small")
    select = done["select.top"]
    return SimpleNamespace(
        gap=read_json(done["gap"].data / "gap.json"),
        gap_metrics=done["gap"].metrics,
        score=done["score"].metrics["sweep"],
        sweep=pq.read_table(done["score"].data / "sweep.parquet").to_pandas(),
        report=read_json(select.data / "report.json"),
        select_metrics=select.metrics,
        random=read_json(done["select.random"].data / "report.json"),
        chosen=pq.read_table(select.data / "selected.parquet").to_pandas(),
    )


def test_stages_agree_on_the_pool(outputs: SimpleNamespace):
    """The gap, the sweep without a cut, and "before" of every selection are the same pool."""
    gap, last = outputs.gap, outputs.sweep.iloc[-1]
    near, near_error = gap["groups"]["pool_to_robot"], gap["errors"]["groups"]["pool_to_robot"]
    spread, spread_error = (found["diversity_groups"]["pool"] for found in (gap, gap["errors"]))
    assert near_error > 0 and spread_error > 0
    assert outputs.score["sigma"] == gap["sigma"]
    assert (last.mmd2_to_robot, last.mmd2_to_robot_error) == pytest.approx((near, near_error))
    assert (last.diversity, last.diversity_error) == pytest.approx((spread, spread_error))
    assert outputs.gap_metrics["pool_to_robot"] == near
    for report in (outputs.report, outputs.random, outputs.select_metrics):
        errors = report["errors"]
        assert report["mmd2_to_robot"]["all"]["before"] == pytest.approx(near)
        assert errors["mmd2_to_robot"]["all"]["before"] == pytest.approx(near_error)
        assert report["diversity"]["before"] == pytest.approx(spread)
        assert errors["diversity"]["before"] == pytest.approx(spread_error)
    assert outputs.report["sigma"] == outputs.random["sigma"] == gap["sigma"]


def test_a_spread_over_seeds_has_no_sign(open_page: OpenPage, ran: Path, outputs: SimpleNamespace):
    score = finished(Workspace.open(ran, read_only=True), "small")["score"]
    shown = metrics(open_page("scores", ran))["Seed spread"]
    assert shown == numbers.decimal(score.metrics["spread"]["median"], 2)
    best = metrics(open_page("browse", ran, sample=outputs.chosen["id"][0]))
    assert re.fullmatch(r"\d\.\d\d", best["Seed spread"])


@pytest.fixture
def wanted(outputs: SimpleNamespace) -> SimpleNamespace:
    """Each quantity as it has to be written."""
    report = outputs.report
    gap = outputs.gap
    random = outputs.random

    def written(found: dict, *path: str) -> str:
        value, error = found, found["errors"]
        for name in path:
            value, error = value[name], error[name]
        return Measured(value, error).text

    return SimpleNamespace(
        pool_near=written(gap, "groups", "pool_to_robot"),
        pool_spread=written(gap, "diversity_groups", "pool"),
        robot_spread=written(gap, "diversity_groups", "robot"),
        across=written(gap, "groups", "across"),
        within_pool=written(gap, "groups", "within_pool"),
        within_robot=written(gap, "groups", "within_robot"),
        web_near=written(gap, "groups", "to_robot", "web"),
        near=written(report, "mmd2_to_robot", "all", "after"),
        spread=written(report, "diversity", "after"),
        random_near=written(random, "mmd2_to_robot", "all", "after"),
        random_spread=written(random, "diversity", "after"),
        selected=f"{report['selected']}",
        eligible=f"{report['eligible']}",
        share=numbers.share(report["selected"] / report["eligible"]),
        embodied=numbers.share(report["embodied_share"]["after"]),
    )


def test_every_place_that_prints_a_quantity_prints_one_number(
    open_page: OpenPage,
    ran: Path,
    wanted: SimpleNamespace,
    outputs: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
):
    found: dict[str, dict[str, str]] = {name: {} for name in vars(wanted)}

    def put(place: str, **quantities: str) -> None:
        for name, text in quantities.items():
            found[name][place] = text

    overview = open_page("overview", ran)
    charts = [json.loads(chart.proto.spec) for chart in overview.get("plotly_chart")]
    put("overview", pool_near=_after(r"MMD² ", json.dumps(charts, ensure_ascii=False)))

    gap = open_page("gap", ran)
    shown = metrics(gap)
    put("gap", pool_near=shown["MMD² pool vs robot data"])
    put("gap", across=shown["MMD² between sources (mean)"])
    put("gap", within_pool=shown["MMD² within pool"])
    put("gap", within_robot=shown["MMD² within robot data"])
    ranked, diverse = (json.loads(chart.proto.spec) for chart in gap.get("plotly_chart")[1:3])
    put("gap, nearest", web_near=dict(_labels(ranked))["web"])
    bars = dict(_labels(diverse))
    put("gap, bars", pool_spread=bars["all pool"], robot_spread=bars["all robot"])
    put("gap, bars", spread=bars["selected"])

    select = open_page("select", ran)
    shown = metrics(select)
    put("select", near=shown["MMD²"], spread=shown["Diversity"], embodied=shown["Embodied"])
    put("select", selected=shown["Selected"], share=shown["Pool share"])
    table = select.dataframe[0].value.set_index("name")
    for name, prefix in (("top", ""), ("random", "random_")):
        put("selections", **{f"{prefix}near": table.loc[name, "MMD² to robot"]})
        put("selections", **{f"{prefix}spread": table.loc[name, "diversity"]})
    put("selections", embodied=table.loc["top", "embodied"])
    put("selections", selected=str(table.loc["top", "selected"]))

    rows = open_page("ablation", ran).dataframe[0].value.set_index("selection")
    put("ablation", near=rows.loc["top", "MMD² to robot"], spread=rows.loc["top", "diversity"])
    put("ablation", selected=str(rows.loc["top", "selected"]))
    ablation(ran)
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "| top | top |" in line)
    cells = [cell.strip() for cell in line.split("|")]
    header = [cell.strip() for cell in printed.splitlines()[0].split("|")]
    put("emt ablation", near=cells[header.index("MMD² to robot")])
    put("emt ablation", spread=cells[header.index("diversity")])

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_findings(_findings(outputs.report)))
    printed = console.export_text()
    put("emt demo", pool_near=_cells(printed, "MMD² to robot data")[0])
    put("emt demo", near=_cells(printed, "MMD² to robot data")[1])
    put("emt demo", pool_spread=_cells(printed, "diversity S(D)")[0])
    put("emt demo", spread=_cells(printed, "diversity S(D)")[1])
    put("emt demo", embodied=_cells(printed, "embodied (by category)")[1])

    present = open_page("present", ran)
    shown = metrics(present)
    put("present", pool_near=shown["MMD² pool to robot data"], near=shown["MMD² to robot data"])
    put("present", pool_spread=shown["Diversity, pool"], spread=shown["Diversity"])
    put("present", robot_spread=shown["Diversity, robot data"], share=shown["Share of the pool"])
    put("present", embodied=shown["Embodied"], selected=shown["Selected"])
    html = report_html(first_story(), open_reading(Workspace.open(ran, read_only=True)))[0]
    for place, text in (("present, words", words(present)), ("emt report", html)):
        text = _plain(text)
        put(place, across=_after(r"a pool source and a robot set is ", text))
        put(place, within_pool=_after(r"among pool sources it is ", text))
        put(place, within_robot=_after(r"among robot sets ", text))
        put(place, pool_near=_after(r"Squared MMD to the robot data goes from ", text))
        put(place, near=_after(rf"for the pool to (?={NUMBER} for the selection)", text))
        put(place, pool_spread=_after(r"diversity from ", text))
        put(place, spread=_after(rf"diversity from {NUMBER} to ", text))
        put(place, embodied=_after(rf"embodied-oriented .{{30,60}} from {NUMBER} to ", text))
        put(place, share=_after(r"eligible ones are selected \(", text))
    side_by_side = next(
        frame.value for frame in present.dataframe if "strategy" in frame.value.columns
    ).set_index("selection")
    put("present, table", random_near=side_by_side.loc["random", "MMD² to robot data"])
    put("present, table", random_spread=side_by_side.loc["random", "diversity"])
    put("present, table", near=side_by_side.loc["top", "MMD² to robot data"])

    shown = metrics(open_page("scores", ran, after="before and after"))
    for side in ("spatial", "text"):
        assert shown[f"Above cut, {side}"] == shown[f"Selected, {side}"] != "–"

    put("map", share=metrics(open_page("map", ran))["Selected"])
    best, last = outputs.chosen.id.iloc[0], outputs.chosen.id.iloc[-1]
    for place, sample, rank in (("best", best, 1), ("last", last, len(outputs.chosen))):
        detail = open_page("browse", ran, sample=sample)
        metric = next(m for m in detail.metric if m.label == "Rank")
        put(f"browse, {place}", eligible=_after(rf"^{rank} of ", metric.help))
        if rank > 1:
            put("browse", share=metric.value.removeprefix("top "))

    for quantity, places in found.items():
        assert places, quantity
        text = getattr(wanted, quantity)
        assert set(places.values()) == {text}, (quantity, text, places)


def test_no_page_has_a_figure_that_the_walk_does_not_know(
    open_page: OpenPage, ran: Path, wanted: SimpleNamespace
):
    known = set(vars(wanted).values())
    for name in (name for group in PAGES.values() for _, name, _ in group):
        for label, value in metrics(open_page(name, ran)).items():
            if re.search("MMD|[Dd]iversity|Embodied|Share of the pool|Pool share", label):
                assert value in known, (name, label, value)


def test_another_cut_has_the_figures_of_the_sweep(
    open_page: OpenPage, ran: Path, outputs: SimpleNamespace
):
    app = open_page("select", ran)
    app.slider(key="cut_k").set_value(100).run()
    sweep = outputs.sweep
    threshold = float(metrics(app)["Lowest score"].replace("−", "-"))
    shown = metrics(app)
    kept = min(range(10, len(sweep)), key=lambda row: abs(sweep.logit[row] - threshold))
    near = [sweep.iloc[row] for row in range(kept - 2, min(kept + 3, len(sweep)))]
    texts = {Measured(row.mmd2_to_robot, row.mmd2_to_robot_error).text for row in near}
    assert "±" in shown["MMD²"] and shown["MMD²"] in texts
    assert "±" in shown["Diversity"]


def _findings(report: dict) -> dict:
    """What `render_findings` gets, with the figures of this selection."""
    cells = {"cells": [], "auroc_content_within_style": {}, "estimator": {"auroc": 1.0}}
    shares = {name: {"before": 0.0, "after": 0.0} for name in ("relevant_share", "sim_share")}
    plain = {"pool": 1, "selected": 1, "auroc_style": 0.5, "auroc_content": 0.5}
    return {**report, **cells, **shares, **plain}


def _plain(text: str) -> str:
    return re.sub(r"\\([.\-±%()~])", r"\1", text)


def _after(before: str, text: str) -> str:
    match = re.search(f"{before}({NUMBER})", text)
    at = text.find(before)
    assert match, (before, text[max(at, 0) :][:500])
    return match[1]


def _labels(figure: dict) -> list[tuple[str, str]]:
    bars = figure["data"][0]
    return list(zip(bars["y"], bars["text"], strict=True))


def _cells(table: str, name: str) -> list[str]:
    line = next(line for line in table.splitlines() if name in line)
    return [cell.strip() for cell in line.split("│")[2:4]]
