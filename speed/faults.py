"""Faults of disks and folders in every stage: what a user sees, and what the next run makes of it.

    python speed/faults.py [--seed 0] [--only WORD ...] [--folder F]

One run is left alone (as in speed/kills.py). Then, for each fault and stage, a workspace that has
everything but an artifact of this stage; the fault comes before a change of a file that the seed
draws, the run ends, the fault is undone, and the same command runs again. Expected are exit code 2
and one message without a traceback, and in the end the same bits as without the fault.

    disk        the file system is full (needs root: it is a small tmpfs)
    workspace   the workspace's folder is gone
    sources     the folder with all sources and images is gone
    unreadable  the folder under construction can no longer be entered (root gives up its right to)
    read-only   every change answers EROFS; Lance's own writes excepted
    clock       the clock is set back by a day
    stale       every change answers ESTALE, as a lost NFS server does; Lance's own writes excepted

A run that ends right in spite of a fault (it needed nothing that was gone) counts as such.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "worlds")]

from killed_run import Change, Kill, changes_of, copy_without, in_child, preload, start  # noqa: E402

OVERRIDES = (1, 2)
"""Linux capabilities that let root enter every folder: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""


@dataclass(frozen=True)
class Places:
    """Where one trial takes place."""

    world: Path
    workspace: Path
    artifact: str

    @property
    def building(self) -> Path:
        return self.workspace / f"{self.artifact}.building"

    def away(self, folder: Path) -> Path:
        return folder.with_name(f"{folder.name}-away")


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[Places], None]
    mend: Callable[[Places], None] = lambda places: None


def fill(places: Places) -> None:
    """Leave no block of the workspace's file system."""
    with (places.workspace.parent / "filler").open("ab", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue


def take_away(which: Callable[[Places], Path]) -> Callable[[Places], None]:
    return lambda places: which(places).rename(places.away(which(places)))


def bring_back(which: Callable[[Places], Path]) -> Callable[[Places], None]:
    def mend(places: Places) -> None:
        folder = which(places)
        if places.away(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)  # what the run made anew in its place
            places.away(folder).rename(folder)

    return mend


def answer(number: int) -> Callable[[Places], None]:
    def strike(_: Places) -> None:
        raise OSError(number, os.strerror(number))

    return strike


def set_clock_back(_: Places) -> None:
    now = time.time
    time.time = lambda: now() - 86_400


def workspace_of(places: Places) -> Path:
    return places.workspace


def world_of(places: Places) -> Path:
    return places.world


FAULTS = (
    Fault("disk", fill, lambda p: (p.workspace.parent / "filler").unlink(missing_ok=True)),
    Fault("workspace", take_away(workspace_of), bring_back(workspace_of)),
    Fault("sources", take_away(world_of), bring_back(world_of)),
    Fault(
        "unreadable",
        lambda places: places.building.chmod(0),
        lambda places: places.building.chmod(0o755) if places.building.exists() else None,
    ),
    Fault("clock", set_clock_back),
    Fault("read-only", answer(errno.EROFS)),
    Fault("stale", answer(errno.ESTALE)),
)
AGAIN = {"read-only", "stale"}
"""Faults that answer every later change, too; the others strike once."""


def trial(fault: Fault, whole: Path, places: Places, change: Change, order: list[str]) -> str:
    """What the user saw; ends with ` | lost N` where the next run did not end in the same bits."""
    workspace = places.workspace
    copy_without(whole, workspace, places.artifact)
    struck = []

    def strike() -> None:
        if not struck or fault.name in AGAIN:
            struck.append(True)
            fault.strike(places)

    kill = Kill("fault", change.at, change.artifact, change=change, strike=strike)
    run = partial(start, places.world / "recipe.yaml", workspace, notes=places.world.parent)
    log = places.world.parent / f"{workspace.name}.log"
    log.unlink(missing_ok=True)
    code = run(kill, order, first=obey_permissions).wait()
    said = log.read_text(errors="replace")
    fault.mend(places)
    again = run(None, order).wait()
    seen = judged(code, said)
    if again:
        return f"{seen} | THE NEXT RUN ENDED WITH {again}: {log.read_text()[-300:]}"
    from_whole = in_child(compare, whole, workspace)
    return f"{seen} | {from_whole}" if from_whole else seen


def judged(code: int | None, said: str) -> str:
    """`2: the message`, or what is wrong with it in capitals."""
    if code == 0:
        return "0: it ended right"
    message = said.rpartition("error: ")[2].strip().splitlines()
    first = message[0] if message else ""
    if "Traceback" in said:
        return f"{code}: A TRACEBACK: {said.strip().splitlines()[-1]}"
    if code != 2 or said.count("error: ") != 1:
        return f"{code}: NOT ONE MESSAGE: {said[-300:]!r}"
    return f"2: {first}"


def obey_permissions() -> None:
    """Let this process and what it starts be refused where the permissions refuse, as root too."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in OVERRIDES:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: for programs started later
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    mask = sum(1 << capability for capability in OVERRIDES)
    for place in (0, 1, 2):  # effective, permitted, inheritable
        data[place] &= ~mask
    libc.capset(header, data)


def compare(whole: Path, other: Path) -> list[dict[str, Any]]:
    from same_work import differences

    return differences(whole, other)


def chosen(order: list[str], changes: list[Change]) -> list[str]:
    """An artifact of each stage: the one with the most changes of files."""
    count = Counter(change.artifact for change in changes)
    best: dict[str, str] = {}
    for artifact in sorted(order, key=lambda name: count[name]):
        best[artifact.partition("/")[0]] = artifact
    return list(best.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="faults or stages")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    preload()
    from whole_flow import write_whole_flow

    world = folder / "world"
    if not world.exists():
        in_child(lambda: str(write_whole_flow(world)))
    whole = folder / "whole"
    if not whole.exists():
        assert start(world / "recipe.yaml", whole, None, []).wait() == 0
    changes = changes_of(Path(f"{whole}.changes"))
    order = list(dict.fromkeys(c.artifact for c in changes if c.artifact))
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    rng = random.Random(given.seed)
    told: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    mounted = mount(disk)
    try:
        for fault, artifact in product(FAULTS, chosen(order, changes)):
            stage = artifact.partition("/")[0]
            if given.only and not {fault.name, stage} & set(given.only):
                continue
            if fault.name == "disk" and not mounted:
                continue
            own = [c for c in changes if c.artifact == artifact and ".building/" in c.what]
            change = rng.choice(own)
            at = disk if fault.name == "disk" else folder
            seen = trial(fault, whole, Places(world, at / "w", artifact), change, order)
            told[fault.name, seen][stage] += 1
            print(f"{fault.name} | {stage} | {change.what} | {seen}", flush=True)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    print("\n| fault | seen | stages |\n|---|---|---|")
    for (name, seen), stages in sorted(told.items()):
        listed = ", ".join(f"{stage} {count}" for stage, count in stages.items())
        print(f"| {name} | {seen} | {listed} |")
    return 0


def mount(disk: Path) -> bool:
    """A file system of its own to fill; False without the right to mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(disk)]
    return os.geteuid() == 0 and subprocess.run(command).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
