"""evaluate: a policy in closed loop, at a list of checkpoints, on one benchmark.

episodes.parquet    one row an episode (evaluation/closed_loop/episodes.py)
results.json        success by checkpoint and task with intervals, the chosen checkpoint and its
                    rule (evaluation/closed_loop/results.py)
videos/             the first episodes of each task, as the policy saw them

The simulator runs in processes of its own, under the interpreter that the recipe names. Every
finished episode is committed: a kill costs the episodes under way (of a worker, its shard), and the
next run plays only what is missing. An episode whose simulator crashes, hangs or raises an error is
tried once more; the second time it ends as a fault of that kind, which counts neither way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.data.fingerprint import content_hash
from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import FAILURES, FAULTS, Benchmark, Episode, episodes_of
from emt_core.models.device import Precision
from emt_core.recipe.evaluate import EvaluateConfig
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.run.engines.base import WORKERS
from emt_core.run.plan import Instance
from emt_core.run.shards import SHARDS, Shard, cut, mark_done
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json, read_json_if_there, write_json

if TYPE_CHECKING:
    from emt_core.evaluation.closed_loop.episodes import EpisodeLog
    from emt_core.evaluation.closed_loop.rollout import Played

VERSION = 2
DEVICE = True
TRACKED = True
IDENTITY_REPLACES = ("policy", "python", "environments")

SIMULATOR = "simulator.json"
"""What the simulator said of itself, for a run that finds all episodes played and starts none."""

SHARD_ROUNDS = 4
"""Of a worker's shard: what its loss costs. With fewer, simulators wait more often for the last
episode of a shard."""

NO_STEP = -1
"""Checkpoint of a policy folder that is not a finetune artifact's."""

_Play = Callable[[int, Sequence[Episode], Callable[[dict[str, Any]], None]], None]
"""Takes a checkpoint, episodes, and what gets each one's row."""


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
    from emt_core.training.tracking import open_tracking

    config = context.config
    assert isinstance(config, EvaluateConfig)
    schedule = _Schedule.of(context)
    benchmark = schedule.benchmark
    log = EpisodeLog(context.out)
    progress = context.progress.track("playing", schedule.rows, done=len(log.rows), unit="episodes")
    with (
        progress as tracker,
        _player(context, schedule) as play,
        open_tracking("evaluate", context) as tracking,
    ):

        def ended(row: dict[str, Any]) -> None:
            log.add(row)
            tracker.advance()

        for step in schedule.checkpoints:
            if left := log.missing(step, schedule.episodes):
                play(step, left, ended)
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
    scratch = (log.path.name, SIMULATOR, SHARDS, WORKERS)
    return Outcome(rows=len(rows), metrics=_metrics(results, rows), scratch=scratch)


def shards(context: Context) -> list[Shard]:
    """Episodes that workers may play: those that are not played yet, in ranges of a checkpoint."""
    from emt_core.evaluation.closed_loop.episodes import EpisodeLog

    log = EpisodeLog(context.out)
    schedule = _Schedule.of(context)
    return [shard for shard in schedule.shards() if log.missing(*schedule.of_shard(shard))]


@contextmanager
def open_worker(context: Context) -> Iterator[Callable[[Shard], None]]:
    """Simulators of its own, a policy loaded once for each checkpoint; a call plays one shard."""
    from emt_core.evaluation.closed_loop.episodes import EpisodeLog

    schedule = _Schedule.of(context)
    log = EpisodeLog(context.out)
    with _player(context, schedule) as play:

        def make(shard: Shard) -> None:
            step, episodes = schedule.of_shard(shard)
            rows: list[dict[str, Any]] = []
            play(step, log.missing(step, episodes), rows.append)
            mark_done(context.out, shard, {"episodes": rows})

        yield make


@dataclass(frozen=True)
class _Schedule:
    """What is played: all episodes at each checkpoint. Row `n` of it is episode
    `n % len(episodes)` at checkpoint `n // len(episodes)`."""

    checkpoints: dict[int, Path]
    """Step -> policy folder, rising."""

    benchmark: Benchmark
    episodes: list[Episode]
    environments: int

    @classmethod
    def of(cls, context: Context) -> _Schedule:
        config = context.config
        assert isinstance(config, EvaluateConfig)
        checkpoints = _checkpoints(config, context)
        benchmark = resolve_for(config, context.base, next(iter(checkpoints.values())))
        episodes = episodes_of(benchmark, config.episodes, config.seed)
        return cls(checkpoints, benchmark, episodes, config.environments)

    @property
    def rows(self) -> int:
        return len(self.checkpoints) * len(self.episodes)

    def shards(self) -> Iterator[Shard]:
        """At most SHARD_ROUNDS episodes for each simulator; fewer where there are few."""
        size = min(SHARD_ROUNDS * self.environments, max(self.environments, self.rows // 8))
        for start in range(0, self.rows, len(self.episodes)):
            yield from cut(start, start + len(self.episodes), size)

    def of_shard(self, shard: Shard) -> tuple[int, list[Episode]]:
        """Checkpoint and episodes."""
        place, start = divmod(shard.start, len(self.episodes))
        return list(self.checkpoints)[place], self.episodes[start : start + shard.rows]


@contextmanager
def _player(context: Context, schedule: _Schedule) -> Iterator[_Play]:
    """Plays episodes at a checkpoint and gives each one's row, its video written, as it ends.

    Simulators start with the first call and are kept; a policy is kept until another one plays.
    """
    from emt_core.evaluation.closed_loop.episodes import episode_row
    from emt_core.evaluation.closed_loop.rollout import Simulators
    from emt_core.models.device import require_here, settled_arithmetic

    config, runtime, benchmark = context.config, context.runtime, schedule.benchmark
    assert isinstance(config, EvaluateConfig)
    settled = settled_arithmetic(
        context.out, "auto", runtime.device, on_gpu_elsewhere=runtime.workers_have_gpus
    )
    loaded: dict[int, Any] = {}

    def play(step: int, episodes: Sequence[Episode], ended: Callable[[dict], None]) -> None:
        if step not in loaded:
            loaded.clear()  # never two in memory
            require_here(settled, runtime.device, context.out)
            loaded[step] = load_policy(schedule.checkpoints[step], runtime.device, settled.dtype)
        policy = loaded[step]
        fps = benchmark.fps / (config.execute or getattr(policy, "chunk", 1))

        def on_end(played: Played) -> None:
            if simulators.facts:
                write_json(context.out / SIMULATOR, simulators.facts, durable=False)
            ended(episode_row(context.out, played, step, benchmark.goals, fps))

        simulators.play(
            episodes,
            policy,
            on_end=on_end,
            execute=config.execute,
            wants_frames=lambda episode: episode.number < config.videos,
        )

    with Simulators(
        benchmark, environments=config.environments, python=config.python
    ) as simulators:
        yield play


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
