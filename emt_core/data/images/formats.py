"""Formats of images that are read: none that runs an interpreter (EPS, PDF)."""

from __future__ import annotations

from functools import cache

from PIL import Image

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")


@cache
def readable_suffixes() -> frozenset[str]:
    """Suffixes of the image formats that are read, in lower case without the dot."""
    Image.init()
    return frozenset(end[1:] for end, name in Image.EXTENSION.items() if name in FORMATS)
