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
    numbers = [
        numbered(
            "AUROC of image and text",
            facts["joint"]["auroc"],
            "How well robot and pool are told apart (1 perfectly, 0.5 not at all); below 0.7 "
            "these features hardly see the robot, so try another encoder or pooling, and at 1.000 "
            "the two are worlds apart, so look whether one part below is enough to give robots "
            "away.",
        )
    ]
    if "text" in facts:
        numbers += [
            numbered(
                "AUROC of the text alone",
                facts["text"]["auroc"],
                "0.5 means that words tell nothing; near 1 the wording alone gives robots away "
                "(instructions sound like nothing in the pool), so compare with an embed that has "
                "pool_text and robot_text both none.",
                good=0.75,
                bad=0.97,
            ),
            numbered(
                "Selection that the text alone would keep",
                facts["text"]["overlap"],
                "Share of the joint selection that a text-only one would take as well; chance "
                f"gives {top_share:.0%}, where words play no role (pool the last token to give "
                "them more), and near 1 words decide alone: leave the text out on both sides.",
                form="share",
            ),
        ]
    if "image" in facts:
        numbers += [
            numbered(
                "AUROC of the image alone",
                facts["image"]["auroc"],
                "Pictures should tell robots apart, yet not perfectly; near 1 together with a "
                "style audit that moves the ranking, the score reads how pictures were made: "
                "restyle them before you embed.",
                good=0.95,
                bad=0.999,
            ),
            numbered(
                "Selection that the image alone would keep",
                facts["image"]["overlap"],
                "Share of the joint selection that an image-only one would take as well; in the "
                "middle both parts count, near 1 the conversation plays no role: give the encoder "
                "the text, or pool its last token.",
                form="share",
            ),
        ]
    if "image" in facts and "text" in facts:
        numbers.append(
            numbered(
                "Rank correlation, image with text",
                between[names.index("image")][names.index("text")],
                "Above 0.3 picture and words call the same samples near; near 0 or below they "
                "disagree, so decide which of them you mean and leave the other out of the "
                "features.",
                good=0.3,
                bad=0.0,
            )
        )
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
    most = min(moved, key=lambda name: moved[name]) if moved else ""
    numbers = [
        numbered(
            "Ranking that survives restyling",
            min(moved.values()) if moved else None,
            "Lowest rank correlation of the pool before and after all images were brought to one "
            f"size, strong JPEG or grey{f' (here: {NAMES[most]})' if most else ''}; above 0.9 "
            "style decides little, and below 0.7 bring your images to that style before you "
            "embed.",
            good=0.9,
            bad=0.7,
        ),
        numbered(
            "Selection that survives restyling",
            min(kept) if kept else None,
            "Lowest share of the best samples that stay among the best; above 85 % is good, and "
            "below 60 % the cut depends on how pictures were stored: restyle them before you "
            "embed.",
            good=0.85,
            bad=0.6,
            form="share",
        ),
        numbered(
            "AUROC lost by restyling",
            max(joint["auroc"] - f["auroc"] for f in facts.values()) if facts else None,
            "How much worse robot and pool are told apart once style is gone, each time by a fit "
            "of its own; below 0.02 they differ in more than style, and above 0.1 much of the "
            "difference was style: restyle the images.",
            good=0.02,
            bad=0.1,
        ),
    ]
    return {
        **STYLE,
        "numbers": numbers,
        "notes": notes,
        "variants": facts,
        "top_share": top_share,
        "side": side,
    }
