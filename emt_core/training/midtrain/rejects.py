"""Samples of a selection that cannot be trained on: named, counted, and when they are too many."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.models.refusals import BY_PROCESSOR, JUDGED_FROM
from emt_core.workspace.files import write_text
from emt_core.workspace.lines import whole_lines

PARTS_OF_REASONS = {
    "chat template": ("template_refused", "template_not_understood"),
    "processor": BY_PROCESSOR,
}
"""Reasons that speak of the model as much as of the sample, by the part that fails."""


class RejectLog:
    """rejects.jsonl: {"id", "reason", "detail", "step"} a line; each sample once."""

    def __init__(self, path: Path, *, after: int) -> None:
        self.path = path
        kept = [entry for entry in whole_lines(path) if entry["step"] <= after]
        write_text(path, "".join(map(_line, kept)))
        self._seen = {entry["id"] for entry in kept}

    def write(self, step: int, rejected: list[dict[str, str]]) -> None:
        for entry in rejected:
            if entry["id"] not in self._seen:
                self._seen.add(entry["id"])
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(_line({**entry, "step": step}))


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def count_rejects(path: Path) -> dict[str, int]:
    """Reason -> samples."""
    return dict(sorted(Counter(entry["reason"] for entry in whole_lines(path)).items()))


@dataclass
class Usable:
    """Whether it makes sense to go on: asked after every step, with figures over all ranks."""

    seen: int = 0
    trained: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Rejects by the part of the model that fails."""

    def check(self, samples: int, rejected: list[dict[str, str]], path: Path) -> None:
        """Take in a step's samples and rejects; path: of rejects.jsonl.

        Raises EmtError where of JUDGED_FROM samples or more none could be trained on, or where the
        model's template or its processor failed on most.
        """
        self.trained += samples
        self.seen += samples + len(rejected)
        for part, reasons in PARTS_OF_REASONS.items():
            details = [entry["detail"] for entry in rejected if entry["reason"] in reasons]
            self.failed[part] += len(details)
            if self.seen < JUDGED_FROM or 2 * self.failed[part] <= self.seen:
                continue
            said = f" ({details[-1]})" if details else ""
            raise EmtError(
                f"the model's {part} failed on {self.failed[part]:,} of the first"
                f" {self.seen:,} samples{said}",
                where=path,
                remedy="use the model's instruct version;"
                " `emt check-model` shows what its template writes",
            )
        if self.seen >= JUDGED_FROM and not self.trained:
            raise EmtError(
                f"not one of the first {self.seen:,} samples can be trained on",
                where=path,
                remedy="the lines of this file say why; a larger cutoff or other images may help",
            )
