"""A position controller that sees where objects are, to tell whether LIBERO works here."""

# The simulator lies in another interpreter: there is nothing here to check types against.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import numpy as np

METERS_PER_ACTION = 0.05  # what the OSC controller moves for an action of 1
HOVER = 0.12
LIFT = 0.30
PATIENCE = 60
NEAR = 0.012
GRASP_BELOW = 0.01  # fingers reach a little under an object's centre
OPEN = -1.0
CLOSED = 1.0


def pick_and_place(of_interest, observe):
    """Yield 7-dim actions that bring every object of interest above the last one, in turn.

    of_interest: names as LIBERO gives them, the receptacle last; observe() gives the newest
    observation.
    """
    *objects, receptacle = of_interest
    for name in objects:
        place = observe()[name + "_pos"].copy()
        yield from _reach(observe, _above(place, HOVER), OPEN)
        yield from _reach(observe, _above(place, -GRASP_BELOW), OPEN)
        yield from _hold(12, CLOSED)
        yield from _reach(observe, _above(place, LIFT), CLOSED)
        goal = observe()[receptacle + "_pos"]
        yield from _reach(observe, np.array([goal[0], goal[1], place[2] + LIFT]), CLOSED)
        yield from _reach(observe, _above(goal, HOVER + 0.06), CLOSED)
        yield from _hold(12, OPEN)
        yield from _reach(observe, _above(goal, LIFT + 0.05), OPEN)


def _above(place, meters):
    return place + np.array([0.0, 0.0, meters])


def _reach(observe, target, gripper):
    for _ in range(PATIENCE):
        away = target - observe()["robot0_eef_pos"]
        if np.abs(away).max() < NEAR:
            return
        yield [*np.clip(away / METERS_PER_ACTION, -1, 1), 0.0, 0.0, 0.0, gripper]


def _hold(steps, gripper):
    for _ in range(steps):
        yield [0.0] * 6 + [gripper]
