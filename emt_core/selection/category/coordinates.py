"""Image coordinates in text: does a question give some, is an answer made of them.

The public sets write them in many ways: `[0.21, 0.55, 0.27, 0.62]` (Visual Genome in LLaVA),
`[(0.18, 0.57), ...]` (RoboPoint, RefSpatial), `<point x="52.3" y="44.8">` (PixMo),
`{<41><72><58><94>}` (MiniGPT-v2), `<loc0412>` (PaliGemma), `(41,72),(58,94)` (Qwen-VL),
`{"bbox_2d": [...]}` (Qwen2.5-VL).
"""

from __future__ import annotations

import re

_NUMBER = r"-?\d{0,5}\.?\d{1,6}(?:\s?(?:px|%))?"
TUPLE = re.compile(
    rf"[(\[{{]\s?(?:[xy]\d?\s?[=:]\s?)?{_NUMBER}(?:\s?[,;]\s?(?:[xywh]\d?\s?[=:]\s?)?{_NUMBER}){{1,15}}\s?[)\]}}]"
)
MARKUP = re.compile(
    r"<points?[\s>]|<box>|<\|box_start\|>|</?(?:quad|ref)>|<loc_?\d|<bin_\d|<\d{1,4}>\s?<\d{1,4}>|\"?(?:bbox"
    r"|point)_2d\"?\s?:|\bx1?\s?[=:]\s?\"?\d"
)
_OPENING = re.compile(r"[(\[{<=:]")
_YEARS = re.compile(r"^\W{0,2}(?:(?:19|20)\d\d\W{0,3}){2,16}$")
_WORD = re.compile(r"[a-z]{3,}")
_MARKUP_WORDS = frozenset("point points box ref loc bbox label alt quad start end the and".split())

# How many words may stand beside a coordinate in an answer that still *is* the coordinate ("The cup
# is at ...").
WORDS_PER_PLACE = 7
ACTION_NUMBERS = 6  # an image box has four numbers; end-effector actions have six or seven


def places(text: str) -> int:
    """How many points or boxes the text names."""
    if not _OPENING.search(text):
        return 0
    found = sum(1 for m in TUPLE.finditer(text) if not _YEARS.match(m[0]))
    return found + sum(1 for _ in MARKUP.finditer(text))


def answers_in_coordinates(answer: str) -> bool:
    """The answer is a place: coordinates with at most a few words beside each.

    RefSpatial's relations have none.
    """
    found = places(answer)
    if not found:
        return False
    words = sum(1 for m in _WORD.finditer(answer) if m[0] not in _MARKUP_WORDS)
    return words <= WORDS_PER_PLACE * found


def action_vector(answer: str) -> bool:
    """One bracket with six or more numbers that are no list of points: an action, not a place."""
    return any(
        m[0].count(",") + m[0].count(";") >= ACTION_NUMBERS - 1 and not _YEARS.match(m[0])
        for m in TUPLE.finditer(answer)
    )
