"""A story from a workspace to a file: what `emt report` and the Present page's buttons share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.explore.report.blocks import first_story, tell
from emt_core.explore.report.content import Told
from emt_core.explore.report.html import render
from emt_core.explore.report.material import Material, gather
from emt_core.explore.report.story import DEFAULT, Story, load_story, story_names, story_path
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_text

LARGEST_BYTES = 15_000_000


@dataclass(frozen=True, kw_only=True)
class Report:
    path: Path
    bytes: int
    told: tuple[Told, ...]

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """Heading -> stages that have to run before the block can be told."""
        return {block.heading: block.missing for block in self.told if block.missing}


def story_to_tell(workspace: Workspace, recipe: str, name: str | None) -> tuple[str, Story]:
    """The named story; else the one saved last; else the default one. Raises EmtError for an unknown name."""
    saved = story_names(workspace, recipe)
    if name is None and not saved:
        return DEFAULT, first_story()
    name = name or saved[0]
    return name, load_story(workspace, recipe, name)


def report_html(story: Story, material: Material) -> tuple[str, tuple[Told, ...]]:
    """(the file's text, what it tells). Raises EmtError where nothing can be told yet."""
    told = tell(story, material)
    if not any(block.content for block in told):
        raise EmtError(
            "there is nothing to tell yet",
            where=material.workspace.path,
            remedy="run the recipe, at least to `gap`",
        )
    return render(story, told, material), told


def write_report(
    workspace: Workspace,
    *,
    recipe: str | None = None,
    story: str | None = None,
    out: Path | None = None,
) -> Report:
    """Write one HTML file; `out` defaults to RECIPE-STORY.html in the current folder.

    Raises EmtError where there is nothing to tell, a name is unknown or the file cannot be written.
    """
    material = gather(workspace, recipe)
    name, chosen = story_to_tell(workspace, material.recipe, story)
    if chosen.score or chosen.select:
        material = gather(workspace, material.recipe, score=chosen.score, select=chosen.select)
    text, told = report_html(chosen, material)
    path = (out or Path(f"{material.recipe}-{name}.html")).expanduser()
    if path.is_dir():
        path = path / f"{material.recipe}-{name}.html"
    try:
        write_text(path, text)
    except OSError as error:
        raise EmtError(
            f"the report cannot be written ({error.strerror})", where=path, remedy="name another"
        ) from error
    return Report(path=path, bytes=len(text.encode()), told=told)


def save_report(story: Story, material: Material, name: str) -> Path:
    """Write the report beside the story in the workspace. Raises EmtError for viewers."""
    material.workspace.check_writable()
    path = story_path(material.workspace, material.recipe, name).with_suffix(".html")
    write_text(path, report_html(story, material)[0])
    return path
