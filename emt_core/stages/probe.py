"""probe: did mid-training help or break the VLM? What frozen features tell of robot data.

episodes.parquet   probe head seed seen set episode task frames error base: what each held-out
                   episode got wrong, by one training of a probe (evaluation/probe_scores.py)
results.json       {"probes": [{"probe", "head", "seen", "score", "low", "high", "episodes",
                   "frames", "by_seed"}], "tasks": {task: episodes}, "most_frequent": share of the
                   most frequent task, "drift": [{"images", "group", "cka", "overlap", "low",
                   "high", "samples"}]}; no drift of the origin
rejects.jsonl      {"set", "episode", "reason", "detail"} a line: episodes not asked about

`action`, `hand` and `objects` are read from the place that the policy's head reads, `task` from the
picture's tokens (training/probe/features.py); drift is that of training/probe/drift.py. While it
runs there are features/, fits/ and drift/, which a killed run goes on from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.readers import fingerprint, locate, robot_set
from emt_core.errors import EmtError, all_of
from emt_core.recipe.probe import ProbeConfig
from emt_core.recipe.sources import RobotData
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import digest_of
from emt_core.workspace.files import read_json, write_text

if TYPE_CHECKING:
    from emt_core.data.readers.robot_set import RobotSet
    from emt_core.training.probe.drift import Shown
    from emt_core.training.probe.frames import Asked

VERSION = 1
DEVICE = True
IDENTITY_REPLACES = ("model", "revision")

ORIGIN = "origin"
TRAINED = "midtrained"
FEATURES = "features"
FITS = "fits"
DRIFT = "drift"
SIDE = (
    *("start", "interpolate", "midtrain_step", "model", "revision", "precision"),
    *("drift_samples", "neighbors"),
)
"""Settings that say which weights are asked; all others say what."""


def identity(config: ProbeConfig, base: Path) -> dict[str, Any]:
    """What the origin is, and the robot sets' fingerprints."""
    from emt_core.models.identity import model_identity, need_model

    need_model(config.model, "probe")
    data = (*config.data, *config.unseen)
    calls = [partial(model_identity, config.model, config.revision, base)]
    calls += [partial(_set_identity, one, base) for one in data]
    model, *sets = all_of(calls)
    return {"model": model, "sets": dict(zip((one.name for one in data), sets, strict=True))}


def _set_identity(data: RobotData, base: Path) -> dict[str, Any]:
    source = data.model_copy(update={"limit": None}).source()
    return fingerprint(source, locate(source, base))


