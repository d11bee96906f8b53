"""evaluate: a policy in closed loop, at a list of checkpoints, on one benchmark.

episodes.parquet    one row an episode (evaluation/closed_loop/episodes.py)
results.json        success by checkpoint and task with intervals, the chosen checkpoint and its
                    rule (evaluation/closed_loop/results.py)
videos/             the first episodes of each task, as the policy saw them

The simulator runs in processes of its own, under the interpreter that the recipe names. Every
finished episode is committed: a kill costs the episodes under way, and the next run plays only what
is missing. An episode whose simulator crashes, hangs or raises an error is tried once more; the
second time it ends as a fault of that kind, which counts neither way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.data.fingerprint import content_hash
from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import FAILURES, FAULTS, Benchmark, episodes_of
from emt_core.models.device import Precision
from emt_core.recipe.evaluate import EvaluateConfig
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json, read_json_if_there, write_json

if TYPE_CHECKING:
    from emt_core.evaluation.closed_loop.episodes import EpisodeLog

VERSION = 2
DEVICE = True
TRACKED = True
IDENTITY_REPLACES = ("policy", "python", "environments")

SIMULATOR = "simulator.json"
"""What the simulator said of itself, for a run that finds all episodes played and starts none."""

NO_STEP = -1
"""Checkpoint of a policy folder that is not a finetune artifact's."""


