"""Questions about rendered scenes, each with one exact answer taken from the scene's state and
segmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from PIL import Image

from demo.drawing import pick
from demo.layout_questions import CLEAR, pointing, relations
from demo.phrasing import article, ask, listing, plural, point
from demo.sample import Answered, DemoSample, Kind, samples_of
from demo.sim_view import View, clearance, interior_point

Found = tuple[str, str, dict]  # question, answer, meta

_PHRASINGS: dict[str, tuple[str, ...]] = {
    "closer_camera": (
        "Which is closer to the camera, the {a} or the {b}?",
        "Which object is nearer to the viewer: the {a} or the {b}?",
        "Of the {a} and the {b}, which one is closer to the camera?",
        "Is the {a} or the {b} closer to us?",
    ),
    "closer_gripper": (
        "Which object is closest to the gripper?",
        "What is the gripper nearest to?",
        "Which thing could the gripper reach first?",
        "Name the object nearest to the robot's hand.",
    ),
    "gripper_open": (
        "Is the gripper open or closed?",
        "Are the robot's fingers open or closed?",
        "In which state is the gripper, open or closed?",
        "Look at the robot's hand: is it open or closed?",
        "Tell me if the gripper is open or closed.",
        "Open or closed: how are the fingers?",
    ),
    "touching": (
        "Is the gripper touching the {thing}?",
        "Does the robot touch the {thing}?",
        "Is the robot's hand in contact with the {thing}?",
        "Have the fingers reached the {thing}?",
    ),
    "holding": (
        "What is the robot holding?",
        "Which object is in the gripper?",
        "What has the robot picked up?",
        "Name what the gripper holds.",
    ),
    "direction": (
        "In the image, which way must the gripper move to reach the {thing}: left, right, up or "
        "down?",
        "Which direction should the gripper go to get to the {thing}?",
        "To touch the {thing}, where must the robot's hand move in the picture?",
        "The robot wants the {thing}. Which way should its gripper move?",
        "Which image direction brings the gripper to the {thing}?",
        "Should the hand move left, right, up or down to reach the {thing}?",
    ),
    "next_step": (
        "What should the robot do next to pick up the {thing}?",
        "The task is to grasp the {thing}. What is the next step?",
        "Name the next action for taking the {thing}.",
        "How should the robot go on to pick up the {thing}?",
    ),
    "doing": (
        "What is the robot doing?",
        "Which task is the robot working on?",
        "What is the robot's task here?",
        "Describe the action of the robot.",
        "What is the arm trying to do?",
        "Which job is being done in this image?",
    ),
    "point_gripper": (
        "Point to the gripper.",
        "Where is the robot's gripper? Answer with a point.",
        "Give the coordinates of the gripper.",
        "Locate the robot's hand in the image.",
        "Mark the point between the fingers.",
        "At which image position is the gripper?",
    ),
    "grasp": (
        "Where should the robot grasp the {thing}?",
        "Give a point to hold the {thing} by.",
        "At which point can the {thing} be picked up?",
        "Find a good grasp point on the {thing}.",
        "Show where to grip the {thing} as (x, y).",
        "Which point of the {thing} should the fingers close on?",
    ),
    "vacant": (
        "Find a free spot on the table.",
        "Where can the robot put something down? Answer with a point.",
        "Point to an empty place on the table.",
        "Give a point on the table where nothing stands.",
        "Locate a vacant area of the table.",
        "Show a free place for another object.",
    ),
    "vacant_side": (
        "Find a free spot {side} the {thing}.",
        "Point to an empty place on the table {side} the {thing}.",
        "Where is room on the table {side} the {thing}?",
        "Give a vacant point {side} the {thing}.",
    ),
    "colour_table": (
        "What colour is the table?",
        "Which colour does the table have?",
        "Name the colour of the table top.",
    ),
}
"""Intents that only rendered scenes have; the rest is shared with the other generators
(phrasing.py), so that words alone do not tell a simulator's question from another."""


def _ask(rng: np.random.Generator, intent: str, **slots: str) -> str:
    return pick(rng, _PHRASINGS[intent]).format(**slots)


def questions(rng: np.random.Generator, view: View, image_key: str) -> list[DemoSample]:
    """Every question we can answer exactly about `view`, a few of each kind; all share one image
    object."""
    found: Answered = [(kind, *one) for kind, make in _MAKERS for one in make(rng, view)]
    image = Image.fromarray(view.image)
    return samples_of(image, image_key, found, style="sim", meta=view.meta)


