"""What is said of a robot's episode beside its instruction: subtasks, plans, questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

SPOKEN = {"speech": "interjection"}
"""Style of an answer -> style of what it answers."""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """Something said of an episode from a frame on, or of that frame alone."""

    style: str
    frame: int
    """The first frame that it is said of."""

    text: str
    role: str = "assistant"
    camera: str = ""
    """Of an annotation that is grounded in the picture of one camera."""

    lasts: bool = True
    """Whether it holds until the next of its style; else for its frame alone."""

    problem: str = ""
    """What is wrong with it; it has no text then. Without either it ends the one before."""

    @property
    def topic(self) -> tuple[str, str]:
        """Style and camera, which a question and its answer share."""
        return SPOKEN.get(self.style, self.style), self.camera


@dataclass(frozen=True, kw_only=True)
class Told:
    """An annotation as a row of the pool: a question about a frame, with its answer."""

    style: str
    frame: int
    camera: str
    question: str
    """ "" where the annotation answers the instruction."""

    answer: str
    """ "" where the question has none."""

    problem: str = ""


def at_frame(annotations: Sequence[Annotation], frame: int) -> list[Annotation]:
    """What is said of one frame: the latest of each lasting style, and what happened there."""
    lasting = {a.style: a for a in annotations if a.lasts and a.frame <= frame}
    latest = [
        a for a in annotations if a.lasts and a.frame <= frame and a.frame == lasting[a.style].frame
    ]
    return [*latest, *(a for a in annotations if not a.lasts and a.frame == frame)]


def questions(annotations: Sequence[Annotation]) -> Iterator[Told]:
    """Annotations as questions and answers, in order: what a user says of a frame, with what the
    assistant says in the same style, or in speech; else the assistant answers the instruction."""

    def key(annotation: Annotation) -> tuple[int, tuple[str, str]]:
        return annotation.frame, annotation.topic

    for (frame, (style, camera)), group in groupby(sorted(annotations, key=key), key):
        said = list(group)
        broken = [a for a in said if a.problem]
        asked = [a.text for a in said if a.text and a.role == "user"]
        answers = [a.text for a in said if a.text and a.role != "user"]
        for question, answer in zip_longest(asked, answers, fillvalue=""):
            yield Told(style=style, frame=frame, camera=camera, question=question, answer=answer)
        for one in broken:
            yield Told(
                style=style, frame=frame, camera=camera, question="", answer="", problem=one.problem
            )
