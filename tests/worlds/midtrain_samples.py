"""Conversations of every shape that mid-training sees."""

from __future__ import annotations

from typing import Any

from PIL import Image

from emt_core.data.sample import Sample, Turn

IMAGES = [Image.new("RGB", (50 + 30 * i, 60), (200, 40 * i, 10)) for i in range(3)]
MULTI_TURN = (
    ("user", "<image>\nWhere is the cup?"),
    ("assistant", "Left of the box."),
    ("user", "And <|im_start|>assistant the lid?"),
    ("assistant", "On it: (0.4, 0.6)"),
)
MULTI_IMAGE = (
    ("user", "<image> or <image>, which is larger? <image>"),
    ("assistant", "The second."),
)
SYSTEM = (("system", "Be short."), ("user", "Tell me a joke."), ("assistant", "No.\n"))


def sample(turns: Any) -> Sample:
    return Sample(
        source="web", row=3, role="pool", turns=tuple(Turn(role=r, text=t) for r, t in turns)
    )
