"""Complete sources and embed artifacts made by hand: a later stage is tested without readers,
images or a model.

    made = make_workspace(tmp_path, [pool("web", 500), robot("arm", 160, mean=3.0)])
    gap = run_stage(made, "gap", GapConfig(seed=1))

Columns are built as arrays, not row by row: a million rows of 256 numbers take seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from emt_core.data.features import Features, feature_table
from emt_core.data.index import IMAGE_TYPE, SCHEMA, Index
from emt_core.flow import STAGES
from emt_core.recipe.base import Role, Runtime, StageConfig
from emt_core.run.stage import Context, Outcome, stage_module
from emt_core.workspace.artifact import Artifact, Workspace, make_key
from emt_core.workspace.files import write_json
from emt_core.workspace.progress import Progress
from emt_core.workspace.table import Table

BLOCK_ROWS = 100_000
IMAGE_SIDE = 32
TURN_TYPE = SCHEMA.field("turns").type.value_type
POOL_TEXTS = (
    ("<image>\nWhat is left of the red cup?", "A blue plate."),
    ("<image>\nWho wrote this book?", "Jane Austen"),
    ("<image>\nPoint to the handle of the drawer.", "(0.412, 0.655)"),
    ("<image>\nDescribe the picture.", "A dog runs over a meadow."),
)
ROBOT_TEXTS = (("open the drawer", ""), ("press the button", ""))


@dataclass(frozen=True, kw_only=True)
class SyntheticSource:
    """A source of `rows` Gaussian features.

    mean: a vector, or a number m: the mean lies m away from the origin along (1, ..., 1). spread:
    the deviation.
    texts: (user, assistant) pairs the rows cycle through; robots have no second part.
    no_vector: share of rows with status `missing_image`. text_only: share without an image (status
    `text_only`).
    images: write a PNG for each row and refer to it. rows_per_picture: rows that refer to one.
    """

    name: str
    role: Role
    rows: int
    mean: float | np.ndarray = 0.0
    spread: float = 1.0
    frames_per_episode: int = 8
    texts: Sequence[tuple[str, str]] = ()
    no_vector: float = 0.0
    text_only: float = 0.0
    images: bool = False
    rows_per_picture: int = 1


def pool(name: str, rows: int, **changes: Any) -> SyntheticSource:
    return SyntheticSource(name=name, role="pool", rows=rows, **changes)


def robot(name: str, rows: int, **changes: Any) -> SyntheticSource:
    return SyntheticSource(name=name, role="robot", rows=rows, **changes)


@dataclass
class Made:
    """A workspace and its finished artifacts by stage (one a stage; `run_stage` adds to them)."""

    workspace: Workspace
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    @property
    def index(self) -> Index:
        return Index(self.artifacts["sources"])

    @property
    def features(self) -> Features:
        return Features.at(self.artifacts["embed"].data / "features.lance")


def make_workspace(
    folder: Path,
    sources: Sequence[SyntheticSource | tuple[Any, ...]],
    *,
    dim: int = 16,
    seed: int = 0,
) -> Made:
    """A workspace with one sources and one embed artifact. A source may be (name, role, rows[,
    mean[, spread]])."""
    plain = [_source(entry) for entry in sources]
    made = Made(Workspace.open(folder, create=True))
    made.artifacts["sources"] = _commit(
        made, "sources", {"seed": seed, "names": [s.name for s in plain]}, {}, plain
    )
    parents = {"sources": made.artifacts["sources"]}
    made.artifacts["embed"] = _commit(made, "embed", {"seed": seed, "dim": dim}, parents, plain)
    return made


def run_stage(
    made: Made,
    stage: str,
    config: StageConfig,
    *,
    parents: Mapping[str, Artifact] | None = None,
    runtime: Runtime | None = None,
) -> Artifact:
    """Run a real stage on the workspace and commit its artifact as the runner does (a killed run's
    rest is resumed)."""
    chosen = dict(parents) if parents is not None else _parents_of(made, stage, config)
    key = stage_key(stage, config, chosen)
    context = stage_context(made, stage, config, parents=chosen, runtime=runtime)
    started = time.time()
    outcome = stage_module(stage).run(context)
    dumped = config.model_dump(mode="json")
    artifact = made.workspace.commit(
        stage, key, _manifest(stage, key, dumped, chosen, outcome, started)
    )
    made.artifacts[stage] = artifact
    return artifact


def stage_key(stage: str, config: StageConfig, parents: Mapping[str, Artifact]) -> str:
    return make_key(
        stage=stage,
        version=stage_module(stage).VERSION,
        config=config.model_dump(mode="json"),
        identity=None,
        parents={name: parent.key for name, parent in parents.items()},
    )


def stage_context(
    made: Made,
    stage: str,
    config: StageConfig,
    *,
    parents: Mapping[str, Artifact] | None = None,
    runtime: Runtime | None = None,
) -> Context:
    chosen = dict(parents) if parents is not None else _parents_of(made, stage, config)
    building = made.workspace.building(stage, stage_key(stage, config, chosen))
    (building / "data").mkdir(parents=True, exist_ok=True)
    return Context(
        config=config,
        identity=None,
        base=made.workspace.path,
        parents=chosen,
        out=building / "data",
        runtime=runtime or Runtime(workers=0),
        progress=Progress(label=stage, folder=building, quiet=True),
        workspace=made.workspace,
    )


def put_artifact(
    made: Made,
    stage: str,
    tables: Mapping[str, pa.Table],
    *,
    name: str = "hand",
    metrics: Mapping[str, Any] | None = None,
) -> Artifact:
    """Commit a hand-made artifact of any stage: {`category.lance`: table, `steps.parquet`: table,
    ...}."""
    from pyarrow import parquet

    key = make_key(stage=stage, version=0, config={"hand": name}, identity=None, parents={})
    data = made.workspace.building(stage, key) / "data"
    data.mkdir(parents=True, exist_ok=True)
    for file, table in tables.items():
        if file.endswith(".lance"):
            Table(data / file).append(table)
        else:
            parquet.write_table(table, data / file)
    outcome = Outcome(
        rows=max((t.num_rows for t in tables.values()), default=0), metrics=metrics or {}
    )
    parents = {s: a for s, a in made.artifacts.items() if s in ("sources", "embed")}
    artifact = made.workspace.commit(
        stage, key, _manifest(stage, key, {"hand": name}, parents, outcome, time.time())
    )
    made.artifacts[stage] = artifact
    return artifact


def _source(entry: SyntheticSource | tuple[Any, ...]) -> SyntheticSource:
    if isinstance(entry, SyntheticSource):
        return entry
    return SyntheticSource(
        **dict(zip(("name", "role", "rows", "mean", "spread"), entry, strict=False))
    )


def _parents_of(made: Made, stage: str, config: StageConfig) -> dict[str, Artifact]:
    flow = STAGES[stage]
    one_of = [name for name in flow.one_of if name in made.artifacts][:1]
    there = [name for name in flow.if_there if name in made.artifacts]
    return {n: made.artifacts[n] for n in (*flow.needs, *there, *config.uses(), *one_of)}


def _commit(
    made: Made,
    stage: str,
    config: dict[str, Any],
    parents: Mapping[str, Artifact],
    plain: Sequence[SyntheticSource],
) -> Artifact:
    facts = [{k: str(v) for k, v in vars(source).items()} for source in plain]
    keys = {name: parent.key for name, parent in parents.items()}
    key = make_key(stage=stage, version=0, config=config, identity=facts, parents=keys)
    found = made.workspace.find(stage, key)
    if found is not None:
        return found
    data = made.workspace.building(stage, key) / "data"
    data.mkdir(parents=True)
    started = time.time()
    if stage == "sources":
        _write_index(data, plain, made.workspace.path / "images", config["seed"])
    else:
        _write_features(data, plain, config["dim"], config["seed"])
    rows = sum(source.rows for source in plain)
    manifest = _manifest(stage, key, config, parents, Outcome(rows=rows), started)
    return made.workspace.commit(stage, key, manifest)


def _manifest(
    stage: str,
    key: str,
    config: dict[str, Any],
    parents: Mapping[str, Artifact],
    outcome: Outcome,
    started: float,
) -> dict[str, Any]:
    return {
        "stage": stage,
        "key": key,
        "version": 0,
        "recipe": "synthetic",
        "labels": [stage],
        "config": config,
        "identity": None,
        "base": ".",
        "parents": {name: parent.key for name, parent in parents.items()},
        "versions": {},
        "seed": config.get("seed"),
        "started": started,
        "finished": time.time(),
        "seconds": round(time.time() - started, 3),
        "peak_memory_mb": 0,
        "rows": outcome.rows,
        "metrics": dict(outcome.metrics),
    }


def _blocks(rows: int) -> Iterator[np.ndarray]:
    for start in range(0, rows, BLOCK_ROWS):
        yield np.arange(start, min(start + BLOCK_ROWS, rows))


def _status(source: SyntheticSource, seed: int, place: int) -> np.ndarray:
    """Object array [rows]: "", `missing_image` or `text_only`; index and features draw alike."""
    status = np.full(source.rows, "", object)
    if source.no_vector or source.text_only:
        draw = np.random.default_rng([seed, place, 1]).random(source.rows)
        status[draw < source.no_vector] = "missing_image"
        status[draw >= 1 - source.text_only] = "text_only"
    return status


def _write_index(
    data: Path, plain: Sequence[SyntheticSource], image_folder: Path, seed: int
) -> None:
    facts, at = [], 0
    table = Table(data / "index.lance")
    for place, source in enumerate(plain):
        status = _status(source, seed, place)
        root = image_folder / source.name
        if source.images:
            _write_images(root, source, place)
        for rows in _blocks(source.rows):
            table.append(_index_block(source, rows, status[rows] == "text_only"))
        facts.append(
            {
                "name": source.name,
                "role": source.role,
                "format": "lerobot" if source.role == "robot" else "llava",
                "root": str(root),
                "max_pixels": 50_000_000,
                "start": at,
                "stop": at + source.rows,
                "seen": source.rows,
                "kept": source.rows,
                "rejects": {},
                "text_only": int((status == "text_only").sum()),
                "multi_image": 0,
                "bytes": 0,
                "digest": f"synthetic-{seed}-{place}",
            }
        )
        at += source.rows
    write_json(data / "sources.json", facts)
    (data / "rejects.jsonl").touch()


def _index_block(source: SyntheticSource, rows: np.ndarray, text_only: np.ndarray) -> pa.Table:
    n, is_robot = len(rows), source.role == "robot"
    texts = list(source.texts or (ROBOT_TEXTS if is_robot else POOL_TEXTS))
    episode = rows // source.frames_per_episode
    pick = (episode if is_robot else rows) % len(texts)
    speech = np.array([pair[:1] if is_robot else pair for pair in texts], object)[
        pick
    ]  # [n, turns]
    speech = np.where(
        text_only[:, None], np.char.replace(speech.astype(str), "<image>\n", ""), speech
    )
    turns = speech.shape[1]
    structs = pa.StructArray.from_arrays(
        [
            pa.array(["user", "assistant"][:turns] * n),
            pa.array(speech.reshape(-1).tolist(), pa.string()),
        ],
        fields=list(TURN_TYPE),
    )
    n_images = (~text_only).astype(np.int32)
    shown = rows[~text_only] // source.rows_per_picture
    zeros = np.zeros(len(shown))
    nothing = pa.array([""] * len(shown), pa.string())
    images = pa.StructArray.from_arrays(
        [
            pa.array(["file"] * len(shown), pa.string()),
            pa.array([f"{row:06d}.png" for row in shown.tolist()], pa.string()),
            nothing,
            *(pa.array(zeros.astype(kind)) for kind in (np.int64, np.float64, np.int32)),
            nothing,
        ],
        fields=list(IMAGE_TYPE),
    )
    chars = np.vectorize(len, otypes=[np.int32])(speech).sum(axis=1)
    columns = {
        "id": pa.array([f"{source.name}:{row}" for row in rows.tolist()]),
        "source": pa.array([source.name] * n),
        "role": pa.array([source.role] * n),
        "row": pa.array(rows),
        "own_id": pa.array([f"{row // 2}" for row in rows.tolist()]),  # repeats, as LLaVA's do
        "turns": pa.ListArray.from_arrays(
            pa.array(np.arange(0, n * turns + 1, turns), pa.int32()), structs
        ),
        "images": pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], n_images.cumsum()]), pa.int32()), images
        ),
        "n_images": pa.array(n_images),
        "text_chars": pa.array(chars, pa.int32()),
        "episode": pa.array(episode if is_robot else np.full(n, -1)),
        "frame": pa.array(rows % source.frames_per_episode if is_robot else np.full(n, -1)),
        "meta": pa.array(
            [json.dumps({"n": row}) for row in rows.tolist()] if n <= 10_000 else [""] * n
        ),
    }
    return pa.table(columns).select(SCHEMA.names).cast(SCHEMA)


def _write_images(root: Path, source: SyntheticSource, place: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(place)
    tint = rng.integers(60, 200, 3)
    for row in range(source.rows):
        pixels = np.broadcast_to(tint, (IMAGE_SIDE, IMAGE_SIDE, 3)).astype(np.uint8).copy()
        x, y = rng.integers(0, IMAGE_SIDE - 8, 2)
        pixels[y : y + 8, x : x + 8] = 255
        Image.fromarray(pixels).save(root / f"{row:06d}.png")


def _write_features(data: Path, plain: Sequence[SyntheticSource], dim: int, seed: int) -> None:
    table = Table(data / "features.lance")
    for place, source in enumerate(plain):
        rng = np.random.default_rng([seed, place, 0])
        status = _status(source, seed, place)
        mean = np.asarray(source.mean, np.float32)
        if mean.ndim == 0:
            mean = np.full(dim, mean / np.sqrt(dim), np.float32)
        for rows in _blocks(source.rows):
            vectors = rng.standard_normal((len(rows), dim), np.float32)
            vectors *= source.spread
            vectors += mean
            vectors[status[rows] != ""] = 0
            table.append(feature_table(vectors.astype(np.float16), status[rows].tolist()))