def _robot_set(data: RobotData, base: Path) -> RobotSet:
    source = data.source()
    return robot_set(source, locate(source, base))


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError for a camera or column that a set does not have, and for weights that
    mid-training does not keep."""
    config = instance.config
    assert isinstance(config, ProbeConfig)
    if config.start == "midtrain":
        trained: Any = instance.parents["midtrain"].config
        trained.check_kept(config, stage="probe")
    sets = [_robot_set(data, base) for data in (*config.data, *config.unseen)]
    if config.data:
        _columns(config, sets)


def _columns(config: ProbeConfig, sets: list[RobotSet]) -> dict[str, tuple[str, ...]]:
    """Target -> columns of every set. Raises EmtError where a set lacks one or differs."""
    from emt_core.training.probe.frames import ACTION, HAND, OBJECTS

    there = [name for name in config.objects if name in sets[0].columns]
    columns = {ACTION: config.columns, HAND: config.hand, OBJECTS: tuple(there)}
    columns = {target: named for target, named in columns.items() if named}
    for robot in sets:
        robot.check_cameras()
        for target, named in columns.items():
            own, first = (_widths(one, named) for one in (robot, sets[0]))
            if own != first:
                raise EmtError(
                    f"{robot.source.name!r} has {own} numbers in {', '.join(named)},"
                    f" {sets[0].source.name!r} has {first}",
                    where=robot.data,
                    remedy=f"probe sets of one robot, or other columns for {target}",
                )
    return columns


def _widths(robot: RobotSet, columns: tuple[str, ...]) -> list[int]:
    return [len(robot.dimensions(column)) for column in columns]


def run(context: Context) -> Outcome:
    """Raises EmtError where fewer than two episodes can be asked about."""
    from emt_core.training.probe.frames import read_asked
    from emt_core.training.probe.tables import probe_all, write_results

    config = context.config
    assert isinstance(config, ProbeConfig)
    _check_origin(context, config)
    seen, unseen, task_of = _sets(context, config)
    asked = read_asked(
        seen,
        unseen,
        _columns(config, [*seen, *unseen]),
        episodes=config.episodes,
        frames=config.frames_per_episode,
        chunk=config.chunk,
        seed=config.seed,
        task_of=task_of,
    )
    features, unreadable = _features(context, config, asked)
    rejects = [*asked.rejects, *unreadable]
    write_text(context.out / "rejects.jsonl", "".join(json.dumps(r) + "\n" for r in rejects))
    for reason, count in Counter(line["reason"] for line in rejects).most_common():
        context.progress.say(f"{count:,} episodes left out: {reason}")
    table = probe_all(asked, features, config, context.out / FITS, context.progress)
    results = write_results(context.out, table, _drift(context, config, asked))
    return Outcome(
        rows=int(np.isfinite(features[:, 0, 0]).sum()),
        metrics={
            "asked": _asked_digest(context, config),
            "episodes": len(asked.episodes),
            "rejected_episodes": len(rejects),
            "probes": results["probes"],
            "drift": results["drift"],
        },
        scratch=(FEATURES, FITS, DRIFT),
    )


def _check_origin(context: Context, config: ProbeConfig) -> None:
    if config.start != "midtrain":
        return
    if context.identity["model"] != context.parents["midtrain"].manifest["identity"]:
        raise EmtError(
            "the origin is not the model that was mid-trained",
            where="probe.model",
            remedy="leave `model` out: it is the recipe's backbone then",
        )


def _sets(
    context: Context, config: ProbeConfig
) -> tuple[list[RobotSet], list[RobotSet], dict[str, str]]:
    """(seen, unseen, instruction -> task where several words mean one)."""
    from emt_core.evaluation.recording.demonstrations import CAMERA
    from emt_core.evaluation.recording.tasks import ROBOT_SETS

    known = {task.env: task.instructions for robot in ROBOT_SETS for task in robot.tasks}
    unseen = [_robot_set(data, context.base) for data in config.unseen]
    if config.data:
        seen = [_robot_set(data, context.base) for data in config.data]
    else:
        parent = context.parents["demos"].data
        recorded = RobotData(name="demos", path="lerobot", camera=CAMERA)
        seen = [_robot_set(recorded, parent)]
        known |= read_json(parent / "recording.json")["instructions"]
    return seen, unseen, {text: task for task, texts in known.items() for text in texts}


def _features(
    context: Context, config: ProbeConfig, asked: Asked
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """(float32 [N, 2, H], NaN where a frame cannot be read; the rejects of such episodes).

    An episode's features are a file: what a kill costs.
    """
    folder = context.out / FEATURES
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:06d}.npz" for number in range(len(asked.episodes))]
    waiting = [number for number, file in enumerate(files) if not file.exists()]
    if waiting:
        _make_features(context, config, asked, waiting)
    parts = []
    rejects = []
    for file, episode in zip(files, asked.episodes, strict=True):
        with np.load(file, allow_pickle=False) as kept:
            parts.append(kept["features"])
            reason, detail = kept["problem"].tolist()
        if reason:
            name = episode.set.source.name
            rejects.append(
                {"set": name, "episode": episode.index, "reason": reason, "detail": detail}
            )
    return np.concatenate(parts), rejects


def _make_features(context: Context, config: ProbeConfig, asked: Asked, waiting: list[int]) -> None:
    import torch

    from emt_core.models.device import require_here, settled_arithmetic
    from emt_core.run.device import choose_device
    from emt_core.training.probe.features import FrozenVlm, decoded

    settled = settled_arithmetic(context.out, config.precision, context.runtime.device)
    require_here(settled, context.runtime.device, context.out)
    model, revision = _start(context, config)
    vlm = FrozenVlm(
        model,
        revision,
        config,
        device=choose_device(context.runtime.device),
        dtype=getattr(torch, settled.dtype),
        batch=context.runtime.batch,
        say=context.progress.say,
    )
    frames = [len(episode.images) for episode in asked.episodes]
    done = sum(frames) - sum(frames[number] for number in waiting)
    with context.progress.track("looking", sum(frames), done=done, unit="frames") as tracker:
        for number in waiting:
            episode = asked.episodes[number]
            pixels, readable, problem = decoded(episode, config.image_size)
            found = vlm.features(pixels, episode.instructions)
            found[~readable] = np.nan
            file = context.out / FEATURES / f"{number:06d}.npz"
            aside = file.with_suffix(".partial.npz")
            np.savez(aside, features=found, problem=np.array(problem or ("", "")))
            aside.rename(file)
            tracker.advance(len(found))


def _drift(context: Context, config: ProbeConfig, asked: Asked) -> list[dict[str, Any]]:
    """What both models make of the same samples; a file for each model and kind of picture is
    what a kill costs."""
    from emt_core.training.probe.drift import drift_rows

    if config.start == "backbone" or not config.drift_samples:
        return []
    folder = context.out / DRIFT
    folder.mkdir(exist_ok=True)
    shown = _shown(context, config, asked)
    files = {
        (side, name): folder / f"{side}-{name}.npz" for side in (ORIGIN, TRAINED) for name in shown
    }
    total = sum(len(shown[name]) for _, name in files)
    done = sum(len(shown[name]) for (_, name), file in files.items() if file.exists())
    with context.progress.track("drift", total, done=done, unit="samples") as tracker:
        for side in (ORIGIN, TRAINED):
            missing = {n: f for (s, n), f in files.items() if s == side and not f.exists()}
            if missing:
                _represent(context, config, side, missing, shown, tracker.advance)
    rows = []
    for name in shown:
        before, after = (
            dict(np.load(files[side, name], allow_pickle=False)) for side in (ORIGIN, TRAINED)
        )
        rows += drift_rows(name, before, after, config.neighbors)
    return rows


def _represent(
    context: Context,
    config: ProbeConfig,
    side: str,
    missing: dict[str, Path],
    shown: dict[str, list[Shown]],
    advance: Callable[[int], object],
) -> None:
    import torch

    from emt_core.models.device import require_here, settled_arithmetic
    from emt_core.run.device import choose_device
    from emt_core.training.probe.drift import Layers, representations

    settled = settled_arithmetic(context.out, config.precision, context.runtime.device)
    require_here(settled, context.runtime.device, context.out)
    model, revision = _origin(context, config) if side == ORIGIN else _start(context, config)
    layers = Layers(
        model,
        revision,
        prompt=config.prompt,
        cutoff=config.cutoff,
        device=choose_device(context.runtime.device),
        dtype=getattr(torch, settled.dtype),
    )
    for name, file in missing.items():
        aside = file.with_suffix(".partial.npz")
        made: dict[str, Any] = representations(layers, shown[name], advance)
        np.savez(aside, **made)
        aside.rename(file)


def _shown(context: Context, config: ProbeConfig, asked: Asked) -> dict[str, list[Shown]]:
    """`robot`: frames that the probes are asked about. `selected`, `general`: pool samples with a
    picture that mid-training's selection has, and that it left out. Without a kind that has none.

    Raises EmtError where the selection or its sources were deleted.
    """
    import pyarrow.parquet as pq

    from emt_core.data.draws import choose
    from emt_core.data.index import Index
    from emt_core.selection.replay import left_out
    from emt_core.training.probe.drift import Shown
    from emt_core.workspace.table import Table

    most = config.drift_samples
    frames = [
        Shown(
            images=(image,),
            root=episode.set.root,
            max_pixels=episode.set.source.max_pixels,
            instruction=text,
        )
        for episode in asked.episodes
        for image, text in zip(episode.images, episode.instructions, strict=True)
    ]
    places = choose(np.arange(len(frames)), most, (config.seed, 0))
    fed_by = context.workspace.parents(context.parents["midtrain"])
    index = Index(fed_by["sources"])
    select = fed_by["select"].data
    selected = pq.read_table(select / "selected.parquet", columns=["row"]).column("row").to_numpy()
    drawn = {
        "selected": choose(np.sort(selected), most, (config.seed, 1)),
        "general": left_out(Table(select / "selection.lance"), most, config.seed),
    }
    found = {"robot": [frames[int(place)] for place in places]}
    for name, rows in drawn.items():
        of_rows = zip(rows.tolist(), index.samples(rows) if len(rows) else (), strict=True)
        found[name] = [
            Shown(
                images=tuple(sample.images),
                root=index.source_of(row).root,
                max_pixels=index.source_of(row).max_pixels,
                sample=sample,
            )
            for row, sample in of_rows
            if sample.images
        ]
    return {name: shown for name, shown in found.items() if shown}


def _start(context: Context, config: ProbeConfig) -> tuple[str, str | None]:
    """(folder or hub name, revision) of the weights that are asked."""
    if config.start == "midtrain":
        folder = config.weights_folder
        return str(context.parents["midtrain"].data / folder), None
    return _origin(context, config)


def _origin(context: Context, config: ProbeConfig) -> tuple[str, str | None]:
    from emt_core.models.identity import locate_model

    revision = context.identity["model"].get("revision") or config.revision
    return str(locate_model(config.model, context.base)), revision


def _asked_digest(context: Context, config: ProbeConfig) -> str:
    """One word for what was asked: probes that have it in common are compared episode by
    episode."""
    demos = context.parents.get("demos")
    facts = {
        "what": config.model_dump(mode="json", exclude=set(SIDE)),
        "origin": context.identity,
        "demos": demos.key if demos else None,
        "version": VERSION,
    }
    return digest_of(facts, 16)
