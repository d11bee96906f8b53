"""The figures of the modality and style audits with what they mean, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emt_core.proximity.trust.number import numbered

NAMES = {
    "joint": "image and text",
    "image": "image only",
    "text": "text only",
    "one_size": "one size",
    "jpeg": "strong JPEG",
    "grey": "greyscale",
}
MODALITY = {
    "title": "Modality audit",
    "question": "Is it the picture, the words, or both that make a sample near?",
}
STYLE = {
    "title": "Style audit",
    "question": "How far does the ranking move when only the looks of the images change?",
}


@dataclass(frozen=True, kw_only=True)
class Variants:
    vectors: dict[str, tuple[np.ndarray, np.ndarray]]
    """Variant -> (int64 rows, rising; float32 [n, dim])."""

    left_out: dict[str, str]
    """Variant that these features do not have -> why, in a sentence."""

    side: int
    """Pixels that the variant `one_size` scales every image down to."""

    own_side: int | None
    """Pixels that the encoder scales every image to anyway; None where it keeps an image's own
    size."""


def skipped_sections(why: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sections where the audits cannot be made."""
    modality: dict[str, Any] = {**MODALITY, "numbers": [], "skipped": why}
    return modality, {**STYLE, "numbers": [], "skipped": why}


def modality_section(
    facts: dict[str, Any], between: list[list[float]], top_share: float, notes: list[str]
) -> dict[str, Any]:
    """JSON of the modality audit.

    facts: variant -> name, auroc, spearman, overlap; between: rank correlations of the variants, in
    their order.
    """
    names = list(facts)
    numbers = [numbered("joint_auroc", facts["joint"]["auroc"])]
    for part in ("text", "image"):
        if part in facts:
            numbers.append(numbered(f"{part}_auroc", facts[part]["auroc"]))
            overlap = facts[part]["overlap"]
            numbers.append(numbered(f"{part}_overlap", overlap, top_share=top_share))
    if "image" in facts and "text" in facts:
        correlation = between[names.index("image")][names.index("text")]
        numbers.append(numbered("image_with_text", correlation))
    return {
        **MODALITY,
        "numbers": numbers,
        "notes": notes,
        "variants": facts,
        "top_share": top_share,
        "between": {"names": [facts[name]["name"] for name in names], "spearman": between},
    }


def style_section(
    facts: dict[str, Any], joint: dict[str, Any], top_share: float, notes: list[str], side: int
) -> dict[str, Any]:
    """JSON of the style audit.

    facts: restyling -> name, auroc, spearman, overlap, and fixed_* where the score as it is was
    asked.
    """
    moved = {name: f.get("fixed_spearman", f["spearman"]) for name, f in facts.items()}
    kept = [f.get("fixed_overlap", f["overlap"]) for f in facts.values()]
    lost = [joint["auroc"] - f["auroc"] for f in facts.values()]
    here = f" (here: {NAMES[min(moved, key=moved.__getitem__)]})" if moved else ""
    numbers = [
        numbered("restyled_ranking", min(moved.values(), default=None), here=here),
        numbered("restyled_overlap", min(kept, default=None)),
        numbered("restyled_auroc", max(lost, default=None)),
    ]
    return {
        **STYLE,
        "numbers": numbers,
        "notes": notes,
        "variants": facts,
        "top_share": top_share,
        "side": side,
    }
