"""kill -9 at random moments over all stages; what is there in the end equals an uninterrupted run.

    python speed/kills.py [--kills 100] [--children 12] [--seed 0] [--folder F]

The world (tests/worlds/whole_flow.py) has every stage, with a tiny VLM and Meta-World. One run is
left alone; its log says when which file of the workspace is changed. Then kills are drawn from the
seed and spread over rounds, each a fresh workspace:

    time     uniform over the uninterrupted run's wall time
    write    just before a change of a file: an artifact at random, one of its changes at random
    commit   the same, of the changes that a commit makes (manifest, scratch, the renaming)
    resume   a third of all kills are followed by another, in the first changes of the resumed run
    child    one worker or simulator alone is killed, all other artifacts being there; the run has
             to end right or with one message

A kill is SIGKILL for the run's whole process group. Then the same command runs again, until it
ends, and the workspace is compared with the uninterrupted one: artifact by artifact, row by row, to
the last bit (tests/worlds/same_work.py). One thread, because sums depend on how they are shared
out. Checkpoints are written after every step, so that kills find some in a run of a minute.

A run is a fork of this process, which has imported the libraries and used none of them: a hundred
starts would take longer than the runs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "worlds")]

from killed_run import (  # noqa: E402
    Change,
    Kill,
    changes_of,
    copy_without,
    in_child,
    preload,
    start,
)

ROUND = 20
AGAIN = 1 / 3
"""Share of the kills that are followed by one in the resumed run."""

WITH_WORKERS = ("demos/", "embed/", "evaluate/", "sources/", "midtrain/", "finetune/", "trust/")
"""Stages that may start processes of their own."""

OUTSIDE = "between stages"


@dataclass
class Landed:
    """What was found after one kill."""

    kind: str
    where: str
    """The instance under construction, or OUTSIDE."""

    left: str
    """`start`, `part` (the stage had kept something) or `commit` (the manifest was written)."""


@dataclass
class Tally:
    landed: list[Landed] = field(default_factory=list)
    missed: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    differences: list[dict[str, Any]] = field(default_factory=list)
    rounds: int = 0

    @property
    def drawn(self) -> int:
        """Kills of the whole group at a drawn moment: those of a resumed run come on top."""
        return sum(one.kind != "resume" for one in self.landed)

    def add(self, other: Tally) -> None:
        self.landed += other.landed
        self.missed += other.missed
        self.ends += other.ends
        self.differences += other.differences
        self.rounds += 1


def draw_kills(rng: random.Random, changes: list[Change], wall: float, count: int) -> list[Kill]:
    """Half by time; of the others, half anywhere in an artifact and half in its commit."""
    kills = []
    by_artifact: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if change.artifact:
            by_artifact[change.artifact].append(change)
    names = list(by_artifact)
    for number in range(count):
        if number % 2 == 0:
            kills.append(time_kill(changes, rng.uniform(0, wall)))
            continue
        own = by_artifact[rng.choice(names)]
        begun = next(n for n, c in enumerate(own) if c.commits)
        among = own[:begun] if number % 4 == 1 else own[begun:]
        kills.append(write_kill("write" if number % 4 == 1 else "commit", rng.choice(among)))
    return kills


def worker_kill(rng: random.Random, changes: list[Change], artifact: str) -> Kill:
    """One of an artifact's workers, at a moment within the time that it took."""
    own = [change.at for change in changes if change.artifact == artifact]
    delay = rng.uniform(0, own[-1] - own[0])
    return Kill("child", at=own[0], artifact=artifact, delay=delay, number=rng.randrange(1000))


def time_kill(changes: list[Change], at: float) -> Kill:
    """At `at` seconds of the uninterrupted run: so long after its artifact was begun."""
    artifact = ""
    since = 0.0
    for change in changes:
        if change.at > at:
            break
        if change.artifact not in ("", artifact):
            artifact = change.artifact
            since = change.at
    return Kill("time", at=at, artifact=artifact, delay=at - since)


def write_kill(kind: str, change: Change) -> Kill:
    return Kill(kind, at=change.at, artifact=change.artifact, change=change)


def one_round(
    recipe: Path, folder: Path, kills: list[Kill], order: list[str], rng: random.Random
) -> Tally:
    """A fresh workspace, killed at each moment in turn, then run to its end."""
    tally = Tally(rounds=1)
    queue = sorted(kills, key=lambda kill: kill.at)
    while queue:
        kill = queue.pop(0)
        run = start(recipe, folder, kill, order)
        ended = run.wait()
        if ended is None:
            tally.landed.append(look(folder, kill))
            if kill.kind != "resume" and rng.random() < AGAIN:
                queue.insert(0, Kill("resume", at=kill.at, number=rng.randint(1, 12)))
        else:
            tally.missed += 1
            break
    last = start(recipe, folder, None, order)
    assert last.wait() == 0, f"the last run failed, see {last.log}"
    return tally


