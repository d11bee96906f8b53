"""finetune: turn the VLM into a VLA and train it on demonstrations (method section 9).

policies/step-N/    a policy for each kept step, the last one included (training/policy/policy.py)
steps.jsonl         the curves (training/steps_log.py)
rejects.jsonl       {"set", "episode", "reason", "detail"} a line: episodes not trained on

While it runs there is also checkpoints/: a killed run goes on from there. Frames are read from a
bounded cache, `runtime.frame_cache` (data/robot/frame_cache.py). Under torchrun the ranks train
one policy together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.data.readers import fingerprint, locate, robot_set
from emt_core.errors import all_of
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.midtrain import interpolated_folder
from emt_core.recipe.sources import RobotData, RobotSource
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, DiskNeed, Outcome, frame_folder
from emt_core.workspace.artifact import digest_of
from emt_core.workspace.files import read_json, write_text
from emt_core.workspace.process import rank

if TYPE_CHECKING:
    from emt_core.data.readers.robot_set import RobotSet
    from emt_core.data.robot.frame_cache import CacheNeed
    from emt_core.data.robot.training_frames import OpenedSet

VERSION = 3
DEVICE = True
FRAMES_VERSION = 2
"""Of the frame cache's content: raised when frames are decoded or scaled otherwise."""

IDENTITY_REPLACES = ("model", "revision")
DISTRIBUTED = True
TRACKED = True


def identity(config: FinetuneConfig, base: Path) -> dict[str, Any]:
    """Fingerprints of the robot sets, and what the VLM is that training starts from.

    Raises EmtError where a set is missing or no VLM is named.
    """
    parts: dict[str, Callable[[], Any]] = {
        data.name: partial(_set_identity, data, base) for data in config.data
    }
    if config.start == "backbone":
        parts["model"] = partial(_model_identity, config, base)
    return dict(zip(parts, all_of(parts.values()), strict=True))


def _set_identity(data: RobotData, base: Path) -> dict[str, Any]:
    source = _unlimited(data)
    return fingerprint(source, locate(source, base))


def _model_identity(config: FinetuneConfig, base: Path) -> dict[str, Any]:
    from emt_core.models.identity import model_identity, need_model

    need_model(config.model, "finetune")
    return model_identity(config.model, config.revision, base)


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError for a camera, column or dimension that the robot sets do not have, and for
    weights that mid-training does not keep."""
    from emt_core.data.robot.actions import find_dimensions
    from emt_core.data.robot.training_frames import check_action
    from emt_core.evaluation.recording.tasks import ACTION_NAMES, STATE_NAMES

    config = instance.config
    assert isinstance(config, FinetuneConfig)
    if config.start == "midtrain":
        trained: Any = instance.parents["midtrain"].config
        trained.model_folder(config.interpolate, stage="finetune")
    if config.data:
        check_action([_robot_set(data, base) for data in config.data], config.action)
        return
    reference = STATE_NAMES if config.action.kind == "delta" else ()
    find_dimensions(config.action, ACTION_NAMES, reference, where="the recorded demonstrations")


def disk(instance: Instance, base: Path) -> list[DiskNeed]:
    """Frames, policies of the kept steps, and the two newest states while a third is written."""
    from emt_core.models.weights import weights_of
    from emt_core.training.checkpoints import checkpoint_bytes

    config = instance.config
    assert isinstance(config, FinetuneConfig)
    known = instance.identity
    frames = [_frames_need(d, config.image_size, base, known[d.name]) for d in config.data]
    policies = len(config.kept_steps)
    start: Any = instance.parents["midtrain"].config if config.start == "midtrain" else config
    weights = weights_of(start.model, start.revision, base)
    size = weights.parameters if weights else None
    averaged = config.ema is not None
    states = checkpoint_bytes(config, size, averaged=averaged) if size else None
    count = f"{policies} polic{'y' if policies == 1 else 'ies'}"
    return [
        *frames,
        DiskNeed(what=count, bytes=size and 4 * policies * size, kind="result"),
        DiskNeed(what="checkpoints", bytes=states, kind="scratch"),
    ]


def _frames_need(data: RobotData, size: int, base: Path, files: Any) -> DiskNeed:
    """files: the set's fingerprint."""
    chosen = data.model_dump(mode="json", exclude={"name", "path"})
    facts = {**chosen, "files": files, "size": size}
    key = digest_of(facts, 16)
    frames, total = _frames_of(key, base, data.model_dump_json(), size)
    return DiskNeed(what=f"{frames:,} frames of {data.name}", bytes=total, kind="frames", key=key)


@lru_cache(maxsize=64)
def _frames_of(key: str, base: Path, robot_data: str, size: int) -> tuple[int, int]:
    """(frames, bytes of their cache): estimated once for all arms. The key tells changed files."""
    from emt_core.data.robot.frame_cache import CacheNeed

    robot = _robot_set(RobotData.model_validate_json(robot_data), base)
    need = CacheNeed(key=key, robot=robot, episodes=list(robot.episodes()), size=size)
    return need.frames, need.bytes


