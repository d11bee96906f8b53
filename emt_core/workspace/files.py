"""Text and JSON files that are written whole or not at all, and their way to the disk."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False), durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write aside, flush to disk, rename: a reader sees the old file or the new one, never half.

    durable: False where the file may be lost when the power goes: the flush is what takes long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Raises FileNotFoundError where there is no file, EmtError where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # a byte order mark is passed over
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deep
        raise EmtError(f"{path.name} is not valid JSON ({error})", where=path) from error


def read_json_if_there(path: Path) -> Any:
    """As `read_json`, but None where there is no file."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def flush(path: Path, leave_out: Collection[Path] = ()) -> None:
    """fsync a file, or a folder with everything below it; links are not followed."""
    if path in leave_out or path.is_symlink():
        return
    if path.is_dir():
        for entry in path.iterdir():
            flush(entry, leave_out)
    flush_one(path)


def flush_one(path: Path) -> None:
    """fsync one path: a file's bytes or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
