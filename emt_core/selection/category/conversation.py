"""The category of a conversation: the majority of its user turns, on a tie the first one's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from emt_core.data.sample import Turn
from emt_core.selection.category.classifier import Classifier, Judgment
from emt_core.selection.category.turn import Exchange, exchange

MAX_TURNS = 40
"""User turns looked at; a majority of 40 is settled."""

_THANKS = re.compile(
    "(?:thank|thanks|great|cool|nice|ok|okay|perfect|bye|goodbye|good|hello|hi|merci|danke|gracias)$"
)
_FOLLOW_UP = re.compile("(?:and|or|but)$")
FOLLOW_UP_WORDS = 6
NO_IMAGE = Judgment("other", 1.0, "no image")
NO_QUESTION = Judgment("unsure", 0.0, "no user turn")


def classify(
    conversations: Sequence[tuple[Sequence[Turn], int]], classifier: Classifier
) -> list[Judgment]:
    """A judgment for each (turns, number of images). Never raises on any text."""
    asked = [_exchanges(turns) if images else [] for turns, images in conversations]
    judged = iter(classifier.judge([turn for turns in asked for turn in turns]))
    found = []
    for turns, (_, images) in zip(asked, conversations, strict=True):
        of_turns = [next(judged) for _ in turns]
        found.append(_majority(turns, of_turns) if images else NO_IMAGE)
    return found


def _exchanges(turns: Sequence[Turn]) -> list[Exchange]:
    pairs: list[tuple[str, str]] = []
    for turn in turns:
        if turn.role == "user":
            if len(pairs) == MAX_TURNS:
                break
            pairs.append((turn.text, ""))
        elif turn.role == "assistant" and pairs:
            question, said = pairs[-1]
            pairs[-1] = (question, said or turn.text)
    return [exchange(question, answer) for question, answer in pairs]


def _majority(turns: Sequence[Exchange], judged: Sequence[Judgment]) -> Judgment:
    """Thanks and turns that are unsure have no vote; "And the smallest?" repeats the last one."""
    votes: list[Judgment] = []
    for place, (turn, judgment) in enumerate(zip(turns, judged, strict=True)):
        if (
            votes
            and _FOLLOW_UP.match(turn.question[1])
            and len(turn.question) < FOLLOW_UP_WORDS + 2
        ):
            votes.append(votes[-1])
        elif judgment.category != "unsure" and not (place and _THANKS.match(turn.question[1])):
            votes.append(judgment)
    if not votes:
        return judged[0] if judged else NO_QUESTION
    counted = Counter(vote.category for vote in votes)
    most = max(counted.values())
    # a Counter keeps the order in which it met its names
    category = next(name for name, count in counted.items() if count == most)
    return max((v for v in votes if v.category == category), key=lambda vote: vote.probability)
