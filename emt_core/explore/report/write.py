"""Write a story to an HTML file, for `emt report` and the Present page's buttons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.explore.reading import Reading, open_reading
from emt_core.explore.report.blocks import first_story, render_story
from emt_core.explore.report.content import RenderedBlock
from emt_core.explore.report.html import render
from emt_core.explore.report.story import DEFAULT, Story, load_story, story_names, story_path
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_text

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
