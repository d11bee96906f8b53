"""Views of Meta-World tasks that are in none of the demo's robot sets: the target's robot among
other objects."""

# mujoco is built in C++ and has no stubs; the simulators are an optional extra as well.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from demo.drawing import pick
from demo.sim_view import Thing, View
from emt_core.evaluation.recording.mujoco_scene import (
    CameraPose,
    SceneRenderer,
    point_camera,
    project,
    use_headless_gl,
)
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

MIN_PIXELS = 24
MAX_ROBOT = 0.42
"""Views with more of the image behind the arm than this are redrawn."""

_ACTION_REPEAT = 2


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A thing of a task: the body whose subtree it is, and our words."""

    body: str
    name: str
    color: str | None = None
    noun: str | None = None
    graspable: bool = True


@dataclass(frozen=True, kw_only=True)
class _Task:
    env: str
    doing: tuple[str, ...]
    """What the robot does, as "-ing" phrases."""
    things: tuple[_Named, ...]


TASKS: tuple[_Task, ...] = (
    _Task(
        env="basketball-v3",
        doing=("putting the ball through the hoop", "throwing a basket"),
        things=(
            _Named(body="bsktball", name="basketball", color="orange", noun="ball"),
            _Named(body="basket_goal", name="basketball hoop", graspable=False),
        ),
    ),
    _Task(
        env="bin-picking-v3",
        doing=("moving the cube to the other bin", "emptying a bin"),
        things=(
            _Named(body="bin_start", name="red bin", color="red", noun="bin", graspable=False),
            _Named(body="bin_goal", name="blue bin", color="blue", noun="bin", graspable=False),
        ),
    ),
    _Task(
        env="box-close-v3",
        doing=("closing the box", "putting the lid on the box"),
        things=(
            _Named(body="boxbody", name="box", graspable=False),
            _Named(body="boxbodytop", name="lid"),
        ),
    ),
    _Task(
        env="coffee-button-v3",
        doing=("starting the coffee machine", "pressing the coffee machine's button"),
        things=(_Named(body="coffee_machine", name="coffee machine", graspable=False),),
    ),
    _Task(
        env="coffee-pull-v3",
        doing=("pulling the mug away from the coffee machine", "taking the mug from the machine"),
        things=(
            _Named(body="coffee_machine", name="coffee machine", graspable=False),
            _Named(body="obj", name="mug", color="white"),
        ),
    ),
    _Task(
        env="dial-turn-v3",
        doing=("turning the dial", "rotating the dial"),
        things=(_Named(body="dial", name="dial", graspable=False),),
    ),
    _Task(
        env="disassemble-v3",
        doing=("lifting the nut off the peg", "taking the round nut off the peg"),
        things=(
            _Named(body="RoundNut", name="round nut", noun="nut"),
            _Named(body="peg", name="red peg", color="red", noun="peg", graspable=False),
        ),
    ),
    _Task(
        env="faucet-open-v3",
        doing=("opening the faucet", "turning the tap on"),
        things=(_Named(body="faucetBase", name="faucet", graspable=False),),
    ),
    _Task(
        env="hammer-v3",
        doing=("hammering a nail", "driving the nail in with the hammer"),
        things=(
            _Named(body="hammerbody", name="hammer"),
            _Named(body="box", name="wooden block", noun="block", graspable=False),
        ),
    ),
    _Task(
        env="handle-press-v3",
        doing=("pressing the handle down", "pushing the lever of the box down"),
        things=(_Named(body="box", name="handle box", graspable=False),),
    ),
    _Task(
        env="lever-pull-v3",
        doing=("pulling the lever up", "lifting the lever"),
        things=(_Named(body="lever", name="lever", graspable=False),),
    ),
    _Task(
        env="peg-insert-side-v3",
        doing=("putting the peg into the hole", "inserting the peg into the block"),
        things=(
            _Named(body="peg", name="green peg", color="green", noun="peg"),
            _Named(body="box", name="block with a hole", noun="block", graspable=False),
        ),
    ),
    _Task(
        env="plate-slide-v3",
        doing=("sliding the plate into the goal", "pushing the plate"),
        things=(
            _Named(body="puck_channel", name="plate"),
            _Named(body="puck_goal", name="small goal", noun="goal", graspable=False),
        ),
    ),
    _Task(
        env="shelf-place-v3",
        doing=("putting the block on the shelf", "placing the block on the shelf"),
        things=(
            _Named(body="obj", name="block", color="blue"),
            _Named(body="shelf", name="shelf", graspable=False),
        ),
    ),
    _Task(
        env="soccer-v3",
        doing=("kicking the ball into the goal", "pushing the soccer ball into the goal"),
        things=(
            _Named(body="soccer_ball", name="soccer ball", noun="ball"),
            _Named(body="goal_whole", name="soccer goal", noun="goal", graspable=False),
        ),
    ),
    _Task(
        env="stick-pull-v3",
        doing=("pulling the thermos with the stick", "dragging the flask with a stick"),
        things=(
            _Named(body="stick", name="stick", noun="stick"),
            _Named(body="object", name="thermos", graspable=False),
        ),
    ),
)


def metaworld_views(
    rng: np.random.Generator, *, views: int = 3, task: _Task | None = None
) -> Iterator[View]:
    """Views along one expert run of a random task (or `task`), each from its own camera and in its
    own light."""
    use_headless_gl()
    import mujoco
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    from metaworld.policies import ENV_POLICY_MAP

    task = task or pick(rng, TASKS)
    make: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task.env}-goal-observable"]
    env = make(seed=int(rng.integers(10_000)))
    observation, _ = env.reset()
    model = env.model
    data = env.data
    expert = ENV_POLICY_MAP[task.env]()
    for site in range(model.nsite):
        model.site_rgba[site, 3] = 0.0
    names = _subtrees(model, [n.body for n in task.things])
    stops = set(np.sort(rng.integers(0, 55, size=views)).tolist())
    mujoco.mj_forward(model, data)
    with SceneRenderer(model, size=IMAGE_SIZE) as renderer:
        for step in range(max(stops) + 1):
            if step in stops:
                _light(rng, model)
                for _ in range(4):
                    camera_id = point_camera(model, "corner2", _camera(rng))
                    mujoco.mj_forward(model, data)
                    view = _view(model, data, camera_id, renderer, task, names, observation)
                    if view is not None:
                        yield view
                        break
            action = np.clip(expert.get_action(observation), -1.0, 1.0).astype(np.float32)
            for _ in range(_ACTION_REPEAT):
                observation, *_ = env.step(action)
    env.close()


def _subtrees(model, bodies: list[str]) -> list[frozenset[int]]:
    """Per body, the geoms of its whole subtree."""
    roots = {model.body(name).id: n for n, name in enumerate(bodies)}
    geoms: list[set[int]] = [set() for _ in bodies]
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        while body and body not in roots:
            body = model.body_parentid[body]
        if body in roots:
            geoms[roots[body]].add(geom)
    return [frozenset(g) for g in geoms]


def _camera(rng: np.random.Generator) -> CameraPose:
    a = np.radians(rng.uniform(-150, -30))
    e = np.radians(rng.uniform(26, 55))
    # Straight from behind, the robot's own pedestal hides the table.
    if abs(np.degrees(a) + 90) < 32:
        a = np.radians(-90 + np.sign(np.degrees(a) + 90 + 1e-9) * 40)
    distance = rng.uniform(0.75, 1.05)
    target = np.array([0.02, 0.70, 0.10]) + rng.uniform(-0.04, 0.04, 3)
    x, y, z = (
        float(v)
        for v in target
        + distance * np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    )
    tx, ty, tz = (float(v) for v in target)
    return CameraPose(position=(x, y, z), target=(tx, ty, tz), fovy=float(rng.uniform(38, 48)))


def _light(rng: np.random.Generator, model) -> None:
    model.vis.headlight.ambient[:] = rng.uniform(0.2, 0.5)
    model.vis.headlight.diffuse[:] = rng.uniform(0.3, 0.6)


def _view(
    model, data, camera_id, renderer: SceneRenderer, task: _Task, geoms, observation
) -> View | None:
    ids = renderer.geoms(data, camera_id)
    things = []
    masks = []
    depths = []
    positions = []
    for named, own in zip(task.things, geoms, strict=True):
        mask = np.isin(ids, list(own))
        if mask.sum() < MIN_PIXELS:
            return None  # behind the arm or out of view
        center = np.mean([data.geom_xpos[g] for g in own if model.geom_rgba[g, 3] > 0], axis=0)
        noun = named.noun or named.name
        things.append(
            Thing(
                name=named.name,
                noun=noun,
                color=named.color,
                geoms=own,
                graspable=named.graspable,
            )
        )
        masks.append(mask)
        positions.append(center)
        depths.append(float(project(center, data, model, camera_id)[0, 2]))
    robot = np.isin(ids, [g for g in range(model.ngeom) if _is_robot(model, g)])
    if robot.mean() > MAX_ROBOT:
        return None
    hand = observation[:3]
    x, y, _ = project(hand, data, model, camera_id)[0]
    fingers = {
        g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name in _FINGER_BODIES
    }
    seen = np.isin(ids, list(fingers)).sum() >= 10 and 0.03 < x < 0.97 and 0.03 < y < 0.97
    opening = float(observation[3])
    return View(
        image=renderer.rgb(data, camera_id),
        things=tuple(things),
        masks=tuple(masks),
        grasp_masks=tuple(masks),
        depths=tuple(depths),
        positions=tuple(positions),
        free=np.isin(
            ids,
            [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name == "tablelink"],
        ),
        gripper=(float(x), float(y)) if seen else None,
        gripper_position=hand.copy(),
        # Half-closed fingers (a grasped object) are neither: nobody is asked about them.
        gripper_open=True if opening > 0.85 else False if opening < 0.25 else None,
        doing=task.doing,
        robot="robot arm",
        meta={"robot_model": "sawyer", "env": task.env, "things": [t.name for t in things]},
    )


def _is_robot(model, geom: int) -> bool:
    body = model.geom_bodyid[geom]
    while body:
        if model.body(body).name in ("base", "mocap"):
            return True
        body = model.body_parentid[body]
    return False


_FINGER_BODIES = ("rightclaw", "rightpad", "leftclaw", "leftpad", "hand")
