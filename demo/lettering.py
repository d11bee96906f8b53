"""Prints a word onto a flat surface of a rendered scene, in perspective and behind whatever hides
it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing import fitted_text, random_font

MIN_LETTER_PIXELS = 8.0
"""Least height of a letter in the *final* image, in pixels, and least visible share of the lettered
surface: below, the word may not be readable and the view is not used for reading."""

MIN_VISIBLE = 0.93
_TEXTURE = (288, 120)


def letter(
    rng: np.random.Generator,
    pixels: np.ndarray,
    visible: np.ndarray,
    corners: np.ndarray,
    text: str,
    ink: tuple[int, int, int],
) -> np.ndarray | None:
    """pixels (S, S, 3) uint8 with `text` printed on the quadrilateral `corners`, or None where it
    would not be legible.

    visible: (S, S) bool, pixels that show the surface. corners: (4, 2) image fractions, from top
    left clockwise.
    """
    size = pixels.shape[0]
    mask, height = _texture(rng, text)
    target = corners * size
    matrix = _homography(target)
    ys, xs = np.mgrid[0:size, 0:size]
    supersampled = np.zeros((size, size))
    covered = np.zeros((size, size))
    for dx, dy in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)):
        u, v, w = np.einsum("ij,jhw->ihw", matrix, np.stack([xs + dx, ys + dy, np.ones_like(xs)]))
        u = u / w * _TEXTURE[0]
        v = v / w * _TEXTURE[1]
        inside = (u >= 0) & (u < _TEXTURE[0]) & (v >= 0) & (v < _TEXTURE[1])
        column = np.where(inside, u, 0).astype(int)
        row = np.where(inside, v, 0).astype(int)
        supersampled += np.where(inside, mask[row, column], 0.0) / 4
        covered += inside / 4
    inked = supersampled > 0.05
    left = np.linalg.norm(target[3] - target[0]) * height / _TEXTURE[1]
    right = np.linalg.norm(target[2] - target[1]) * height / _TEXTURE[1]
    scale = size / 112
    if (
        not inked.any()
        or min(left, right) / scale < MIN_LETTER_PIXELS
        or visible[inked].mean() < MIN_VISIBLE
    ):
        return None
    alpha = (supersampled * visible)[..., None]
    return np.round(pixels * (1 - alpha) + np.asarray(ink) * alpha).astype(np.uint8)


def _texture(rng: np.random.Generator, text: str) -> tuple[np.ndarray, float]:
    """(H, W) float ink coverage in [0, 1] with the word centred, and the letters' height in texture
    pixels."""
    image = Image.new("L", _TEXTURE, 0)
    draw = ImageDraw.Draw(image)
    face = fitted_text(
        draw, text, font_name=random_font(rng), width=_TEXTURE[0] - 24, largest=110, smallest=40
    )
    draw.text((_TEXTURE[0] / 2, _TEXTURE[1] / 2), text, fill=255, font=face, anchor="mm")
    box = image.getbbox() or (0, 0, 1, 1)
    return np.asarray(image, np.float32) / 255, float(box[3] - box[1])


def _homography(target: np.ndarray) -> np.ndarray:
    """(3, 3) matrix from image pixels to the unit square, for the quadrilateral `target` (4, 2)."""
    unit = ((0, 0), (1, 0), (1, 1), (0, 1))
    rows = []
    values = []
    for (x, y), (u, v) in zip(target, unit, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.append(np.linalg.solve(np.asarray(rows), np.asarray(values)), 1.0).reshape(3, 3)
