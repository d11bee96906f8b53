"""WebDataset: plain tars, members of a key side by side, images inside.

<out>/shard-000000.tar     000000042.0.jpg 000000042.1.jpg 000000042.json; key = row of the index

The JSON holds the conversation and where the row comes from. Deterministic: no times, no owners.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from emt_core.selection.export.base import (
    READ,
    Exporter,
    Picture,
    Row,
    conversation,
    provenance_columns,
)

SHARD_ROWS, SHARD_BYTES = 10_000, 2**30


class WebDatasetExporter(Exporter):
    title = "WebDataset"
    modes = ("embed", "copy")

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        self.inside = True
        self.tar: tarfile.TarFile | None = None
        self.shards = self.rows = self.bytes = 0

    def write(self, row: Row, pictures: list[Picture]) -> None:
        if self.tar is None:
            path = self.folder / f"shard-{self.shards:06d}.tar"
            self.tar = tarfile.open(path, "w")  # noqa: SIM115  closed in write or close
            self.shards += 1
            self.rows = 0
            self.bytes = 0
        key = f"{row.index_row:09d}"
        for place, picture in enumerate(pictures):
            name = key + (f".{place}" if len(pictures) > 1 else "") + picture.suffix
            self._add(name, picture.content or b"")
        facts = {
            **provenance_columns(row),
            "conversations": conversation(row.sample),
            "meta": dict(row.sample.meta),
        }
        self._add(f"{key}.json", json.dumps(facts, ensure_ascii=False).encode())
        self.rows += 1
        if self.rows >= SHARD_ROWS or self.bytes >= SHARD_BYTES:
            self.tar.close()
            self.tar = None

    def _add(self, name: str, content: bytes) -> None:
        assert self.tar is not None
        member = tarfile.TarInfo(name)  # mtime, uid and gid are 0
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))
        self.tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
        self.bytes += len(content)

    def close(self) -> list[str]:
        if self.tar is not None:
            self.tar.close()
        last = f"{self.shards - 1:06d}"
        shards = "000000" if self.shards == 1 else f"{{000000..{last}}}"
        urls = str(self.out / f"shard-{shards}.tar")
        return [f"{READ}webdataset.WebDataset({urls!r}, shardshuffle=False).decode('pil')"]


EXPORTER = WebDatasetExporter
