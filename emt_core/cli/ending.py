"""What `emt run` and `emt status` end with: rows read, rows embedded, rows selected; and why the
others are out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from emt_core.cli.options import out
from emt_core.selection.candidates import ROBOT, could_be_selected

if TYPE_CHECKING:
    from emt_core.workspace.artifact import Artifact


def print_ending(artifacts: Mapping[str, Artifact]) -> None:
    """artifacts: label -> finished artifact, of any stage."""
    for line in ending(artifacts):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def ending(artifacts: Mapping[str, Artifact]) -> list[str]:
    """An artifact with several labels is told once, with all of them."""
    labels: dict[tuple[str, str], list[str]] = {}
    for label, artifact in artifacts.items():
        labels.setdefault((artifact.stage, artifact.key), []).append(label)
    lines = []
    for stage, tell in (("sources", _read), ("embed", _embedded), ("select", _selected)):
        for (of_stage, _), names in labels.items():
            if of_stage == stage:
                lines += tell(", ".join(names), artifacts[names[0]])
    return lines


def _read(name: str, sources: Artifact) -> list[str]:
    found = sources.metrics
    kept = found["pool"] + found["robot"]
    lines = [
        f"{name}: {kept:,} of {found['seen']:,} rows read "
        f"({found['pool']:,} pool, {found['robot']:,} robot)"
    ]
    if found["rejects"]:
        lines.append(f"  rejected: {_counts(found['rejects'])} ({sources.data / 'rejects.jsonl'})")
    return lines


def _embedded(name: str, embed: Artifact) -> list[str]:
    found = embed.metrics["statuses"]
    if not found:
        return []
    return [f"{name}: {embed.metrics['ok']:,} rows have features; without: {_counts(found)}"]


def _selected(name: str, select: Artifact) -> list[str]:
    found = select.metrics
    selected = found["selected"]
    eligible = found["eligible"]
    share = f" ({100 * selected / eligible:.1f} %)" if eligible else ""
    lines = [f"{name}: {selected:,} of {eligible:,} eligible rows selected{share}"]
    reasons = {name: rows for name, rows in found["reasons"].items() if name not in ("", ROBOT)}
    eligible_too = could_be_selected(np.arange(len(reasons)), list(reasons))
    for what, wanted in (("eligible, but left out", True), ("not eligible", False)):
        pairs = zip(reasons.items(), eligible_too, strict=True)
        if counts := dict(item for item, is_so in pairs if is_so == wanted):
            lines.append(f"  {what}: {_counts(counts)}")
    return lines


def _counts(rows: Mapping[str, int]) -> str:
    """`below_cut 995, near_duplicate 12`, the most frequent first."""
    ordered = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered)