def run(context: Context) -> Outcome:
    """Raises EmtError where actions do not fit, no episode is usable or the loss is not finite."""
    from emt_core.data.robot.frame_cache import frame_caches
    from emt_core.data.robot.training_frames import fit_map, join_frames, open_set
    from emt_core.models.device import settled_arithmetic
    from emt_core.models.vlm.load import load_processor, load_vlm
    from emt_core.training.devices import close_accelerator, open_accelerator
    from emt_core.training.policy.finetuning import Finetuner
    from emt_core.training.policy.policy import PolicySpec, build_vla
    from emt_core.training.tracking import open_tracking

    config = context.config
    assert isinstance(config, FinetuneConfig)
    data, base, recording = _data(context, config)
    sets = [open_set(_with_files(context, entry, base), config.action) for entry in data]
    action_map = fit_map(sets, config.action, config.chunk)
    if action_map.still:
        context.progress.say(
            f"action {'dimensions' if action_map.still[1:] else 'dimension'}"
            f" {', '.join(action_map.still)}: one value in all data (scale {config.action.scale},"
            f" gripper_threshold {config.action.gripper_threshold}), so nothing is learned of it"
        )
    caches = frame_caches(
        frame_folder(context.runtime, context.workspace.path),
        [
            _cache_need(entry, base, opened, config.image_size)
            for entry, opened in zip(data, sets, strict=True)
        ],
        bound_gb=context.runtime.frame_cache_gb,
        workers=context.runtime.workers,
        progress=context.progress,
    )
    frames, rejects = join_frames(sets, caches)
    if rank() == 0:
        write_text(
            context.out / "rejects.jsonl", "".join(json.dumps(line) + "\n" for line in rejects)
        )
    for reason, count in Counter(line["reason"] for line in rejects).most_common():
        context.progress.say(f"{count:,} episodes left out: {reason}")
    model, revision = _start(context, config)
    spec = PolicySpec(
        action_map=action_map,
        chunk=config.chunk,
        image_size=config.image_size,
        crop=config.augment.crop,
        system=config.system,
        prompt=config.prompt,
        cutoff=config.cutoff,
        head=config.head,
        step=0,
        recording=recording,
    )
    vlm = load_vlm(model, revision, attention=config.attn_implementation)
    vla = build_vla(vlm, spec, seed=config.seed)
    settled = settled_arithmetic(context.out, config.precision, context.runtime.device)
    accelerator = open_accelerator(
        context.runtime.device, settled.dtype, sharding=context.runtime.sharding
    )
    try:
        trainer = Finetuner(
            config,
            vla,
            load_processor(model, revision),
            spec,
            frames,
            context.out,
            accelerator=accelerator,
            part=context.runtime.batch,
            recompute=context.runtime.gradient_checkpointing,
        )
        with open_tracking("finetune", context) as tracking:
            last = trainer.run(context.progress, tracking.log)
    finally:
        close_accelerator()
    episodes = sum(
        len(opened.episodes) - len(cache.problems)
        for opened, cache in zip(sets, caches, strict=True)
    )
    return Outcome(
        rows=len(frames),
        metrics={
            "frames": len(frames),
            "episodes": episodes,
            "rejected_episodes": dict(Counter(line["reason"] for line in rejects)),
            "instructions": len(frames.texts),
            "epochs": round(config.steps * config.batch / len(frames), 2),
            "parameters": sum(
                parameter.numel() for parameter in vla.parameters() if parameter.requires_grad
            ),
            "action": {
                "arm": len(action_map.arm),
                "gripper": len(action_map.gripper),
                "chunk": config.chunk,
                "still": list(action_map.still),
            },
            "policies": list(config.kept_steps),
            "device": str(trainer.device),
            "loss": last.get("loss"),
            "loss_arm": last.get("loss_arm"),
            "loss_gripper": last.get("loss_gripper"),
        },
        scratch=("checkpoints",),
    )


def _data(
    context: Context, config: FinetuneConfig
) -> tuple[tuple[RobotData, ...], Path, dict[str, Any]]:
    """(the robot sets, the folder that their paths start from, how the simulator was set up).

    The last is empty where the data are no recording of ours.
    """
    if config.data:
        return config.data, context.base, {}
    from emt_core.evaluation.recording.demonstrations import CAMERA

    parent = context.parents["demos"].data
    recorded = RobotData(name="demos", path="lerobot", camera=CAMERA)
    return (recorded,), parent, read_json(parent / "recording.json")


def _with_files(context: Context, data: RobotData, base: Path) -> RobotSet:
    """The set, with the files of the episodes that are trained on."""
    robot = _robot_set(data, base)
    if robot.remote:
        episodes = list(robot.episodes())
        doing = f"fetch {data.name}"
        with context.progress.track(doing, len(episodes), unit="episodes") as tracker:
            for _ in robot.with_files(episodes):
                tracker.advance(1)
    return robot


def _start(context: Context, config: FinetuneConfig) -> tuple[str | Path, str | None]:
    """(folder or hub name, revision) of the VLM that training starts from."""
    if config.start == "midtrain":
        return context.parents["midtrain"].data / interpolated_folder(config.interpolate), None
    from emt_core.models.identity import locate_model

    return locate_model(config.model, context.base), context.identity["model"].get("revision")


def _robot_set(data: RobotData, base: Path) -> RobotSet:
    source = data.source()
    return robot_set(source, locate(source, base))


def _unlimited(data: RobotData) -> RobotSource:
    """The set as a source whose fingerprint does not depend on `limit`."""
    return data.model_copy(update={"limit": None}).source()


def _cache_need(data: RobotData, base: Path, opened: OpenedSet, size: int) -> CacheNeed:
    from emt_core.data.robot.frame_cache import CacheNeed

    source = _unlimited(data)
    episodes = [episode.episode for episode in opened.episodes]
    facts = {
        "files": fingerprint(source, locate(source, base)),
        "camera": source.camera,
        "episodes": [episode.index for episode in episodes],
        "size": size,
        "version": FRAMES_VERSION,
    }
    if opened.robot.edit:
        facts["edit"] = opened.robot.edit
    key = digest_of(facts, 16)
    return CacheNeed(key=key, robot=opened.robot, episodes=episodes, size=size)
