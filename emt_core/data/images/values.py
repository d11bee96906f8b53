"""The images that a field of a row holds, however it writes them.

    "a/1.jpg"   base64 text   bytes   {"path": ...}   {"bytes": ..., "path": ...}   {"url": ...}
    {"type": "image", "image": ...}   {"type": "image_url", "image_url": {"url": ...}}
    lists of these; turns whose `content` is a list of parts; JSON text of either

Reader and decoder number a field's images by the same function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from emt_core.data.json_rows import parse_json

CARRIERS = ("bytes", "path", "image", "image_url", "url")
"""Keys of an object under which an image lies, the first that holds something."""

PARTS = ("image", "image_url", "input_image", "base64", "url")
"""Values of `type` that an object with an image may have; such a one may also use IN_PARTS."""

IN_PARTS = ("source", "data")


def is_absent(value: Any) -> bool:
    """Whether a field holds nothing: null, "", [], or the NaN that pandas writes for null."""
    return value is None or value == "" or value == [] or value != value


def numbered_images(value: Any) -> Iterator[tuple[int, str | bytes]]:
    """(place, path, base64 text or bytes) of a field's images: the place in a list of images, or
    the number among all parts of turns.

    Raises TypeError for a value that is no image.
    """
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        with suppress(ValueError):  # a name may begin so
            value = parse_json(value)
    if isinstance(value, list | tuple) and not any(_is_turn(item) for item in value):
        for place, item in enumerate(value):
            yield from ((place, image) for image in _images(item))
    else:
        yield from enumerate(_images(value))


def _is_turn(item: Any) -> bool:
    return isinstance(item, Mapping) and ("content" in item or "value" in item)


def _images(value: Any) -> Iterator[str | bytes]:
    if is_absent(value):
        return
    if isinstance(value, str | bytes):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _images(item)
    elif isinstance(value, Mapping):
        if _is_turn(value):  # of text, or of parts
            parts = value.get("content", value.get("value"))
            parts = parts if isinstance(parts, list | tuple) else ()
            yield from _images([part for part in parts if isinstance(part, Mapping)])
        elif value.get("type") in (None, *PARTS):
            names = CARRIERS if value.get("type") is None else (*CARRIERS, *IN_PARTS)
            carried = (value.get(name) for name in names)
            yield from _images(next((item for item in carried if not is_absent(item)), None))
    else:
        raise TypeError(f"an image is a path, base64 text or bytes, not {type(value).__name__}")
