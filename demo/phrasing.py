"""How questions are put. Several natural phrasings for each intent; slots are filled by the
generators."""

from __future__ import annotations

import numpy as np

QUESTIONS: dict[str, tuple[str, ...]] = {
    "caption": (
        "Describe the image.",
        "What does this picture show?",
        "Write a short caption for this image.",
        "What can you see here?",
        "Give a one-sentence description of the picture.",
        "Caption this photo.",
        "Tell me what is in the image.",
        "Please describe what you see.",
    ),
    "count_one": (
        "How many {things} are there?",
        "How many {things} can you see?",
        "Count the {things}.",
        "What is the number of {things} in the image?",
        "How many {things} does the picture contain?",
        "Tell me how many {things} are shown.",
        "Could you count the {things} for me?",
    ),
    "count_all": (
        "How many objects are there in total?",
        "How many things are in the image?",
        "Count all objects.",
        "What is the total number of objects?",
    ),
    "colour_of": (
        "What colour is the {thing}?",
        "Which colour does the {thing} have?",
        "What is the colour of the {thing}?",
        "Name the colour of the {thing}.",
        "The {thing} is of which colour?",
        "Tell me the {thing}'s colour.",
    ),
    "colour_background": (
        "What colour is the background?",
        "Which colour does the background have?",
        "What is the background colour of this image?",
        "Name the colour behind the objects.",
    ),
    "point": (
        "Point to the {thing}.",
        "Where is the {thing}? Answer with a point.",
        "Give the coordinates of the {thing}.",
        "Locate the {thing} in the image.",
        "Find a point on the {thing}.",
        "Show me where the {thing} is as (x, y).",
        "At which image position is the {thing}?",
        "Mark the {thing} with a point.",
    ),
    "what_at": (
        "What is at the point {point}?",
        "Which object lies at {point}?",
        "Name the object at {point}.",
        "What do you find at position {point}?",
    ),
    "relation": (
        "Where is the {a} relative to the {b}?",
        "Where is the {a} compared with the {b}?",
        "In which direction from the {b} is the {a}?",
        "Seen from the {b}, where is the {a}?",
    ),
    "is_left": ("Is the {a} left of the {b}?", "Is the {a} to the left of the {b}?"),
    "is_right": ("Is the {a} right of the {b}?", "Is the {a} to the right of the {b}?"),
    "is_above": ("Is the {a} above the {b}?", "Does the {a} lie higher in the image than the {b}?"),
    "is_below": ("Is the {a} below the {b}?", "Does the {a} lie lower in the image than the {b}?"),
    "what_left": ("What is left of the {b}?", "Which object is to the left of the {b}?"),
    "what_right": ("What is right of the {b}?", "Which object is to the right of the {b}?"),
    "what_above": ("What is above the {b}?", "Which object is higher than the {b}?"),
    "what_below": ("What is below the {b}?", "Which object is lower than the {b}?"),
    "what_near": ("Which object is nearest to the {b}?", "What is closest to the {b}?"),
    "which_part": (
        "In which corner of the image is the {a}?",
        "Which quarter of the image holds the {a}?",
        "In which part of the picture is the {a}?",
    ),
    "read": (
        "What does the {surface} say?",
        "What is written on the {surface}?",
        "Read the text on the {surface}.",
        "Which word is printed on the {surface}?",
        "What text is shown on the {surface}?",
        "Please read the {surface}.",
    ),
    "read_title": (
        "What is the title of this book?",
        "What is the book called?",
        "Read the title on the cover.",
        "Which title does this cover show?",
    ),
    "read_author": (
        "Who wrote this book?",
        "Who is the author of the book?",
        "Which author is named on the cover?",
    ),
    "read_number": (
        "Which number is printed on the {surface}?",
        "What number does the {surface} show?",
        "Read the number on the {surface}.",
    ),
    "read_line": (
        "What does the {nth} line say?",
        "Read the {nth} line of the {surface}.",
        "Which word is in the {nth} line?",
    ),
    "chart_value": (
        "What is the value of {name}?",
        "How much does {name} have?",
        "Read off the value for {name}.",
        "Which value does the {chart} show for {name}?",
        "Give the number for {name}.",
    ),
    "chart_most": (
        "Which entry has the highest value?",
        "Which one is the largest in the {chart}?",
        "Where does the {chart} have its maximum?",
        "What has the greatest value?",
    ),
    "chart_least": (
        "Which entry has the lowest value?",
        "Which one is the smallest in the {chart}?",
        "Where does the {chart} have its minimum?",
    ),
    "chart_bars": (
        "How many {parts} does the {chart} have?",
        "How many {parts} are in the {chart}?",
    ),
    "chart_kind": (
        "What type of chart is this?",
        "Which kind of diagram is shown?",
        "Is this a bar chart, a line chart, a pie chart or a table?",
    ),
    "chart_trend": (
        "Does the line rise or fall from start to end?",
        "Is the last value higher or lower than the first: rise or fall?",
    ),
}
"""intent -> phrasings. At least six for each kind of question (a kind may have several intents)."""


def ask(rng: np.random.Generator, intent: str, **slots: str) -> str:
    """One phrasing of `intent` with its slots filled."""
    options = QUESTIONS[intent]
    return options[int(rng.integers(len(options)))].format(**slots)


def listing(names: list[str]) -> str:
    """["a cup", "a dog", "a key"] -> "a cup, a dog and a key"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


_IRREGULAR = {
    "bowling": "bowling pins",
    "deer": "deer",
    "die": "dice",
    "fish": "fish",
    "leaf": "leaves",
    "ox": "oxen",
    "potato": "potatoes",
    "scarf": "scarves",
    "sheep": "sheep",
    "snowman": "snowmen",
    "tomato": "tomatoes",
    "volcano": "volcanoes",
    "wolf": "wolves",
}
_PAIRS = frozenset("eyeglasses gloves headphones jeans socks".split())
_ALREADY_PLURAL = frozenset("books cherries fries grapes pancakes scales".split())
_UNCOUNTABLE = frozenset("bacon bread broccoli cheese garlic popcorn".split())


def article(noun: str) -> str:
    """The noun with what English puts before one of it: "an apple", "a pair of jeans", "some
    grapes"."""
    last = noun.split()[-1]
    if last in _PAIRS:
        return f"a pair of {noun}"
    if last in _ALREADY_PLURAL or last in _UNCOUNTABLE:
        return f"some {noun}"
    return f"an {noun}" if noun[0] in "aeiou" and not noun.startswith("uni") else f"a {noun}"


def plural(noun: str) -> str:
    """English plural of the last word of `noun`."""
    *head, last = noun.split()
    if last in _PAIRS or last in _ALREADY_PLURAL:
        many = last
    elif last in _UNCOUNTABLE:
        many = f"pieces of {last}"
    elif last in _IRREGULAR:
        many = _IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        many = last + "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return " ".join([*head, many])


def point(x: float, y: float) -> str:
    """Fractions of width and height to the answer format of all points."""
    return f"({min(max(x, 0.0), 1.0):.2f}, {min(max(y, 0.0), 1.0):.2f})"
