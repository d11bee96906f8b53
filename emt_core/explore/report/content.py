"""What a block of a story shows: figures, tables, numbers, pictures.

The Present page and the HTML file draw the same objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import plotly.graph_objects as go

from emt_core.workspace.artifact import Artifact


@dataclass(frozen=True, kw_only=True)
class Figure:
    title: str
    """Also the text for screen readers."""

    figure: go.Figure


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A row of headline figures: (label, value as written, explanation)."""

    values: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text; all columns but the first `text_columns` are aligned right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1


@dataclass(frozen=True, kw_only=True)
class Picture:
    image: bytes | None
    """WebP; None for a sample without an image."""

    note: str
    """Score, category and source."""

    text: str
    """From the data: shown literally, never parsed."""

    sample: str
    """Sample id."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    title: str
    pictures: tuple[Picture, ...]


Item = Figure | Numbers | Table | Gallery


@dataclass(frozen=True, kw_only=True)
class Content:
    """A block's figures and sentences, all computed."""

    sentences: tuple[str, ...]
    """Every number in them comes from an artifact."""

    items: tuple[Item, ...]
    artifacts: tuple[Artifact, ...]
    """What the block was made from."""


@dataclass(frozen=True, kw_only=True)
class RenderedBlock:
    """One block of a story, ready to be shown."""

    kind: str
    heading: str
    caption: str
    """The user's text; empty lines separate paragraphs."""

    content: Content | None = None
    missing: tuple[str, ...] = field(default=())
    """Stages that have to run before there is any content."""
