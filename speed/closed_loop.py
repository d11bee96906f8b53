"""Closed-loop steps a second against the simulator and its rendering alone: what the loop itself
costs.

    python speed/closed_loop.py [--episodes 12] [--environments 2]

`alone`: as many processes as environments, each stepping Meta-World and rendering one frame a
chunk, with nobody to talk to. `loop`: the evaluator with a fake policy that answers at once. Same
episodes, same actions, same frames. Goal: at most 30 % lost. Start-up (imports, workers) is outside
both clocks. CPU seconds, of all processes together, are given beside the wall's: on a busy machine
they say what the clock cannot.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from emt_core.evaluation.benchmarks.base import Episode, episodes_of
from emt_core.evaluation.benchmarks.registry import resolve
from emt_core.evaluation.closed_loop.rollout import Played, Simulators
from emt_core.recipe.evaluate import MetaWorldConfig

CHUNK = 5
SIMULATORS = Path(__file__).parents[1] / "emt_core" / "evaluation" / "simulators"


class Still:
    """A policy that answers at once; nobody solves anything, so every episode has all its steps."""

    def act(self, images: np.ndarray, instructions: list[str]) -> np.ndarray:
        return np.zeros((len(images), CHUNK, 4), np.float32)


def alone(begins: list[dict], settings: dict, ready, start, out) -> None:
    """One process: the worker's own simulator, driven in a plain loop. Seconds go to `out`."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    sys.path.insert(0, str(SIMULATORS))
    import metaworld_sim

    simulator = metaworld_sim.Simulator(settings)
    action = np.zeros(4, np.float32)
    ready.release()
    start.wait()
    before = time.process_time()
    for begin in begins:
        simulator.begin(begin)
        for step in range(begin["max_steps"]):
            if step % CHUNK == 0:
                simulator.frame()
            simulator.step(action)
    out.put((time.perf_counter(), time.process_time() - before))


def measure_alone(episodes: list[Episode], settings: dict, processes: int) -> tuple[float, float]:
    """(wall, CPU) seconds for all episodes, dealt out to processes."""
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    start = context.Event()
    out = context.Queue()
    parts = [[dict(e.begin) for e in episodes[n::processes]] for n in range(processes)]
    running = [
        context.Process(target=alone, args=(part, settings, ready, start, out)) for part in parts
    ]
    for process in running:
        process.start()
    for _ in running:
        ready.acquire()
    begun = time.perf_counter()  # Linux: one clock for all processes
    start.set()
    found = [out.get() for _ in running]
    for process in running:
        process.join()
    return max(ended for ended, _ in found) - begun, sum(cpu for _, cpu in found)


def measure_loop(episodes: list[Episode], benchmark, environments: int) -> tuple[float, float]:
    """(wall, CPU) seconds for all episodes; the workers have opened their simulators before."""
    played: list[Played] = []
    with Simulators(benchmark, environments=environments) as simulators:
        simulators.play(episodes[:environments], Still(), on_end=lambda played: None)
        before = cpu_of_family()
        begun = time.perf_counter()
        simulators.play(episodes, Still(), on_end=played.append)
        spent = time.perf_counter() - begun, cpu_of_family() - before
    assert len(played) == len(episodes) and all(p.failure == "step_cap" for p in played)
    return spent


def cpu_of_family() -> float:
    """CPU seconds so far of this process and its living children."""
    me = psutil.Process()
    return sum(
        p.cpu_times().user + p.cpu_times().system for p in (me, *me.children(recursive=True))
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--environments", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    benchmark = resolve(
        MetaWorldConfig(name="metaworld", tasks=("push-v3", "drawer-open-v3"), max_steps=150),
        base=Path(),
    )
    episodes = episodes_of(benchmark, args.episodes // 2, 0)
    steps = sum(episode.begin["max_steps"] for episode in episodes)
    spent: dict[str, list[tuple[float, float]]] = {"alone": [], "loop": []}
    for _ in range(args.repeats):  # in turn, so that both meet the same neighbours
        spent["alone"].append(measure_alone(episodes, dict(benchmark.settings), args.environments))
        spent["loop"].append(measure_loop(episodes, benchmark, args.environments))
    print(
        f"{steps:,} actions in {len(episodes)} episodes, {args.environments} environments, "
        f"{os.cpu_count()} cores"
    )
    wall = {name: statistics.median(wall for wall, _ in runs) for name, runs in spent.items()}
    cpu = {name: statistics.median(cpu for _, cpu in runs) for name, runs in spent.items()}
    for name, runs in spent.items():
        each = ", ".join(f"{steps / wall:.0f}" for wall, _ in runs)
        print(
            f"{name:<6} {steps / wall[name]:6.1f} actions/s (runs: {each})   CPU {cpu[name]:.2f} s"
        )
    print(
        f"lost {1 - wall['alone'] / wall['loop']:.1%} of the wall's rate (goal: at most 30 %), "
        f"{1 - cpu['alone'] / cpu['loop']:.1%} of the CPU's   load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
