"""A training aid: answer tokens learn to look at the place that they speak about.

Pointing needs two steps that only pay off together: find the visual token of the named thing, then
say where it is. The loss of the digits alone stayed at chance for hundreds of steps. We know the
place, so three heads of one layer are told to attend to it: for a point the cell of the target, for
a letter to read the cell of that letter, for "what is at (x, y)?" the cell of the point. The other
heads and layers are free. The shipped model is a plain InternVL.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from demo.grounding_loss import cell_at

if TYPE_CHECKING:
    import torch

    from demo.packing import Batch

GUIDED_LAYER = 3
"""Layer of the language model (from 0, of 6): the question is gathered below it, the answer formed
above."""

HEAD = {"point": 0, "read": 1, "spatial": 2}
"""One head for each way of knowing where to look: by name, by reading order, by coordinates."""

_POINT = re.compile(r"\((\d\.\d\d), (\d\.\d\d)\)")


def answer_gaze(
    kind: str, question: str, answer: str, marks: list[list], length: int
) -> np.ndarray:
    """int64 [length]: the visual token to look at while predicting each answer token (the last is
    the turn's end).

    Relies on the tokenizer's spelling: one token for each character of a text to read.
    """
    gaze = np.full(length, -1, dtype=np.int64)
    if kind in ("point", "spatial"):
        match = _POINT.search(answer if kind == "point" else question)
        if match:
            gaze[: length - 1] = cell_at(float(match[1]), float(match[2]))
    elif kind == "read":
        shown = "".join(label if len(label) == 1 else "\0" for label, _, _ in marks)
        plain = answer.replace(" ", "")
        at = shown.find(plain)
        if at >= 0 and shown.count(plain) == 1 and len(answer) == length - 1:
            found = iter(marks[at : at + len(plain)])
            for i, character in enumerate(answer):
                if character != " ":
                    _, x, y = next(found)
                    gaze[i] = cell_at(x, y)
    return gaze


def gaze_loss(attention: torch.Tensor | None, batch: Batch) -> torch.Tensor:
    """Mean -log of the attention that the kind's head pays to the right visual token; zero without
    such tokens."""
    import torch

    if attention is None:
        raise ValueError(
            "gaze needs attention probabilities: set the attention implementation to eager"
        )
    chosen = np.nonzero(batch.gaze >= 0)[0]
    if len(chosen) == 0:
        return attention.sum() * 0.0
    heads = torch.tensor([HEAD[batch.kinds[i]] for i in chosen])
    paid = attention[torch.from_numpy(chosen), heads, torch.from_numpy(batch.gaze[chosen])]
    return -(paid.float() + 1e-4).log().mean()
