"""Benchmarks made from a recipe's words, and episodes of them played by a policy."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from emt_core.evaluation.benchmarks.base import Benchmark, episodes_of
from emt_core.evaluation.benchmarks.registry import resolve
from emt_core.evaluation.closed_loop.rollout import Played, Simulators
from emt_core.recipe.evaluate import BenchmarkConfig, RehearsalConfig


def made(base: Path = Path(), demos: dict | None = None, **fields) -> Benchmark:
    return resolve(TypeAdapter(BenchmarkConfig).validate_python(fields), base=base, demos=demos)


def rehearsal(*tasks: str, timeout_s: float = 60.0, **fields) -> Benchmark:
    return resolve(
        RehearsalConfig(name="rehearsal", tasks=tasks or ("reach",), timeout_s=timeout_s, **fields),
        base=Path(),
    )


def played(
    benchmark: Benchmark, policy, *, count: int = 2, environments: int = 1, **more
) -> list[Played]:
    found: list[Played] = []
    with Simulators(
        benchmark, environments=environments, python=more.pop("python", "")
    ) as simulators:
        simulators.play(episodes_of(benchmark, count, 0), policy, on_end=found.append, **more)
    return found
