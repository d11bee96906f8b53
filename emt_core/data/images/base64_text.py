"""Images that are written into a text as base64, plain or as a data URI."""

from __future__ import annotations

import base64
import binascii
import re

from emt_core.data.images.handles import ImageProblem

DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
BEGINNINGS = ("/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk", "SUkqA", "TU0AK", "AAAA")
"""Of JPEG, PNG, WebP, GIF, BMP, TIFF (both byte orders), AVIF and JPEG 2000."""

SHORTEST = 64
"""No image has fewer characters; names of files may begin in the same way."""

PLAIN = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")


def is_base64(text: str) -> bool:
    """Whether a text that names an image holds it instead."""
    if DATA_URI.match(text):
        return True
    return (
        len(text) >= SHORTEST
        and text.startswith(BEGINNINGS)
        and PLAIN.fullmatch(text, 0, 4096 if len(text) > 4096 else len(text)) is not None
    )


def from_base64(text: str) -> bytes:
    """Raises ImageProblem (`undecodable_image`)."""
    try:
        return base64.b64decode(DATA_URI.sub("", text, count=1), validate=False)
    except (binascii.Error, ValueError) as error:
        raise ImageProblem("undecodable_image", f"base64 text: {error}") from error
