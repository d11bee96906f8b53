"""Every block that a story can hold, in the order of the flow. The page and the HTML file tell what `tell` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emt_core.explore.report import gap_blocks, selection_blocks, training_blocks
from emt_core.explore.report.content import Content, Told
from emt_core.explore.report.material import Material
from emt_core.explore.report.story import Story, StoryBlock, default_story


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    heading: str
    shows: str
    """For the editor."""

    build: Callable[[Material], Content]
    needs: tuple[str, ...] = ()
    """Stages of the chain."""

    any_of: tuple[str, ...] = ()
    """Stages of which the recipe has at least one finished instance, in the chain or not."""

    def missing(self, material: Material) -> tuple[str, ...]:
        """Stages that have to run first."""
        lacking = tuple(stage for stage in self.needs if not material.chain.has(stage))
        if (
            not lacking
            and self.any_of
            and not any(material.of_stage(stage) for stage in self.any_of)
        ):
            return self.any_of[:1]
        return lacking


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="data",
            heading="The data",
            shows="Sources of the pool and robot sets, with counts.",
            build=gap_blocks.data,
            needs=("sources",),
        ),
        Kind(
            name="gap",
            heading="The gap",
            shows="How far pool and robot data lie apart: squared MMD, diversity.",
            build=gap_blocks.gap,
            needs=("sources", "gap"),
        ),
        Kind(
            name="map",
            heading="The map",
            shows="Pool and robot data in two dimensions, the selection in colour.",
            build=gap_blocks.projection,
            needs=("sources", "gap"),
        ),
        Kind(
            name="scores",
            heading="The scores",
            shows="Score distributions by role and source, spatial against text-heavy.",
            build=selection_blocks.scores,
            needs=("sources", "score"),
        ),
        Kind(
            name="selection",
            heading="The selection",
            shows="Size, composition before and after, diversity, distance to robot data.",
            build=selection_blocks.selection,
            needs=("sources", "category", "select"),
        ),
        Kind(
            name="examples",
            heading="Examples",
            shows="Samples near the robot data and far from it, drawn with a fixed seed.",
            build=selection_blocks.examples,
            needs=("sources", "score", "select"),
        ),
        Kind(
            name="training",
            heading="Training",
            shows="Loss curves of mid-training and fine-tuning runs.",
            build=training_blocks.training,
            any_of=("midtrain", "finetune"),
        ),
        Kind(
            name="retained",
            heading="What the VLM keeps",
            shows="Question sets before and after mid-training.",
            build=training_blocks.retained,
            any_of=("retain",),
        ),
        Kind(
            name="results",
            heading="The results",
            shows="Closed-loop success by run and task, with 95 % intervals.",
            build=training_blocks.results,
            any_of=("evaluate",),
        ),
    )
}


def first_story() -> Story:
    """The story that is told where nobody has written one: every block, in order."""
    return default_story(tuple(KINDS))


def tell_block(block: StoryBlock, material: Material) -> Told:
    """One block with its figures, or with the stages it waits for. The kind has to be a known one."""
    kind = KINDS[block.kind]
    missing = kind.missing(material)
    return Told(
        kind=kind.name,
        heading=block.heading or kind.heading,
        caption=block.caption,
        content=None if missing else kind.build(material),
        missing=missing,
    )


def tell(story: Story, material: Material) -> tuple[Told, ...]:
    """The story's shown blocks in order; kinds that this version does not know are left out."""
    return tuple(
        tell_block(block, material) for block in story.blocks if block.shown and block.kind in KINDS
    )
