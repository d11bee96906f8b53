"""The demo's three robot sets: tasks, instructions, cameras and seeds, also for evaluation.

Meta-World has no instructions; these are ours, several phrasings a task, so that a robot set is not
one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

from emt_core.evaluation.recording.mujoco_scene import CameraPose
from emt_core.evaluation.seeds import EVAL_SEEDS, TRAIN_SEEDS

#: Layouts (object and goal positions) of demonstrations come from these seeds. Evaluation must use
#: seeds from
#: EVALUATION_SEED_START on, so that no evaluated layout has been seen in training.
DEMONSTRATION_SEEDS = TRAIN_SEEDS
EVALUATION_SEED_START = EVAL_SEEDS.start

#: One recorded action is held for this many control steps of 12.5 ms: 40 actions a second instead
#: of 80 halves the
#: frames of an episode; the scripted experts succeed as often (docs/demo_data.md).
ACTION_REPEAT = 2
FPS = 40

#: The robot's state, first in each observation: hand position in metres, gripper opening in [0, 1].
STATE_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_opening")

ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "gripper_closing")

#: Standard deviation of the Gaussian noise on executed actions. The *noise-free* expert action is
#: what is recorded, so
#: a policy sees how to recover (DART, Laskey et al. 2017).
ACTION_NOISE = 0.1

#: Recorded actions after the first success, so that the goal state is in the data.
FRAMES_AFTER_SUCCESS = 4
MAX_ACTIONS = 120


@dataclass(frozen=True, kw_only=True)
class RobotTask:
    """One Meta-World task with our words for it."""

    env: str
    """Meta-World name, e.g. `push-v3`."""
    instructions: tuple[str, ...]
    show_goal: bool = False
    """Keep the coloured ball that marks the goal: only where the instruction speaks of it."""


@dataclass(frozen=True, kw_only=True)
class RobotSet:
    """One LeRobot data set of the demo."""

    name: str
    version: str
    """`v3.0` (many episodes a video file) or `v2.1` (one file an episode)."""
    camera: CameraPose
    tasks: tuple[RobotTask, ...]
    episodes_per_task: int
    first_seed: int
    """Episode e uses seed first_seed + e; seeds of failed attempts are skipped, never reused."""


ROBOT_SETS: tuple[RobotSet, ...] = (
    RobotSet(
        name="arm_reach_push",
        version="v3.0",
        camera=CameraPose(position=(0.50, 0.10, 0.52), target=(0.0, 0.68, 0.12), fovy=38.0),
        episodes_per_task=20,
        first_seed=0,
        tasks=(
            RobotTask(
                env="reach-v3",
                show_goal=True,
                instructions=(
                    "reach the red ball",
                    "move the gripper to the red ball",
                    "bring the hand to the red target in the air",
                    "touch the red sphere with the gripper",
                ),
            ),
            RobotTask(
                env="push-v3",
                show_goal=True,
                instructions=(
                    "push the block to the green ball",
                    "slide the red block onto the green target",
                    "move the block across the table to the green mark",
                    "take the block to the green spot",
                ),
            ),
            RobotTask(
                env="pick-place-v3",
                show_goal=True,
                instructions=(
                    "pick up the block and lift it to the blue ball",
                    "grasp the block and bring it to the blue target",
                    "lift the red block up to the blue sphere",
                    "pick the block and hold it at the blue ball",
                ),
            ),
        ),
    ),
    RobotSet(
        name="arm_drawers_doors",
        version="v3.0",
        camera=CameraPose(position=(-0.66, 0.12, 0.60), target=(0.03, 0.68, 0.12), fovy=42.0),
        episodes_per_task=20,
        first_seed=2_000,
        tasks=(
            RobotTask(
                env="drawer-open-v3",
                instructions=(
                    "open the drawer",
                    "pull the green drawer open",
                    "pull the drawer out by its handle",
                    "slide the drawer open",
                ),
            ),
            RobotTask(
                env="drawer-close-v3",
                instructions=(
                    "close the drawer",
                    "push the green drawer shut",
                    "push the drawer back in",
                    "shut the open drawer",
                ),
            ),
            RobotTask(
                env="door-open-v3",
                instructions=(
                    "open the door",
                    "pull the door open by its handle",
                    "swing the dark door open",
                    "open the cabinet door",
                ),
            ),
        ),
    ),
    RobotSet(
        name="arm_buttons_windows",
        version="v2.1",
        camera=CameraPose(position=(0.62, -0.02, 0.40), target=(0.06, 0.74, 0.16), fovy=42.0),
        episodes_per_task=15,
        first_seed=4_000,
        tasks=(
            RobotTask(
                env="button-press-topdown-v3",
                instructions=(
                    "press the button from above",
                    "push the red button down",
                    "press down the button on the box",
                    "hit the red button from the top",
                ),
            ),
            RobotTask(
                env="button-press-v3",
                instructions=(
                    "press the button",
                    "push the red button on the front of the box",
                    "press the button on the wall box",
                    "push the button in",
                ),
            ),
            RobotTask(
                env="window-open-v3",
                instructions=(
                    "open the window",
                    "slide the window open",
                    "push the window to the right to open it",
                    "open the sliding window by its handle",
                ),
            ),
            RobotTask(
                env="window-close-v3",
                instructions=(
                    "close the window",
                    "slide the window shut",
                    "push the window back to the left",
                    "shut the sliding window by its handle",
                ),
            ),
        ),
    ),
)


#: Side of every demo image in pixels (square, RGB).
IMAGE_SIZE = 112
