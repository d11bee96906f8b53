"""What a recipe says about recording demonstrations from a simulator's scripted experts."""

from __future__ import annotations

from pydantic import Field, model_validator

from emt_core.recipe.base import Camera, StageConfig, check_control_steps


class DemosConfig(StageConfig):
    tasks: tuple[str, ...] = Field(
        default=(
            "reach-v3",
            "push-v3",
            "door-open-v3",
            "drawer-open-v3",
            "button-press-topdown-v3",
            "window-open-v3",
        ),
        min_length=1,
    )
    """Meta-World tasks whose scripted experts are recorded."""

    instructions: dict[str, tuple[str, ...]] = {}
    """Our words for a task, taken in turn; Meta-World has none. Tasks of the demo's robot sets have
    theirs already."""

    show_goal: dict[str, bool] = {}
    """Whether a task's goal ball is visible. Default: where its built-in instruction names it."""

    episodes_per_task: int = Field(default=40, ge=1)
    """Successful episodes kept of each task; failed ones are counted and not kept."""

    tries_per_episode: float = Field(default=3.0, ge=1)
    """Tries, in multiples of episodes_per_task, after which too few successes are an error."""

    camera: Camera = Camera()
    """The one view that is recorded."""

    size: int = Field(default=112, ge=32, le=1024, multiple_of=2)
    """Side of the recorded image, pixels (H.264 wants even sizes)."""

    noise: float = Field(default=0.1, ge=0)
    """Deviation of the Gaussian noise on executed actions; recorded are those without (DART)."""

    action_repeat: int = Field(default=2, ge=1)
    """Control steps of 12.5 ms that one action is held for. Evaluation repeats likewise."""

    max_actions: int = Field(default=120, ge=1)
    """An episode without success by then has failed. Times action_repeat at most 500, an episode's
    control steps."""

    frames_after_success: int = Field(default=4, ge=0)
    """Recorded actions after the first success, so that the goal state is in the data."""

    seed: int = 0

    @model_validator(mode="after")
    def _within_an_episode(self) -> DemosConfig:
        check_control_steps(self.max_actions, self.action_repeat, "max_actions")
        return self
