"""The demo's ablation, thinned: every measure and every strategy, from sources to table, with the
shipped VLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from tiny_models import save_clip

from emt_core.data.index import Index
from emt_core.explore.tables.ablation import MEASURES, AblationRow, ablation
from emt_core.recipe.recipe import SHIPPED, build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace

POOL_ROWS, EPISODES = 8, 4
TINY = {"steps": 2, "batch": 2}
STRATEGIES = {
    "select.by_chance": {"strategy": "random", "fraction": 0.25},
    "select.whole": {"strategy": "all"},
}


def thinned(folder: Path) -> dict:
    """recipes/demo_measures.yaml with few rows of each source, and with what it cannot ship: CLIP,
    a file of scores."""
    raw = yaml.safe_load((SHIPPED / "demo_measures.yaml").read_text(encoding="utf-8"))
    raw["base"] = str(SHIPPED.parent / "assets")
    raw["runtime"] = {"workers": 0, "batch": 8}
    raw.pop("gap")
    for source in raw["sources"]:
        pool = source["role"] == "pool"
        source |= {"limit": POOL_ROWS} if pool else {"limit": EPISODES, "frames_per_episode": 2}
    ids = [
        f"{source['name']}:{row}"
        for source in raw["sources"]
        if source["role"] == "pool"
        for row in range(POOL_ROWS)
    ]
    parquet.write_table(
        pa.table({"id": ids, "score": np.arange(len(ids)) % 7.0}), folder / "mine.parquet"
    )
    raw["measure.clip"] = {"kind": "clip", "model": str(save_clip(folder / "clip"))}
    raw["measure.imported"] = {"kind": "imported", "path": str(folder / "mine.parquet")}
    for name in ("clip", "imported"):
        raw |= {f"score.{name}": {}, f"select.{name}": {"fraction": 0.25}}
    for name, body in raw.items():
        if name.startswith("measure.") and "steps" in body:
            body |= TINY
        if name == "measure.mlp":
            body |= {"steps": 10}
        if name.startswith("score."):
            body |= {"sweep_sample": 20}
        if "clusters" in body:
            body["clusters"]["cells"] = 4
    raw["estimator.learned"] = {"steps": 10}
    raw["trust.learned"]["compare"] += ["clip", "imported"]
    raw["trust.learned"] |= {
        "seeds": 2,
        "folds": 2,
        "stop_points": [5],
        "pool_rows": 12,
        "robot_rows": 9,
    }
    return raw | STRATEGIES


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Workspace, dict[str, Artifact]]:
    folder = tmp_path_factory.mktemp("demo")
    workspace = Workspace.open(folder / "ws", create=True)
    return workspace, run_plan(make_plan(build_recipe(thinned(folder))), workspace, quiet=True)


@pytest.fixture(scope="module")
def rows(made) -> list[AblationRow]:
    return ablation(*made)


def test_the_table_has_every_measure_and_every_strategy(made, rows):
    done = made[1]
    assert {row.kind for row in rows} == set(MEASURES)
    assert {row.label for row in rows} == {label for label in done if label.startswith("select.")}
    strategies = {row.strategy.split(",")[0] for row in rows}
    assert strategies == {"top", "gumbel", "random", "all"}
    words = " | ".join(row.strategy for row in rows)
    assert all(
        part in words
        for part in ("4 cells, cap 2x", "no duplicates", "20% random", "quotas by source")
    )
    pool = sum(source.rows for source in Index(done["sources"]).of_role("pool"))
    for row in rows:
        assert 0 < row.selected <= pool and row.planted is not None and row.seconds > 0, row


def test_no_score_lacks_rows_without_a_reason(made):
    for label, artifact in made[1].items():
        if label.startswith("score.") and "measure" in artifact.manifest["parents"]:
            missing = sum(artifact.metrics[role]["missing"] for role in ("pool", "robot"))
            assert missing == sum(artifact.metrics["missing_by_reason"].values()), label
            assert artifact.metrics["pool"]["scored"] > POOL_ROWS, label


def test_the_trust_report_compares_them_all(made):
    planted = made[1]["trust.learned"].metrics["planted"]
    kinds = {
        "learned",
        "mlp",
        "knn",
        "distance",
        "perplexity",
        "delta_perplexity",
        "random",
        "clip",
        "imported",
    }
    assert kinds <= set(planted) and all(0 <= found["auroc"] <= 1 for found in planted.values())
