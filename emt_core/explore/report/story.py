"""A story: which blocks, in which order, with which headings and captions.

Saved as <workspace>/stories/<recipe>/<name>.json, edited on the Present page.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, ValidationError

from emt_core.errors import EmtError
from emt_core.recipe.base import Frozen
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json, write_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
DEFAULT = "story"
HEADING_CHARS = 200
CAPTION_CHARS = 4000
BLOCKS = 100


class StoryBlock(Frozen):
    """One place in a story."""

    kind: str = Field(pattern=r"^[a-z_]{1,40}$")
    """A key of KINDS in report.py. A kind that this version does not know is skipped."""

    heading: str = Field(default="", max_length=HEADING_CHARS)
    """Empty: the kind's default."""

    caption: str = Field(default="", max_length=CAPTION_CHARS)
    """Text before the figures, shown literally; empty lines separate paragraphs."""

    shown: bool = True
    """False keeps the block's place and text but does not show it."""


class Story(Frozen):
    """What the Present page and the HTML file show."""

    title: str = Field(default="What was selected, and what it changes", max_length=HEADING_CHARS)
    intro: str = Field(default="", max_length=CAPTION_CHARS)
    """Text below the title."""

    score: str | None = None
    """Label of the score that the story follows; None: the newest."""

    select: str | None = None
    """Label of the selection that the story follows; None: the newest one made by score."""

    blocks: tuple[StoryBlock, ...] = Field(default=(), max_length=BLOCKS)
    """In the order shown; each kind once."""


def story_names(workspace: Workspace, recipe: str) -> list[str]:
    """Saved stories of a recipe, the latest first."""
    files = list((workspace.path / "stories" / recipe).glob("*.json"))
    files.sort(key=lambda path: (-path.stat().st_mtime, path.stem))
    return [path.stem for path in files]


def story_path(workspace: Workspace, recipe: str, name: str) -> Path:
    """Raises EmtError where the name cannot be a file's name."""
    for what, text in (("story", name), ("recipe", recipe)):
        if not NAME.fullmatch(text):
            raise EmtError(
                f"{text!r} cannot be a {what}'s name",
                remedy="1-64 letters, digits, '-' or '_', starting with a letter",
            )
    return workspace.path / "stories" / recipe / f"{name}.json"


def load_story(workspace: Workspace, recipe: str, name: str) -> Story:
    """Raises EmtError where there is no such story, or its file does not hold one."""
    path = story_path(workspace, recipe, name)
    if not path.exists():
        known = ", ".join(story_names(workspace, recipe)) or "none"
        raise EmtError(
            f"there is no story {name!r}", where=path.parent, remedy=f"saved stories: {known}"
        )
    try:
        return Story.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise EmtError(
            f"the story's field {field}: {first['msg']}", where=path, remedy="fix or delete it"
        ) from error


def save_story(workspace: Workspace, recipe: str, name: str, story: Story) -> Path:
    """Write or replace a story, atomically. Raises EmtError for viewers and for a bad name."""
    workspace.check_writable()
    path = story_path(workspace, recipe, name)
    write_json(path, story.model_dump(mode="json"))
    return path


def delete_story(workspace: Workspace, recipe: str, name: str) -> None:
    workspace.check_writable()
    story_path(workspace, recipe, name).unlink(missing_ok=True)
