"""Held-out questions of the demo: images from a split of seeds that no training data shows."""

from __future__ import annotations

from emt_core.evaluation.questions.question import Question


def demo_questions(n: int, seed: int) -> list[Question]:
    """`n` of each kind (caption, count, colour, read, chart, spatial, point), drawn now."""
    from demo.probe import KINDS, questions

    return [
        Question(
            id=f"{kind}:{place}",
            category=kind,
            text=sample.question,
            answer=sample.answer,
            judge="demo",
            image=sample.image,
            drawn=sample,
        )
        for kind in KINDS
        for place, sample in enumerate(questions(kind, n, seed))
    ]
