"""The whole product in one screen: the stages, in order, and who feeds whom.

    sources -> embed -> estimator -> score -> select -> midtrain -> finetune -> evaluate

is the main line; the table below has every edge. A recipe may hold several named instances of a
stage (`estimator.learned`, `estimator.short`); `plan.py` joins them into a graph of keyed artifacts
and `runner.py` runs what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: the same word in emt_core/stages/, on the command line, in the app and on disk."""

    name: str
    does: str
    needs: tuple[str, ...] = ()
    """Parents that it always has."""

    if_there: tuple[str, ...] = ()
    """Parents that it takes where the recipe has them, and does without where it has none."""

    may_use: tuple[str, ...] = ()
    """Parents that its config can ask for."""

    one_of: tuple[str, ...] = ()
    """Exactly one of these feeds it: the one that the recipe's `parents` names, else the one with
    the same name, else the first that the recipe has."""

    seeded: bool = False
    """Its config has a `seed`, so an experiment's seeds can vary it."""

    @property
    def feeders(self) -> tuple[str, ...]:
        """Every stage that can feed it."""
        return (*self.needs, *self.if_there, *self.may_use, *self.one_of)

    @property
    def sentence(self) -> str:
        """What it does, with a capital letter and a full stop."""
        end = "" if self.does.endswith(("?", "...")) else "."
        return self.does[0].upper() + self.does[1:] + end


FLOW: tuple[Stage, ...] = (
    Stage(name="demos", does="record robot demonstrations from a simulator's experts", seeded=True),
    Stage(
        name="sources",
        does="read the pool and the robot data into one index; count and keep what is rejected",
    ),
    Stage(name="embed", does="frozen-encoder features for every sample", needs=("sources",)),
    Stage(
        name="category",
        does="what each sample asks for: spatial, grounding, text, chart, ...",
        needs=("sources",),
        may_use=("embed",),
    ),
    Stage(
        name="gap",
        does="how far pool and robot data lie apart: MMD matrix, diversity, 2-D map",
        needs=("sources", "embed"),
        seeded=True,
    ),
    Stage(
        name="estimator",
        does="train the proximity estimator: robot against pool",
        needs=("sources", "embed"),
        seeded=True,
    ),
    Stage(
        name="measure",
        does="fit another proximity measure: nearest robot frames, perplexity, ...",
        needs=("sources", "embed"),
        seeded=True,
    ),
    Stage(
        name="score",
        does="a proximity score for every sample, in one streaming pass",
        needs=("sources", "embed"),
        one_of=("estimator", "measure"),
        seeded=True,
    ),
    Stage(
        name="trust",
        does="does the score mean what it seems to mean?",
        needs=("sources", "embed", "score"),
        seeded=True,
    ),
    Stage(
        name="select",
        does="the mid-training set: who is in, who is out, and why",
        needs=("sources",),
        if_there=("embed", "category"),
        may_use=("score",),
        seeded=True,
    ),
    Stage(
        name="midtrain",
        does="train the VLM on the selection",
        needs=("sources", "select"),
        seeded=True,
    ),
    Stage(
        name="probe",
        does="did mid-training help or break the VLM? What its frozen features tell of robot data",
        may_use=("midtrain", "demos"),
        seeded=True,
    ),
    Stage(
        name="finetune",
        does="turn the VLM into a VLA and train it on demonstrations",
        may_use=("midtrain", "demos"),
        seeded=True,
    ),
    Stage(
        name="evaluate",
        does="closed-loop success at checkpoints",
        may_use=("finetune",),
        seeded=True,
    ),
    Stage(
        name="retain",
        does="what the VLM keeps: question sets before and after",
        needs=("midtrain",),
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in FLOW}
