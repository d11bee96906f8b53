"""A story rendered: every block it can hold, in the order of the flow, and the HTML file.

The Present page and the HTML file both draw what `render_story` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.explore.reading import Reading, open_reading
from emt_core.explore.report import gap_blocks, selection_blocks, training_blocks
from emt_core.explore.report.content import Content, RenderedBlock
from emt_core.explore.report.html import render
from emt_core.explore.report.story import (
    DEFAULT,
    Story,
    StoryBlock,
    load_story,
    story_names,
    story_path,
)
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_text


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    heading: str
    shows: str
    """For the editor."""

    build: Callable[[Reading], Content]
    needs: tuple[str, ...] = ()
    """Stages of the chain."""

    any_of: tuple[str, ...] = ()
    """Stages of which the recipe has at least one finished instance, in the chain or not."""

    def missing(self, reading: Reading) -> tuple[str, ...]:
        """Stages that have to run first."""
        if self.any_of and not any(reading.of_stage(stage) for stage in self.any_of):
            return self.any_of[:1]
        return tuple(stage for stage in self.needs if not reading.chain.has(stage))


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
            shows="Pool and robot data in two dimensions, the selection in color.",
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
    """The story of a recipe for which none was saved: every block, in order."""
    return Story(blocks=tuple(StoryBlock(kind=kind) for kind in KINDS))


ContentOf = Callable[[Kind, Reading], Content]
"""Makes a block's figures; the page's is cached."""


def render_story(
    story: Story,
    reading: Reading,
    content_of: ContentOf = lambda kind, reading: kind.build(reading),
) -> tuple[RenderedBlock, ...]:
    """The story's shown blocks in order, without kinds that this version does not know.

    Each has its figures, or the stages that it waits for.
    """
    rendered = []
    for block in story.blocks:
        if not block.shown or block.kind not in KINDS:
            continue
        kind = KINDS[block.kind]
        missing = kind.missing(reading)
        rendered.append(
            RenderedBlock(
                kind=kind.name,
                heading=block.heading or kind.heading,
                caption=block.caption,
                content=None if missing else content_of(kind, reading),
                missing=missing,
            )
        )
    return tuple(rendered)


LARGEST_BYTES = 15_000_000


@dataclass(frozen=True, kw_only=True)
class Report:
    path: Path
    bytes: int
    blocks: tuple[RenderedBlock, ...]

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """Heading -> stages that have to run before the block can be shown."""
        return {block.heading: block.missing for block in self.blocks if block.missing}


def find_story(workspace: Workspace, recipe: str, name: str | None) -> tuple[str, Story]:
    """(name, story): the named one, else the one saved last, else the default.

    Raises EmtError for an unknown name.
    """
    saved = story_names(workspace, recipe)
    if name is None and not saved:
        return DEFAULT, first_story()
    name = name or saved[0]
    return name, load_story(workspace, recipe, name)


def report_html(story: Story, reading: Reading) -> tuple[str, tuple[RenderedBlock, ...]]:
    """(the file's text, its blocks). Raises EmtError where no block has content yet."""
    blocks = render_story(story, reading)
    if not any(block.content for block in blocks):
        raise EmtError(
            "there is nothing to report yet",
            where=reading.workspace.path,
            remedy="run the recipe, at least to `gap`",
        )
    return render(story, blocks, reading), blocks


def write_report(
    workspace: Workspace,
    *,
    recipe: str | None = None,
    story: str | None = None,
    out: Path | None = None,
) -> Report:
    """Write one HTML file; `out` defaults to RECIPE-STORY.html in the current folder.

    Raises EmtError where no block has content, a name is unknown or the file cannot be written.
    """
    reading = open_reading(workspace, recipe)
    name, chosen = find_story(workspace, reading.recipe, story)
    if chosen.score or chosen.select:
        reading = open_reading(workspace, reading.recipe, score=chosen.score, select=chosen.select)
    text, blocks = report_html(chosen, reading)
    path = (out or Path()).expanduser()
    if path.is_dir():
        path = path / f"{reading.recipe}-{name}.html"
    try:
        write_text(path, text)
    except OSError as error:
        reason = f"the report cannot be written ({error.strerror})"
        raise EmtError(reason, where=path, remedy="choose another path") from error
    return Report(path=path, bytes=len(text.encode()), blocks=blocks)


def save_report(story: Story, reading: Reading, name: str) -> Path:
    """Write the report beside the story in the workspace. Raises EmtError for viewers."""
    reading.workspace.check_writable()
    path = story_path(reading.workspace, reading.recipe, name).with_suffix(".html")
    write_text(path, report_html(story, reading)[0])
    return path
