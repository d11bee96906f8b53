"""One sample, ready for a model; or the named reason why the model cannot take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """NumPy only: it crosses a process boundary."""

    length: int
    """Tokens, images included; what batches are sorted by."""

    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays [length], one entry a token (`input_ids`, ...); a batch pads them."""

    vision: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays [patches or tiles, ...]; a batch concatenates them along the first axis."""


class Refused(Exception):
    """A sample that a model cannot take: a reason to count it under, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.reason, self.detail)))
