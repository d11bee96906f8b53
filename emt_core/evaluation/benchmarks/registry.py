"""Which file stands for which benchmark of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emt_core.evaluation.benchmarks import calvin_abcd, libero, metaworld, simpler_bridge
from emt_core.evaluation.benchmarks.base import Benchmark, Task
from emt_core.recipe.evaluate import (
    BenchmarkConfig,
    CalvinConfig,
    LiberoConfig,
    MetaWorldConfig,
    RehearsalConfig,
    SimplerBridgeConfig,
)


def resolve(
    config: BenchmarkConfig, *, base: Path, demos: Mapping[str, Any] | None = None
) -> Benchmark:
    """A recipe's benchmark, checked. base: relative paths start here; demos: configuration of the
    demonstrations.

    Raises EmtError for unknown tasks and missing data.
    """
    if isinstance(config, MetaWorldConfig):
        return metaworld.benchmark(config, demos)
    if isinstance(config, LiberoConfig):
        return libero.benchmark(config)
    if isinstance(config, SimplerBridgeConfig):
        return simpler_bridge.benchmark(config)
    if isinstance(config, CalvinConfig):
        return calvin_abcd.benchmark(config, base)
    return _rehearsal(config)


def _rehearsal(config: RehearsalConfig) -> Benchmark:
    return Benchmark(
        name="rehearsal",
        title="Rehearsal",
        settings={
            "size": config.size,
            "step_seconds": config.step_seconds,
            "frame_seconds": config.frame_seconds,
        },
        tasks=tuple(Task(name=name, max_steps=config.max_steps) for name in config.tasks),
        episodes=10,
        layouts="drawn",
        goals=3 if "chain" in config.tasks else 1,
        state=("dot_x", "dot_y"),
        timeout_s=config.timeout_s,
    )
