"""Saved views: a page with its filters, or a region of the map, under a name.

    <workspace>/curation/<key of sources>/views.json
        [{"name", "note", "page", "query", "gap", "rows", "at"}, ...]

`query` holds the page's link parameters. A view with a region names its map (key of `gap`), because
coordinates of another projection mean nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.explore.tables.map import Region
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json, write_json

NAME_CHARS = 60
NOTE_CHARS = 300
MOST_VIEWS = 500


@dataclass(frozen=True, kw_only=True)
class SavedView:
    name: str
    note: str = ""
    page: str
    """`map` or `browse`."""
    query: dict[str, str] = field(default_factory=dict)
    gap: str = ""
    """Key of the map that a region was drawn on; "" without a region."""
    rows: int = 0
    """Samples in it when it was saved."""
    at: float = 0.0

    @property
    def region(self) -> Region | None:
        return Region.parse(self.query.get("region", "")) if self.gap else None


@dataclass(frozen=True)
class ViewBook:
    """The named views of one index."""

    workspace: Workspace
    sources: Artifact

    @property
    def path(self) -> Path:
        return self.workspace.path / "curation" / self.sources.key / "views.json"

    def read(self) -> list[SavedView]:
        """All views, newest first. Raises EmtError where the file cannot be read."""
        try:
            return [SavedView(**view) for view in reversed(read_json(self.path))]
        except FileNotFoundError:
            return []
        except TypeError as error:
            raise EmtError(
                "the saved views cannot be read", where=self.path, remedy="move the file away"
            ) from error

    def save(self, view: SavedView) -> None:
        """Raises EmtError for viewers and where the name is empty, too long or taken."""
        name = " ".join(view.name.split())
        if not name or len(name) > NAME_CHARS:
            raise EmtError("a view needs a name", remedy=f"1 to {NAME_CHARS} characters")
        if len(view.note) > NOTE_CHARS:
            raise EmtError("the view's note is too long", remedy=f"at most {NOTE_CHARS} characters")
        with self.workspace.lock("curation", self.sources.key):
            there = self.read()[::-1]
            if any(other.name == name for other in there):
                raise EmtError(
                    f"there is already a view {name!r}",
                    remedy="choose another name, or remove that one",
                )
            if len(there) >= MOST_VIEWS:
                raise EmtError(f"there are {len(there)} saved views", remedy="remove some first")
            kept = SavedView(**{**asdict(view), "name": name, "at": view.at or time.time()})
            write_json(self.path, [asdict(v) for v in [*there, kept]])

    def remove(self, name: str) -> None:
        with self.workspace.lock("curation", self.sources.key):
            write_json(self.path, [asdict(v) for v in self.read()[::-1] if v.name != name])