def _points(rng: np.random.Generator, view: View) -> list[Found]:
    found = pointing(rng, view.placed(), 2)
    if view.gripper:
        x, y = view.gripper
        found.append(
            (_ask(rng, "point_gripper"), point(x, y), {"target": "gripper", "x": x, "y": y})
        )
    return found


def _spatial(rng: np.random.Generator, view: View) -> list[Found]:
    found = relations(rng, view.placed(), 2)
    if len(view.things) >= 2:
        i, j = (int(v) for v in rng.choice(len(view.things), 2, replace=False))
        near, far = sorted((view.depths[i], view.depths[j]))
        # 12 % of the distance: clearly nearer to the eye, not just to the ruler.
        if far - near > 0.12 * near:
            names = [view.things[i].name, view.things[j].name]
            answer = names[0] if view.depths[i] < view.depths[j] else names[1]
            found.append(
                (
                    _ask(rng, "closer_camera", a=names[0], b=names[1]),
                    answer,
                    {"form": "closer_camera"},
                )
            )
    if view.gripper and view.gripper_position is not None and len(view.things) >= 2:
        gaps = [float(np.linalg.norm(p - view.gripper_position)) for p in view.positions]
        order = np.argsort(gaps)
        if gaps[order[1]] > 1.4 * gaps[order[0]]:
            answer = view.things[order[0]].name
            found.append((_ask(rng, "closer_gripper"), answer, {"form": "closer_gripper"}))
    return found


def _robot(rng: np.random.Generator, view: View) -> list[Found]:
    if not view.gripper or not view.things:
        return []
    found: list[Found] = []
    # Experts keep the gripper open most of the time: ask less often then, or "open" would always be
    # a good guess.
    if view.gripper_open is False or (view.gripper_open and rng.random() < 0.4):
        answer = "open" if view.gripper_open else "closed"
        found.append((_ask(rng, "gripper_open"), answer, {"form": "gripper_open"}))
    if view.contact_known:
        others = [t.name for t in view.things if t.name != view.touching]
        thing = (
            view.touching
            if view.touching and (rng.random() < 0.6 or not others)
            else pick(rng, others)
        )
        answer = "yes" if thing == view.touching else "no"
        found.append((_ask(rng, "touching", thing=thing), answer, {"form": "touching"}))
    if view.holding:
        found.append((_ask(rng, "holding"), f"the {view.holding}", {"form": "holding"}))
    elif view.contact_known and view.gripper_open:
        found += _next_step(rng, view)
    free = [p for p in view.placed() if p.name != view.touching]
    if free:
        target = pick(rng, free)
        dx = target.x - view.gripper[0]
        dy = target.y - view.gripper[1]
        if max(abs(dx), abs(dy)) > CLEAR and max(abs(dx), abs(dy)) > 1.6 * min(abs(dx), abs(dy)):
            answer = (
                ("left" if dx < 0 else "right")
                if abs(dx) > abs(dy)
                else ("up" if dy < 0 else "down")
            )
            found.append((_ask(rng, "direction", thing=target.name), answer, {"form": "direction"}))
    if view.doing:
        found.append((_ask(rng, "doing"), pick(rng, view.doing), {"form": "doing"}))
    return found


def _next_step(rng: np.random.Generator, view: View) -> list[Found]:
    """The phase of a grasp from above: over the object or beside it (open gripper)."""
    able = [n for n, t in enumerate(view.things) if t.graspable]
    if not able or view.gripper_position is None:
        return []
    n = pick(rng, able)
    aside = float(np.linalg.norm((view.positions[n] - view.gripper_position)[:2]))
    if aside < 0.02:
        answer = "lower the gripper"
    elif aside > 0.08:
        answer = "move the gripper above it"
    else:
        return []
    return [(_ask(rng, "next_step", thing=view.things[n].name), answer, {"form": "next_step"})]


