"""A finished `sources` artifact written by hand, so that embed needs no reader; and a plan that
starts from it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from emt_core.data.index import SCHEMA, to_record
from emt_core.data.sample import ImageRef, Sample, Turn
from emt_core.recipe.embed import EmbedConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.sources import SourcesConfig
from emt_core.run.plan import Instance, Plan
from emt_core.run.stage import stage_module
from emt_core.workspace.artifact import Artifact, Workspace, make_key
from emt_core.workspace.files import write_json
from emt_core.workspace.table import Table

WORDS = "where is the red cup left of green box point at robot open drawer what does sign say count".split()


def write_images(root: Path, names: Sequence[str], seed: int = 0) -> None:
    """Small PNGs of several shapes."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in names:
        height, width = rng.integers(16, 64, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / name)


def make_samples(
    source: str,
    rows: int,
    root: Path,
    *,
    role: str = "pool",
    seed: int = 0,
    files_of_rows: int = 10**9,
) -> list[Sample]:
    """Mixed rows: every 7th without an image, every 5th with three, the rest with one; text of 1 to
    30 words.

    files_of_rows: later rows use the image files of the first so many again.
    """
    rng = np.random.default_rng([seed, len(source)])
    samples, names = [], []
    for row in range(rows):
        count = 1 if role == "robot" else 0 if row % 7 == 3 else 3 if row % 5 == 2 else 1
        files = [f"{source}_{row % files_of_rows}_{i}.png" for i in range(count)]
        names += [name for name in files if name not in names]
        text = "<image>" * count + "\n" + " ".join(rng.choice(WORDS, rng.integers(1, 30)))
        turns = [Turn(role="user", text=text)]
        if role == "pool":
            turns.append(Turn(role="assistant", text="yes"))
        samples.append(
            Sample(
                source=source,
                row=row,
                role=role,
                turns=tuple(turns),
                images=tuple(ImageRef(kind="file", path=name) for name in files),
                episode=row // 4 if role == "robot" else -1,
                frame=row % 4 if role == "robot" else -1,
            )
        )
    write_images(root, names, seed)
    return samples


def write_sources(
    workspace: Workspace, sources: Mapping[str, tuple[Path, Sequence[Sample]]], **settings: object
) -> Artifact:
    """sources: name -> (root, its samples); settings: more fields of every source's configuration.

    Digests are of the records, so equal content has an equal digest.
    """
    configs = [
        {"name": name, "role": samples[0].role, "format": "llava", "path": f"{name}.json"}
        | settings
        for name, (_, samples) in sources.items()
    ]
    config = SourcesConfig.model_validate({"sources": configs})
    key = make_key(
        stage="sources", version=1, config=config.model_dump(mode="json"), identity=None, parents={}
    )
    with workspace.lock("sources", key):
        return workspace.find("sources", key) or _build(workspace, key, config, sources)


def _build(
    workspace: Workspace,
    key: str,
    config: SourcesConfig,
    sources: Mapping[str, tuple[Path, Sequence[Sample]]],
) -> Artifact:
    data = workspace.building("sources", key) / "data"
    data.mkdir(parents=True)
    facts, records = [], []
    for name, (root, samples) in sources.items():
        start = len(records)
        records += [to_record(sample) for sample in samples]
        digest = make_key(
            stage="", version=0, config={"rows": records[start:]}, identity=None, parents={}
        )
        facts.append(
            {
                "name": name,
                "role": samples[0].role,
                "format": "llava",
                "root": str(root),
                "max_pixels": 50_000_000,
                "start": start,
                "stop": len(records),
                "digest": digest,
            }
        )
    Table(data / "index.lance").append(pa.Table.from_pylist(records, schema=SCHEMA))
    write_json(data / "sources.json", facts)
    manifest = {
        "stage": "sources",
        "key": key,
        "config": config.model_dump(mode="json"),
        "parents": {},
        "rows": len(records),
        "finished": time.time(),
        "metrics": {},
    }
    return workspace.commit("sources", key, manifest)


def embed_plan(
    sources: Artifact, base: Path, embed: Mapping[str, object], runtime: Mapping[str, object]
) -> Plan:
    """What plan.make_plan would give, with the hand-written artifact in the place of `sources`."""
    recipe = build_recipe(
        {"name": "test", "base": str(base), "runtime": dict(runtime), "embed": dict(embed)}
    )
    config = EmbedConfig.model_validate(embed)
    parent = Instance(
        "sources", SourcesConfig.model_validate(sources.config), None, {}, sources.key, ["sources"]
    )
    module = stage_module("embed")
    identity = module.identity(config, base)
    settings = config.model_dump(mode="json", exclude=set(module.IDENTITY_REPLACES))
    key = make_key(
        stage="embed",
        version=module.VERSION,
        config=settings,
        identity=identity,
        parents={"sources": sources.key},
    )
    return Plan(
        recipe, (parent, Instance("embed", config, identity, {"sources": parent}, key, ["embed"]))
    )