def identity(config: EvaluateConfig, base: Path) -> dict[str, Any] | None:
    """A policy folder is known by the hash of its files, never by its path."""
    if not config.policy:
        return None
    folder = _policy_folder(config, base)
    names = sorted(
        path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")
    )
    return {"policy": {name: content_hash(folder / name) for name in names}}


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError for a task, layout or kept step that does not exist, a missing simulator."""
    from emt_core.evaluation.benchmarks.registry import resolve
    from emt_core.evaluation.closed_loop.launching import check_simulator

    config = instance.config
    assert isinstance(config, EvaluateConfig)
    if config.policy:
        benchmark = resolve_for(config, base, _policy_folder(config, base))
    else:
        finetune = instance.parents["finetune"]
        assert isinstance(finetune.config, FinetuneConfig)
        demos = finetune.parents.get("demos")
        recording = demos.config.model_dump(mode="json") if demos else None
        benchmark = resolve(config.benchmark, base=base, demos=recording)
        if isinstance(config.checkpoints, tuple):
            kept = finetune.config.kept_steps
            _check_kept(set(config.checkpoints), kept, finetune.label)
    episodes_of(benchmark, config.episodes, config.seed)
    check_simulator(benchmark, config.python)


def run(context: Context) -> Outcome:
    from emt_core.evaluation.closed_loop.episodes import EpisodeLog
    from emt_core.evaluation.closed_loop.results import summarize
    from emt_core.evaluation.closed_loop.rollout import Simulators
    from emt_core.models.device import settled_arithmetic
    from emt_core.training.tracking import open_tracking

    config = context.config
    assert isinstance(config, EvaluateConfig)
    checkpoints = _checkpoints(config, context)
    benchmark = resolve_for(config, context.base, next(iter(checkpoints.values())))
    episodes = episodes_of(benchmark, config.episodes, config.seed)
    settled = settled_arithmetic(context.out, "auto", context.runtime.device)
    log = EpisodeLog(context.out)
    total = len(episodes) * len(checkpoints)
    with (
        context.progress.track("playing", total, done=len(log.rows), unit="episodes") as tracker,
        Simulators(benchmark, environments=config.environments, python=config.python) as simulators,
        open_tracking("evaluate", context) as tracking,
    ):
        for step, folder in checkpoints.items():
            done = log.done(step)
            left = [episode for episode in episodes if (episode.task, episode.number) not in done]
            if left:
                policy = load_policy(folder, context.runtime.device, settled.dtype)
                shown = config.execute or getattr(policy, "chunk", 1)

                def ended(played: Any, step: int = step, shown: int = shown) -> None:
                    if simulators.facts:
                        write_json(context.out / SIMULATOR, simulators.facts, durable=False)
                    log.add(played, step, benchmark.goals, benchmark.fps / shown)
                    tracker.advance()

                simulators.play(
                    left,
                    policy,
                    on_end=ended,
                    execute=config.execute,
                    wants_frames=lambda episode: episode.number < config.videos,
                )
            tracking.log(max(step, 0), _success(log, step, benchmark.name))
    rows = log.finish().to_pylist()
    if faults := sum(row["failure"] in FAULTS for row in rows):
        context.progress.say(
            f"the simulator failed twice in {faults:,} of {len(rows):,} episodes, which count"
            " neither way; `detail` in episodes.parquet has its last words"
        )
    facts = read_json_if_there(context.out / SIMULATOR) or {}
    results = summarize(rows, benchmark=benchmark.name, rule=config.choose)
    write_json(context.out / "results.json", {**results, "simulator": facts})
    scratch = (log.path.name, SIMULATOR)
    return Outcome(rows=len(rows), metrics=_metrics(results, rows), scratch=scratch)


def resolve_for(config: EvaluateConfig, base: Path, folder: Path) -> Benchmark:
    """The benchmark, set up as the policy's demonstrations were recorded.

    Where the policy's folder does not say how, as the benchmark itself sets it up.
    """
    from emt_core.evaluation.benchmarks.registry import resolve

    spec = folder / "policy.json"
    recording = read_json(spec).get("recording") if spec.is_file() else None
    return resolve(config.benchmark, base=base, demos=recording or None)


def load_policy(folder: Path, device: str, precision: Precision) -> Any:
    """Anything with act(images, instructions); the tests put a fake here."""
    from emt_core.training.policy.policy import Policy

    return Policy.load(folder, device=device, precision=precision)


def _checkpoints(config: EvaluateConfig, context: Context) -> dict[int, Path]:
    """Step -> policy folder, in rising order.

    Raises EmtError where a checkpoint that is asked for is missing.
    """
    if config.policy:
        return {NO_STEP: _policy_folder(config, context.base)}
    kept = checkpoints_of(context.parents["finetune"])
    if config.checkpoints == "all":
        return kept
    if config.checkpoints == "last":
        last = max(kept)
        return {last: kept[last]}
    _check_kept(set(config.checkpoints), kept, context.parents["finetune"].path)
    return {step: kept[step] for step in sorted(set(config.checkpoints))}


def _check_kept(asked: set[int], kept: Collection[int], where: object) -> None:
    if missing := sorted(asked - set(kept)):
        raise EmtError(
            f"there is no checkpoint at step {', '.join(map(str, missing))}",
            where=where,
            remedy=f"kept steps: {', '.join(map(str, kept))}; see finetune's config",
        )


def checkpoints_of(finetune: Artifact) -> dict[int, Path]:
    """Step -> folder of every kept policy of a finetune artifact, rising.

    Raises EmtError where there is none.
    """
    folders = (finetune.data / "policies").glob("step-*")
    steps = {folder.name.removeprefix("step-"): folder for folder in folders}
    kept = {int(step): folder for step, folder in steps.items() if step.isdigit()}
    if not kept:
        raise EmtError(
            "the finetune artifact holds no policy",
            where=finetune.path,
            remedy="run finetune again",
        )
    return dict(sorted(kept.items()))


def _policy_folder(config: EvaluateConfig, base: Path) -> Path:
    from emt_core.training.policy.policy import check_policy_folder

    folder = (base / Path(config.policy).expanduser()).resolve()
    check_policy_folder(folder)
    return folder


def _success(log: EpisodeLog, step: int, benchmark: str) -> dict[str, float | None]:
    """What trackers get of a checkpoint whose episodes are all played."""
    from emt_core.evaluation.closed_loop.results import summarize

    rows = [row for row in log.rows if row["checkpoint"] == step]
    found = summarize(rows, benchmark=benchmark, rule="last")["checkpoints"][0]
    mean = found["mean"]
    tasks = {f"success/{task['task']}": task["rate"] for task in found["tasks"]}
    overall = {"success": mean["rate"], "low": mean["low"], "high": mean["high"]}
    length = {"average_length": found.get("average_length")}
    return {**overall, "episodes": mean["n"], **length, **tasks}


def _metrics(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the manifest says: the reported figure, its interval, and how episodes failed.

    success, low and high are None where no episode of a task was played to its end.
    """
    kinds = [row["failure"] for row in rows]
    chosen = next(c for c in results["checkpoints"] if c["checkpoint"] == results["chosen"])
    metrics = {
        "benchmark": results["benchmark"],
        "success": chosen["mean"]["rate"],
        "low": chosen["mean"]["low"],
        "high": chosen["mean"]["high"],
        "episodes": chosen["mean"]["n"],
        "tasks": len(chosen["tasks"]),
        "checkpoint": results["chosen"],
        "rule": results["rule"],
        "failures": dict(Counter(kind for kind in kinds if kind in FAILURES)),
        "faults": dict(Counter(kind for kind in kinds if kind in FAULTS)),
    }
    if "average_length" in chosen:
        metrics["average_length"] = chosen["average_length"]
    return metrics
