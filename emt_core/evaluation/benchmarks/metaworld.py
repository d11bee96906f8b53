"""Meta-World, the embedded benchmark: 50 tasks, layouts drawn from EVAL_SEEDS, seen as
demonstrations were recorded.

The demonstrations' camera, image size, action repeat, words and visible goals are taken over from
the artifact that the policy was trained on, so that training and evaluation see the same; the
recipe can say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import Benchmark, Task
from emt_core.evaluation.benchmarks.metaworld_tasks import check_tasks
from emt_core.evaluation.recording.tasks import ROBOT_SETS, STATE_NAMES
from emt_core.recipe.base import check_control_steps
from emt_core.recipe.demos import DemosConfig
from emt_core.recipe.evaluate import MetaWorldConfig

CONTROL_HZ = 80
INSTALL = (
    "pip install metaworld==3.1.1 packaging (extra `sim`) into the interpreter that "
    "`evaluate.python` names; "
    "off-screen GL: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"
)


def benchmark(config: MetaWorldConfig, demos: Mapping[str, Any] | None) -> Benchmark:
    """demos: how the policy's demonstrations were recorded (DemosConfig's fields; others are passed
    over).

    Raises EmtError for a task that Meta-World does not have or that has no instruction, and for
    more actions than a Meta-World episode holds.
    """
    facts = {
        name: value for name, value in (demos or {}).items() if name in DemosConfig.model_fields
    }
    facts["max_actions"] = 1  # how long it recorded is none of ours, and no reason to refuse it
    if "instructions" in facts:
        facts.setdefault("tasks", tuple(facts["instructions"]))
    recorded = DemosConfig.model_validate(facts)
    tasks = config.tasks or recorded.tasks
    named = (*tasks, *config.instructions, *config.show_goal)
    check_tasks(dict.fromkeys(named), "evaluate.benchmark.tasks")
    repeat = config.action_repeat or recorded.action_repeat
    try:
        check_control_steps(config.max_steps, repeat, "max_steps")
    except ValueError as error:
        raise EmtError(
            str(error),
            where="evaluate.benchmark",
            remedy="set max_steps; the repeat is the demonstrations'",
        ) from error
    camera = config.camera or recorded.camera
    return Benchmark(
        name="metaworld",
        title="Meta-World",
        settings={
            "camera": camera.model_dump(mode="json"),
            "size": config.size or recorded.size,
            "action_repeat": repeat,
        },
        tasks=tuple(_task(name, config, recorded) for name in tasks),
        episodes=50,
        layouts="drawn",
        state=STATE_NAMES,
        fps=CONTROL_HZ / repeat,
        timeout_s=config.timeout_s,
        module="metaworld",
        install=INSTALL,
    )


def _task(name: str, config: MetaWorldConfig, recorded: DemosConfig) -> Task:
    known = {task.env: task for robots in ROBOT_SETS for task in robots.tasks}.get(name)
    words = (
        config.instructions.get(name)
        or recorded.instructions.get(name)
        or (known.instructions if known else ())
    )
    if not words:
        raise EmtError(
            f"Meta-World has no instruction for {name!r} and the recipe gives none",
            where="evaluate.benchmark.instructions",
            remedy=f"add `instructions: {{{name}: [what the robot is told]}}`",
        )
    shown = {**({name: known.show_goal} if known else {}), **recorded.show_goal, **config.show_goal}
    return Task(
        name=name,
        max_steps=config.max_steps,
        instructions=words,
        facts={"show_goal": shown.get(name, False)},
    )
