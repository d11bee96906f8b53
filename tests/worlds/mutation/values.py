"""Mutated JSON values, and text of values that no Python object can be written as."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

NAMES = (
    "image images messages conversations texts query response history system video label rejected "
    "content from value role type text path bytes url id meta question answer user assistant"
).split()
"""Names of fields that readers look for."""

HOSTILE = (
    "",
    " ",
    "\0",
    "a\0b.png",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe",
    "\ud800",
    "\ufeff",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "file:///etc/passwd",
    "https://example.com/a.png",
    "C:\\Windows\\a.png",
    "\\\\host\\share\\a.png",
    ".",
    "..",
    "./././",
    "a" * 300,
    "/".join(["a"] * 3000),
    "{0.__class__.__init__.__globals__}",
    "{episode_index:99999999d}",
    "%s%n",
    "$(touch x)",
    "<image>" * 50,
    "<|image_1|><|image_9|>",
    "<img>../../x.png</img>",
    "<video>",
    "data:image/png;base64,AAAA",
    "data:image/png;base64," + "!" * 100,
    "iVBORw0KGgo" + "A" * 100,
    "[",
    '[{"from": "human"',
    "[[]]",
    "{'a': 1}",
    "NaN",
    "None",
    "\N{COMBINING ACUTE ACCENT}" * 500,
    "[" * 5_000,
    "(" * 500,
    "9" * 5_000,
)
"""Texts that a file may hold and that a reader may trip over."""

ODD = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    10**4_000,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    [],
    {},
    [[]],
    [None],
    [{}],
    [[[[[1]]]]],
    {"": ""},
    {"type": "image"},
    {"type": ["image"]},
    {"type": "image", "image": {"url": {"url": None}}},
    {"content": [{}]},
    {"bytes": "x"},
    {"path": 3},
    {"url": {"url": None}},
    [["a", "b"], ["c"]],
)

DEEP = "\ue000deep\ue000"
NESTED = "\ue000nested\ue000"
DIGITS = "\ue000digits\ue000"
TWICE = "\ue000twice\ue000"
RAW = {
    DEEP: "[" * 3_000 + "]" * 3_000,
    NESTED: "[" * 900 + "]" * 900,
    DIGITS: "9" * 6_000,
    TWICE: '{"a": 1, "a": 2}',
}
"""A text of `mutated` -> the JSON that `dumps` writes in its place."""


def dumps(value: Any, **options: Any) -> str:
    text = json.dumps(value, **options)
    for mark, raw in RAW.items():
        text = text.replace(json.dumps(mark, ensure_ascii=options.get("ensure_ascii", True)), raw)
    return text


def odd(rng: Random) -> Any:
    """Any value that a field should not hold."""
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(HOSTILE)
    if kind < 0.85:
        return copy.deepcopy(rng.choice(ODD))
    if kind < 0.92:
        return rng.choice(list(RAW))
    return rng.choice(
        [
            "x" * 2_000_000,
            ["a"] * 5_000,
            {f"k{n}": n for n in range(20_000)},
            list(range(5_000)),
            [{"from": "human", "value": "x"}] * 5_000,
            "<image>" * 20_000,
        ]
    )


def _is_json(value: Any) -> bool:
    try:
        return bool(json.dumps(value))
    except (TypeError, ValueError):
        return False


def other_type(value: Any, rng: Random) -> Any:
    """The same content as another type."""
    if not _is_json(value):  # of a table
        value = str(value)
    choices: list[Any] = [[value], {"value": value}, {"0": value}, [value, value]]
    if isinstance(value, str):
        choices += [list(value[:50]), len(value), ascii(value), json.dumps(value)]
    elif isinstance(value, dict):
        choices += [list(value.values()), list(value), json.dumps(value), list(value.items())]
    elif isinstance(value, list):
        choices += [dict(enumerate(value)), json.dumps(value), value[:1] and value[0]]
    else:
        choices += [str(value), bool(value)]
    return rng.choice(choices)


def mutated(value: Any, rng: Random) -> Any:
    """A copy with one change at a random depth."""
    if isinstance(value, dict) and value and rng.random() < 0.75:
        return _changed_object(dict(value), rng)
    if isinstance(value, list) and value and rng.random() < 0.8:
        return _changed_list(list(value), rng)
    if isinstance(value, str) and value and rng.random() < 0.3:
        return changed_text(value, rng)
    if rng.random() < 0.3:
        return other_type(value, rng)
    return odd(rng)


def _changed_object(value: dict[str, Any], rng: Random) -> dict[str, Any]:
    name = rng.choice(list(value))
    what = rng.random()
    if what < 0.15:
        del value[name]
    elif what < 0.25:
        value[rng.choice([*NAMES, *HOSTILE[:8]])] = odd(rng)
    elif what < 0.32:
        value[rng.choice(NAMES)] = value.pop(name)
    elif what < 0.36:
        value = {name: value}
    else:
        value[name] = mutated(value[name], rng)
    return value


def _changed_list(value: list[Any], rng: Random) -> list[Any]:
    place = rng.randrange(len(value))
    what = rng.random()
    if what < 0.1:
        del value[place]
    elif what < 0.2:
        value.insert(place, copy.deepcopy(value[place]))
    elif what < 0.25:
        rng.shuffle(value)
    elif what < 0.3:
        value.insert(place, odd(rng))
    else:
        value[place] = mutated(value[place], rng)
    return value


def changed_text(text: str, rng: Random) -> str:
    place = rng.randrange(len(text))
    hostile = rng.choice(HOSTILE)
    return rng.choice(
        [text[:place], text[place:], text[:place] + hostile + text[place:], hostile, text * 3]
    )