def kill_child(
    recipe: Path, whole: Path, folder: Path, kill: Kill, order: list[str]
) -> tuple[str, Tally]:
    """One worker alone is killed while everything but its artifact is there; then a second run.

    Returns how the first run ended: it went on, or one message and code 2.
    """
    copy_without(whole, folder, kill.artifact)
    log = Path(f"{folder}.log")
    log.unlink(missing_ok=True)
    run = start(recipe, folder, kill, order)
    code = run.wait()
    said = log.read_text(errors="replace")
    if not run.killed_child:
        return "", Tally(missed=1)
    worker = "simulator" if "simulators" in run.killed_child else "worker"
    child = f"{kill.artifact.partition('/')[0]}, a {worker}"
    assert "Traceback" not in said, f"a traceback, see {run.log}"
    end = "the run went on"
    if code != 0:
        assert code == 2 and said.count("error: ") == 1, f"ended with {code}, see {run.log}"
        end = said[said.index("error: ") :].splitlines()[0]
        assert start(recipe, folder, None, order).wait() == 0, f"see {run.log}"
    return f"{child}: {end}", Tally(differences=in_child(compare, whole, folder))


def look(folder: Path, kill: Kill) -> Landed:
    """Where a kill landed: the folder under construction, and what the stage had kept in it."""
    left = list(folder.glob("*/*.building"))
    assert len(left) <= 1, f"several under construction: {left}"
    if not left:
        return Landed(kill.kind, OUTSIDE, "start")
    data = left[0] / "data"
    if (left[0] / "manifest.json").exists():
        kept = "commit"
    else:
        kept = "part" if data.is_dir() and any(data.iterdir()) else "start"
    return Landed(kill.kind, f"{left[0].parent.name}/{left[0].stem}", kept)


def compare(whole: Path, other: Path) -> list[dict[str, Any]]:
    from same_work import differences

    return differences(whole, other)


def report(tally: Tally, order: list[str]) -> None:
    """The table of docs/reliability.md."""
    stages = list(dict.fromkeys(name.partition("/")[0] for name in order))
    print("| stage | kills | found at the restart | lost | doubled | different |")
    print("|---|---|---|---|---|---|")
    for stage in [*stages, OUTSIDE, "left behind"]:
        landed = [one for one in tally.landed if one.where.partition("/")[0] == stage]
        own = [one for one in tally.differences if one["stage"] == stage]
        if not landed and not own and stage not in stages:
            continue
        left = Counter(one.left for one in landed)
        told = ", ".join(f"{name} {count}" for name, count in sorted(left.items()))
        sums = " | ".join(str(sum(o[n] for o in own)) for n in ("lost", "doubled", "different"))
        print(f"| {stage} | {len(landed)} | {told} | {sums} |")
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in Counter(one.kind for one in tally.landed).items()
    )
    print(f"\n{len(tally.landed)} kills ({kinds}) in {tally.rounds} workspaces; ", end="")
    print(f"{tally.missed} drawn moments came after the end")
    for end, count in tally.ends.items():
        print(f"a child killed alone, {count} times: {end}")
    for one in tally.differences:
        print("DIFFERS", one)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--children", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    preload()
    from whole_flow import write_whole_flow

    recipe = folder / "world" / "recipe.yaml"
    if not recipe.exists():
        in_child(lambda: str(write_whole_flow(folder / "world")))
    whole = folder / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    begun = time.monotonic()
    run = start(recipe, whole, None, [])
    assert run.wait() == 0, f"see {run.log}"
    wall = time.monotonic() - begun
    changes = changes_of(run.changes)
    order = list(dict.fromkeys(c.artifact for c in changes if c.artifact))
    print(
        f"uninterrupted: {len(order)} artifacts, {len(changes)} changes, {wall:.0f} s", flush=True
    )

    rng = random.Random(given.seed)
    total = Tally()
    while (left := given.kills - total.drawn) > 0:
        kills = draw_kills(rng, changes, wall, min(ROUND, left))
        name = f"round-{total.rounds}"
        shutil.rmtree(folder / name, ignore_errors=True)
        tally = one_round(recipe, folder / name, kills, order, rng)
        tally.differences = in_child(compare, whole, folder / name)
        total.add(tally)
        took = time.monotonic() - begun
        print(f"{name}: {len(tally.landed)} kills, {len(tally.differences)} differences", end=", ")
        print(f"{took:.0f} s", flush=True)
        for one in tally.differences:
            print("  DIFFERS", one, flush=True)
        if not tally.differences:
            shutil.rmtree(folder / name)
        report(total, order)
    for number in range(given.children):
        stage = WITH_WORKERS[number % len(WITH_WORKERS)]
        kill = worker_kill(rng, changes, rng.choice([a for a in order if a.startswith(stage)]))
        end, tally = kill_child(recipe, whole, folder / "child", kill, order)
        total.add(tally)
        total.ends[end] += bool(end)
        print(f"child: {end or 'none was there'}; {tally.differences}", flush=True)
    report(total, order)
    return 1 if total.differences else 0


if __name__ == "__main__":
    sys.exit(main())
