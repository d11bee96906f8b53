"""The pool's side that simulators render: our table-top scenes (Fetch, Panda or no robot) and
Meta-World tasks that no robot set has. Build time only; an image depends on (seed, family, index)
alone.

    samples = draw("tabletop", seed=1, index=0)      # every question about every view of scene 0
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from demo.metaworld_views import metaworld_views
from demo.sample import DemoSample
from demo.sim_questions import questions
from demo.sim_view import View
from demo.tabletop import tabletop_views

FAMILIES: dict[str, Callable[[np.random.Generator], Iterator[View]]] = {
    "tabletop": tabletop_views,
    "metaworld": metaworld_views,
}
_FAMILY_NUMBER = {name: 100 + i for i, name in enumerate(FAMILIES)}


def draw(family: str, *, seed: int, index: int) -> list[DemoSample]:
    """Scene `index` of `family`: its views (none where objects would hide each other) and all
    questions about them.

    Raises EmtError where the machine has no off-screen GL or gymnasium-robotics is not installed.
    """
    rng = np.random.default_rng([seed, _FAMILY_NUMBER[family], index])
    samples: list[DemoSample] = []
    for number, view in enumerate(FAMILIES[family](rng)):
        samples += questions(rng, view, f"{family}-{seed}-{index:05d}-{number}")
    return samples
