"""A workspace of a million samples, scaled up from the finished demo: what the page timings
(pages.py) run on.

    emt demo --no-app --workspace workspace-demo
    python speed/million.py --demo workspace-demo --out workspace-million [--rows 1000000]

Every source of the demo is repeated with its own images, conversations and robot episodes (a small
set of files that many rows refer to) and gets a feature near the original's: plus Gaussian noise of
NOISE times the deviation of each dimension, so that no two rows score alike. `sources` and `embed`
are written here, under the keys that the plan gives them; category, gap, estimator, score and both
selections are then run by `emt run`'s own code. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from emt_core.data.features import Features, feature_table
from emt_core.data.index import Index, SourceRange
from emt_core.data.index_writer import totals
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import Instance, make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.lineage import finished
from emt_core.workspace.table import Table

BLOCK_ROWS = 100_000
ROBOT_SHARE = 0.05
NOISE = 0.25
FITTED_ROWS = 5_000
"""Rows that the map is fitted on: placing a million beside 20,000 takes minutes and changes no
page's cost."""


def scaled_counts(index: Index, rows: int) -> list[int]:
    """Rows a source: the pool's and the robots' parts in the demo's proportions, `rows` in all."""
    parts = {"robot": round(rows * ROBOT_SHARE), "pool": rows - round(rows * ROBOT_SHARE)}
    totals = {role: sum(s.rows for s in index.of_role(role)) for role in parts}
    counts = [parts[s.role] * s.rows // totals[s.role] for s in index.sources]
    counts[0] += rows - sum(counts)
    return counts


def originals(source: SourceRange, row: np.ndarray, count: int) -> np.ndarray:
    """The demo's row of the source that each new row repeats.

    A pool goes round and round; a robot set says each frame many times before the next, so that
    episodes stay whole and their numbers rise with the rows, as readers write them.
    """
    return row * source.rows // count if source.role == "robot" else row % source.rows


def write_sources(out: Path, index: Index, counts: list[int]) -> dict[str, Any]:
    """Writes the index; returns the manifest's metrics."""
    table = Table(out / "index.lance")
    at = 0
    facts = []
    for source, count in zip(index.sources, counts, strict=True):
        held = index.table.take(np.arange(source.start, source.stop))
        for start in range(0, count, BLOCK_ROWS):
            row = np.arange(start, min(start + BLOCK_ROWS, count))
            block = held.take(pa.array(originals(source, row, count)))
            for name, values in (
                ("id", [f"{source.name}:{n}" for n in row.tolist()]),
                ("row", row),
            ):
                place = block.schema.get_field_index(name)
                block = block.set_column(place, block.schema.field(place), pa.array(values))
            table.append(block)
        share = count / source.rows
        scaled = {
            n: round(source.facts[n] * share)
            for n in ("text_only", "multi_image", "bytes")
            if n in source.facts
        }
        facts.append(
            {
                **source.facts,
                **scaled,
                "start": at,
                "stop": at + count,
                "seen": count,
                "kept": count,
            }
        )
        at += count
    write_json(out / "sources.json", facts)
    (out / "rejects.jsonl").touch()
    return totals(facts)


def write_features(
    out: Path, index: Index, features: Features, counts: list[int], seed: int
) -> None:
    table = Table(out / "features.lance")
    for place, (source, count) in enumerate(zip(index.sources, counts, strict=True)):
        rng = np.random.default_rng([seed, place])
        rows = np.arange(source.start, source.stop)
        vectors = features.take(rows).astype(np.float32)
        status = np.array(features.table.take(rows, ["status"]).column(0).to_pylist(), object)
        deviation = NOISE * vectors[status == ""].std(axis=0)
        for start in range(0, count, BLOCK_ROWS):
            pick = originals(source, np.arange(start, min(start + BLOCK_ROWS, count)), count)
            made = (
                vectors[pick]
                + rng.standard_normal((len(pick), vectors.shape[1]), np.float32) * deviation
            )
            made[status[pick] != ""] = 0
            table.append(feature_table(made.astype(np.float16), status[pick].tolist()))


def commit(
    workspace: Workspace,
    instance: Instance,
    model: Artifact,
    rows: int,
    started: float,
    metrics: dict[str, Any],
) -> None:
    """The artifact under the plan's key, with the demo's manifest made true for it."""
    facts: dict[str, Any] = {
        **model.manifest,
        "key": instance.key,
        "recipe": "million",
        "labels": instance.labels,
        "config": instance.config.model_dump(mode="json"),
        "parents": {stage: parent.key for stage, parent in instance.parents.items()},
        "started": started,
        "finished": time.time(),
        "seconds": round(time.time() - started, 3),
        "rows": rows,
        "metrics": {**model.metrics, **metrics, "scaled_from": model.key},
    }
    workspace.commit(instance.stage, instance.key, facts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo", type=Path, required=True, help="a workspace in which the demo is finished"
    )
    parser.add_argument("--out", type=Path, required=True, help="the workspace to make")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    demo = Workspace.open(asked.demo, read_only=True)
    done = finished(demo, "demo")
    index = Index(done["sources"])
    counts = scaled_counts(index, asked.rows)
    asked.out.mkdir(parents=True, exist_ok=True)
    recipe = asked.out / "million.yaml"
    raw = yaml.safe_load((demo.path / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    raw |= {"name": "million", "gap": {"projection_fit": FITTED_ROWS}}
    recipe.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    plan = make_plan(load_recipe(recipe))
    workspace = Workspace.open(asked.out, create=True)
    for stage in ("sources", "embed"):
        instance = plan.get(stage)
        if workspace.find(stage, instance.key) is not None:
            continue
        started = time.time()
        workspace.discard_building(stage, instance.key)
        data = workspace.building(stage, instance.key) / "data"
        data.mkdir(parents=True)
        metrics: dict[str, Any] = {}
        if stage == "sources":
            metrics = write_sources(data, index, counts)
        else:
            features = Features.at(done["embed"].data / "features.lance")
            write_features(data, index, features, counts, asked.seed)
        commit(workspace, instance, done[stage], asked.rows, started, metrics)
        print(f"{stage}: {asked.rows:,} rows in {time.time() - started:.1f} s", flush=True)
    run_plan(plan, workspace)
    held = sum(f.stat().st_size for f in workspace.path.rglob("*") if f.is_file())
    sources = read_json(
        workspace.folder("sources", plan.get("sources").key) / "data" / "sources.json"
    )
    print(f"{asked.rows:,} rows in {len(sources)} sources, {held / 1e9:.2f} GB -> {workspace.path}")


if __name__ == "__main__":
    main()