def _affordance(rng: np.random.Generator, view: View) -> list[Found]:
    found: list[Found] = []
    able = [n for n, t in enumerate(view.things) if t.graspable and view.grasp_masks[n].sum() >= 6]
    if able:
        n = pick(rng, able)
        x, y = interior_point(view.grasp_masks[n])
        thing = view.things[n].name
        found.append(
            (
                _ask(rng, "grasp", thing=thing),
                point(x, y),
                {"target": thing, "x": x, "y": y, "form": "grasp"},
            )
        )
    room = clearance(view.free)
    size = view.free.shape[0]
    if room.max() >= 7:
        # Any of the roomy places, not only the roomiest: that one would often be the same corner.
        ys, xs = np.nonzero(room >= max(7.0, 0.75 * room.max()))
        k = int(rng.integers(len(xs)))
        x = (xs[k] + 0.5) / size
        y = (ys[k] + 0.5) / size
        found.append(
            (_ask(rng, "vacant"), point(x, y), {"x": float(x), "y": float(y), "form": "vacant"})
        )
    if view.things:
        o = pick(rng, view.placed())
        left = rng.random() < 0.5
        xs = (np.arange(size) + 0.5)[None, :] / size
        ys = (np.arange(size) + 0.5)[:, None] / size
        side = (
            ((xs < o.x - 0.08) if left else (xs > o.x + 0.08))
            & (abs(ys - o.y) < 0.12)
            & (abs(xs - o.x) < 0.32)
        )
        near = np.where(side, room, 0.0)
        if near.max() >= 5:
            row, column = np.unravel_index(int(near.argmax()), near.shape)
            x = (column + 0.5) / size
            y = (row + 0.5) / size
            words = "left of" if left else "right of"
            meta = {
                "x": float(x),
                "y": float(y),
                "form": "vacant_side",
                "of": o.name,
                "side": words,
            }
            found.append((_ask(rng, "vacant_side", side=words, thing=o.name), point(x, y), meta))
    return found


def _read(rng: np.random.Generator, view: View) -> list[Found]:
    if view.sign is None:
        return []
    return [(ask(rng, "read", surface=view.sign.surface), view.sign.text, {"text": view.sign.text})]


def _count(rng: np.random.Generator, view: View) -> list[Found]:
    if view.doing:  # scenes of a benchmark hold more than the things we name
        return []
    nouns = Counter(t.noun for t in view.things)
    noun = (
        max(nouns, key=lambda n: (nouns[n], n)) if rng.random() < 0.7 else pick(rng, sorted(nouns))
    )
    found = [(ask(rng, "count_one", things=plural(noun)), str(nouns[noun]), {"of": noun})]
    if view.sign is None and rng.random() < 0.35:
        question = pick(
            rng, ("How many objects are on the table?", "Count the objects on the table.")
        )
        # What the gripper holds is not on the table.
        found.append(
            (question, str(len(view.things) - (view.holding is not None)), {"of": "objects"})
        )
    return found


def _color(rng: np.random.Generator, view: View) -> list[Found]:
    nouns = Counter(t.noun for t in view.things)
    lone = [t for t in view.things if t.color and nouns[t.noun] == 1]
    found: list[Found] = []
    if lone:
        t = pick(rng, lone)
        found.append((ask(rng, "colour_of", thing=t.noun), t.color or "", {"of": t.noun}))
    if view.meta.get("table_colour") and rng.random() < 0.4:
        found.append((_ask(rng, "colour_table"), view.meta["table_colour"], {"of": "table"}))
    return found


def _caption(rng: np.random.Generator, view: View) -> list[Found]:
    names = [article(t.name) for t in view.things if t.name != view.holding]
    order = [names[i] for i in rng.permutation(len(names))]
    if view.sign:
        order.append(f'{article(view.sign.surface)} that says "{view.sign.text}"')
    things = listing(order) if order else "nothing else"
    if view.doing:
        text = pick(
            rng,
            (
                f"A robot arm is {pick(rng, view.doing)}.",
                f"A robot arm works at a table with {things}.",
            ),
        )
    elif view.holding:
        text = f"A robot arm holds {article(view.holding)} above a table with {things}."
    elif view.gripper:
        text = pick(
            rng,
            (f"A robot arm over a table with {things}.", f"A table with {things} and a robot arm."),
        )
    else:
        text = pick(
            rng,
            (f"A table with {things}.", f"There is {things} on a table.", f"{things} on a table."),
        )
    return [(ask(rng, "caption"), text[0].upper() + text[1:], {})]


_MAKERS: tuple[tuple[Kind, Callable[[np.random.Generator, View], list[Found]]], ...] = (
    ("point", _points),
    ("spatial", _spatial),
    ("robot", _robot),
    ("affordance", _affordance),
    ("read", _read),
    ("count", _count),
    ("colour", _color),
    ("caption", _caption),
)
