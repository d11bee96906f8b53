"""The ablation table: planted precision against a plain count, costs and success as the artifacts
have them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from synthetic import make_workspace, pool, put_artifact, robot, run_stage

from emt_core.data.draws import gumbel_scores
from emt_core.explore.figures.ablation import planted_bars
from emt_core.explore.tables import ablation as module
from emt_core.explore.tables.ablation import ablation, markdown, near_share, strategy_words, table
from emt_core.recipe.selection import SelectConfig
from emt_core.recipe.trust import TrustConfig
from emt_core.workspace.files import write_json
from emt_core.workspace.lineage import finished


def index_of(metas: list[dict | None]) -> SimpleNamespace:
    column = pa.table({"meta": [None if meta is None else json.dumps(meta) for meta in metas]})
    return SimpleNamespace(
        table=SimpleNamespace(take=lambda rows, names: column.select(names).take(rows))
    )


def test_planted_precision_is_the_share_among_rows_whose_truth_is_known():
    rng = np.random.default_rng(0)
    kinds = [{"content": "embodied"}, {"content": "reading"}, {"style": "sim"}, None]
    metas = [kinds[place] for place in rng.integers(0, 4, 400)]
    rows = rng.permutation(400)[:150]
    near = sum(metas[row] == kinds[0] for row in rows)
    far = sum(metas[row] == kinds[1] for row in rows)
    share, known = near_share(index_of(metas), rows, TrustConfig())
    assert (share, known) == (near / (near + far), near + far)
    unknown = np.flatnonzero([meta in kinds[2:] for meta in metas])
    assert near_share(index_of(metas), unknown, TrustConfig()) == (None, 0)


def test_planted_precision_of_a_draw_is_read_of_rows_that_the_draw_knows_nothing_of(monkeypatch):
    """A row is the likelier near the higher its logit: the best of a gumbel selection would flatter
    it."""
    monkeypatch.setattr(module, "TRUTH_ROWS", 2000)
    rng, rows = np.random.default_rng(1), np.arange(24_000)
    logit = rng.normal(0, 2, len(rows)).astype(np.float32)
    near = rng.random(len(rows)) < 1 / (1 + np.exp(-logit))
    selected = np.argsort(-gumbel_scores(logit, rows, temperature=1.0, seed=0))[:6000]
    index = index_of([{"content": "embodied" if yes else "reading"} for yes in near])
    share, known = near_share(index, selected, TrustConfig(seed=0))
    whole = near[selected].mean()
    assert known == 2000 and abs(share - whole) < 4 * (whole * (1 - whole) / 2000) ** 0.5


@pytest.fixture
def made(tmp_path):
    """Two random selections; policies of the first were evaluated on CALVIN twice and on LIBERO
    once."""
    made = make_workspace(tmp_path / "ws", [pool("web", 300), robot("arm", 60, mean=3.0)], dim=8)
    names = ["caption"] * made.index.rows
    put_artifact(
        made, "category", {"category.lance": pa.table({"category": names, "evidence": names})}
    )
    first = run_stage(made, "select", SelectConfig(strategy="random", k=50))
    second = run_stage(made, "select", SelectConfig(strategy="random", k=60))
    found = (
        {"benchmark": "calvin_abcd", "success": 0.2, "average_length": 2.5},
        {"benchmark": "calvin_abcd", "success": 0.4, "average_length": 3.0},
        {"benchmark": "libero", "success": 0.5},
    )
    keys = {"select.a": first.key, "select.b": second.key}
    for place, metrics in enumerate(found):
        key = f"{place:016x}"
        (made.workspace.building("evaluate", key) / "data").mkdir(parents=True)
        manifest = first.manifest | {"stage": "evaluate", "key": key, "metrics": metrics}
        made.workspace.commit("evaluate", key, manifest | {"parents": {"select": first.key}})
        keys[f"evaluate.{place}"] = key
    write_json(made.workspace.path / "state" / "r.json", keys)
    return made


def test_chains_are_told_by_average_length_and_other_benchmarks_by_success(made):
    done = finished(made.workspace, "r")
    first, second = ablation(made.workspace, done)
    assert first.average_length == {"calvin_abcd": 2.75} and first.success == {"libero": 0.5}
    assert second.average_length == second.success == {}
    lines = markdown([first, second]).splitlines()
    assert lines[0].endswith("| libero, success | calvin_abcd, average length |")
    assert lines[2].endswith("| 50.0% | 2.75 |") and lines[3].endswith("| – | – |")


def test_memory_is_what_the_costliest_step_added_and_unknown_for_earlier_runs(made):
    done = finished(made.workspace, "r")
    assert [row.memory_added_mb for row in ablation(made.workspace, done)] == [None, None]
    path = done["select.a"].path / "manifest.json"
    write_json(
        path, json.loads(path.read_text()) | {"memory_added_mb": 1234, "peak_memory_mb": 5678}
    )
    first, second = table(ablation(made.workspace, finished(made.workspace, "r")))
    assert (first["memory added, MB"], first["peak memory, MB"]) == (1234, 5678)
    assert second["memory added, MB"] is None
    assert "| 1,234 | 5,678 |" in markdown(ablation(made.workspace, finished(made.workspace, "r")))


def test_the_printed_table_has_the_columns_of_the_page(made):
    rows = ablation(made.workspace, finished(made.workspace, "r"))
    lines = markdown(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == list(table(rows)[0]) and len({len(row) for row in cells}) == 1
    assert cells[1] == ["---"] * 3 + ["---:"] * (len(cells[0]) - 3)
    assert [row[:4] for row in cells[2:]] == [
        ["random", "random", "a", "50"],
        ["random", "random", "b", "60"],
    ]


def test_a_strategy_is_told_as_it_was_configured():
    config = {
        "strategy": "gumbel",
        "temperature": 0.5,
        "random_share": 0.2,
        "quotas": {"source": {"a": 1.0}},
    }
    assert strategy_words(config) == "gumbel, T = 0.5, 20% random, quotas by source"


def test_the_word_chance_stands_above_the_bars():
    figure = planted_bars(["a", "b"], [0.5, None], ["linear", "random"], chance=0.5)
    (label,) = figure.layout.annotations
    assert label.text == "chance" and label.yanchor == "bottom" and label.y == 1
