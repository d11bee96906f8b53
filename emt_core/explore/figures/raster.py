"""Grids of counts as pictures: a million points in some tens of kilobytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from emt_core.explore.figures.palette import SCORE_SCALE, rgb

FAINTEST = 0.45
"""Opacity of a cell with a single point; the fullest cell is opaque."""


def opacity(count: np.ndarray) -> np.ndarray:
    """float [h, w] in 0..1: logarithmic, so that sparse cells stay visible beside dense ones."""
    top = np.log1p(count.max()) if count.size and count.max() > 0 else 1.0
    scaled = FAINTEST + (1 - FAINTEST) * np.log1p(count) / top
    return np.where(count > 0, scaled, 0.0)


def paint_groups(leader: np.ndarray, count: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """uint8 [h, w, 4]: cells in the color of their leading group (int, -1 = empty)."""
    table = np.array([rgb(color) for color in colors] + [(0, 0, 0)], np.uint8)
    return _with_alpha(table[leader], np.where(leader >= 0, opacity(count), 0.0))


def paint_values(value: np.ndarray, count: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 [h, w, 4]: each cell's mean value on SCORE_SCALE; cells without a value stay empty."""
    place = np.clip((np.nan_to_num(value, nan=low) - low) / max(high - low, 1e-9), 0, 1)
    stops = np.array([stop for stop, _ in SCORE_SCALE])
    parts = np.array([rgb(color) for _, color in SCORE_SCALE], float)
    color = np.stack([np.interp(place, stops, parts[:, channel]) for channel in range(3)], axis=-1)
    return _with_alpha(
        color.round().astype(np.uint8), np.where(np.isfinite(value), opacity(count), 0.0)
    )


def png_uri(picture: np.ndarray) -> str:
    """uint8 [h, w, 4] with row 0 at the bottom (as grids are counted) -> data URI."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[::-1])).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _with_alpha(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.concatenate([color, (alpha * 255).round().astype(np.uint8)[..., None]], axis=-1)
