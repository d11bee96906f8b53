"""One set of colors for every page, report and figure, legible on light and dark, color-blind safe.

Built on Okabe & Ito (2008) and Tol's muted set. Orange is robot data alone, violet the selection.
Embodied-oriented categories are green, sky blue and amber; general ones pink, purple, periwinkle
and olive.
"""

from __future__ import annotations

from collections.abc import Sequence

ROBOT = "#D55E00"
POOL = "#3A6EA5"
SELECTED = "#7C5CD6"
LEFT_OUT = "#A3ABB8"
INK = "#000037"
"""Text in figures: Streamlit's name for its darkest gray, which its frontend replaces by the
theme's own. The default for axes is too faint on white (3.7:1). The report drops it."""

MARK = "#DB3A75"
"""Marked places in a figure: the cut, the stop."""

ROLE = {"pool": POOL, "robot": ROBOT}

CATEGORY = {
    "spatial": "#009E73",
    "grounding": "#56B4E9",
    "robot": "#E69F00",
    "text": "#CC79A7",
    "chart": "#AA3377",
    "caption": "#7A86C8",
    "vqa": "#999933",
    "other": "#8C929C",
    "unsure": "#B9BEC7",
}
FLAG = {"keep": "#009E73", "doubtful": "#56B4E9", "wrong": "#CC79A7", "exclude": "#AA3377"}
"""Flags; unflagged is LEFT_OUT."""

UNKNOWN_CATEGORY = "#8C929C"

SOURCE_CYCLE = (
    "#3A6EA5",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#AA3377",
    "#999933",
    "#7A86C8",
    "#44AA99",
    "#B07AA1",
    "#7F6A55",
)
ROBOT_CYCLE = ("#D55E00", "#E69F00", "#B8450B", "#F2A65A", "#8F3A05")

SCORE_SCALE = (
    (0.0, "#2B5C8A"),
    (0.35, "#7FA6C9"),
    (0.5, "#CFCBD4"),
    (0.65, "#F2A65A"),
    (1.0, "#D55E00"),
)
"""Far from robot data is blue, near is orange."""


def category_colors(names: Sequence[str]) -> dict[str, str]:
    """Category -> color; unknown ones are gray."""
    return {name: CATEGORY.get(name, UNKNOWN_CATEGORY) for name in names}


def source_colors(names: Sequence[str], roles: Sequence[str]) -> dict[str, str]:
    """Source -> color, by its place among the sources of its role."""
    found = {}
    pool = 0
    robot = 0
    for name, role in zip(names, roles, strict=True):
        if role == "robot":
            found[name] = ROBOT_CYCLE[robot % len(ROBOT_CYCLE)]
            robot += 1
        else:
            found[name] = SOURCE_CYCLE[pool % len(SOURCE_CYCLE)]
            pool += 1
    return found


def rgb(color: str) -> tuple[int, int, int]:
    """`#RRGGBB` -> three bytes."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def fade(color: str, alpha: float) -> str:
    """`#RRGGBB` -> `rgba(...)` for fills."""
    red, green, blue = rgb(color)
    return f"rgba({red},{green},{blue},{alpha:g})"
