"""OpenAI messages: one JSON object a line, with content in parts.

<out>/messages.jsonl   {"messages": [{"role", "content": [{"type": "text", "text"} |
                       {"type": "image_url", "image_url": {"url"}}]}], "id", ...}
<out>/images/...       with `copy` and `link`: "url" is a path relative to <out>; with `embed` it is
                       a data URI, as OpenAI's fine-tuning and servers that speak its API ask
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from emt_core.selection.export.base import (
    PLACEHOLDER,
    READ,
    Exporter,
    Picture,
    Row,
    provenance_columns,
    settled_turns,
)


class OpenAIExporter(Exporter):
    title = "OpenAI messages"
    modes = ("copy", "link", "embed")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        self.file = (folder / "messages.jsonl").open("w", encoding="utf-8")

    def write(self, row: Row, pictures: list[Picture]) -> None:
        left = iter(pictures)
        messages = [
            {"role": turn.role, "content": list(_parts(turn.text, left))}
            for turn in settled_turns(row.sample)
        ]
        record = {"messages": messages, **provenance_columns(row)}
        self.file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> list[str]:
        self.file.close()
        path = str(self.out / "messages.jsonl")
        return [f"{READ}pandas.read_json({path!r}, lines=True)"]


def _parts(text: str, pictures: Iterator[Picture]) -> Iterator[dict[str, Any]]:
    """Text and pictures in the order of the placeholders; pictures are used up."""
    parts = text.split(PLACEHOLDER)
    for place, words in enumerate(parts):
        if place:
            yield {"type": "image_url", "image_url": {"url": _url(next(pictures))}}
        # between parts stands a new line for whoever joins them again
        words = words.removeprefix("\n") if place else words
        words = words.removesuffix("\n") if place < len(parts) - 1 else words
        if words.strip() or len(parts) == 1:
            yield {"type": "text", "text": words}


def _url(picture: Picture) -> str:
    if picture.content is None:
        return picture.path
    kind = Image.registered_extensions().get(picture.suffix.lower(), "")
    mime = Image.MIME.get(kind, "application/octet-stream")
    return f"data:{mime};base64,{base64.b64encode(picture.content).decode('ascii')}"


EXPORTER = OpenAIExporter
