"""SimplerEnv's WidowX tasks: visual matching, 24 prepackaged layouts a task (Li et al. 2024)."""

from __future__ import annotations

from emt_core.evaluation.benchmarks.base import Benchmark, Task
from emt_core.recipe.evaluate import SimplerBridgeConfig

ENVIRONMENTS = {
    "carrot": ("widowx_carrot_on_plate", 60),
    "eggplant": ("widowx_put_eggplant_in_basket", 120),
    "spoon": ("widowx_spoon_on_towel", 60),
    "cube": ("widowx_stack_cube", 60),
}
"""Task -> SimplerEnv's name and steps an episode (VLM4VLA's evaluation: 60, eggplant 120)."""

INSTALL = (
    "SimplerEnv needs Vulkan and an environment of its own: python3.10 -m venv simpler; "
    "simpler/bin/pip install "
    "'numpy<2' transforms3d; git clone --recurse-submodules the repository simpler-env/SimplerEnv; "
    "pip install -e both "
    "SimplerEnv/ManiSkill2_real2sim and SimplerEnv; then `evaluate.python: .../simpler/bin/python`"
)


def benchmark(config: SimplerBridgeConfig) -> Benchmark:
    tasks = []
    for name in config.tasks:
        environment, steps = ENVIRONMENTS[name]
        tasks.append(
            Task(name=environment, max_steps=steps, facts={"success_at": config.success_at})
        )
    return Benchmark(
        name="simpler_bridge",
        title="SimplerEnv-Bridge",
        settings={},
        tasks=tuple(tasks),
        episodes=24,
        layouts="fixed",
        fixed_layouts=24,
        state=("x", "y", "z", "roll", "pitch", "yaw"),
        fps=5.0,
        timeout_s=config.timeout_s,
        module="simpler_env",
        install=INSTALL,
    )
