"""WebDataset: tar archives of `key.jpg`, `key.txt`, `key.json`, members of a key side by side.

    000017.jpg  000017.json      one image and {"conversations": [...], ...}
    000018.0.png 000018.1.png 000018.json   several images, in the order of their names
    000019.webp 000019.txt       an image and its caption

`path` is a tar, a folder of tars (in name order), or a brace pattern such as
`shards/{0000..0127}.tar`. An image is found again by its byte offset, so it is read with one seek.
Compressed archives have no such offsets and are refused.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import FileSet
from emt_core.data.paths import existing
from emt_core.data.readers.conversation import (
    RowProblem,
    build_sample,
    parse_turns,
    qa_turns,
    reject,
)
from emt_core.data.sample import ImageRef, Reject, Sample, Turn
from emt_core.errors import EmtError
from emt_core.recipe.sources import WebDatasetSource

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
TEXT_KEYS = ("id", "conversations", "messages", "question", "answer", "caption", "text")
MAX_TEXT_BYTES = 64 * 2**20
MAX_SHARDS = 100_000
BRACES = re.compile(r"\{([^{}]*)\}")


def locate(source: WebDatasetSource, base: Path) -> Path:
    data = base / Path(source.path).expanduser()
    return data if BRACES.search(source.path) else existing(data, source.name)


def shards(data: Path) -> list[Path]:
    """The archives, in order. Raises EmtError where there is none or a named one is missing."""
    if data.is_dir():
        found = sorted(data.rglob("*.tar"))
        if not found:
            raise EmtError("the folder holds no .tar file", where=data)
        return found
    found = [Path(name) for name in expand_braces(str(data))]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise EmtError(
            f"{len(missing)} of {len(found)} archives are missing",
            where=missing[0],
            remedy="check `path`",
        )
    return found


def expand_braces(pattern: str) -> list[str]:
    """`a-{08..10}.tar` to a-08.tar .. a-10.tar; `{a,b}`: either. Raises EmtError for too many."""
    done = []
    todo = [pattern]
    while todo:
        item = todo.pop(0)
        match = BRACES.search(item)
        if match is None:
            done.append(item)
            continue
        span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
        if span:
            first = int(span[1])
            last = int(span[2])
            if last - first >= MAX_SHARDS:
                raise EmtError(
                    f"the pattern names more than {MAX_SHARDS:,} archives", where=pattern
                )
            values = [f"{number:0{len(span[1])}d}" for number in range(first, last + 1)]
        else:
            values = match[1].split(",")
        todo = [item[: match.start()] + value + item[match.end() :] for value in values] + todo
    return done


def loose_images(source: WebDatasetSource, data: Path) -> bool:
    return False


def image_root(source: WebDatasetSource, data: Path) -> Path:
    if data.is_dir():
        return data.absolute()
    fixed = Path(str(data).split("{")[0] + "x").parent if "{" in str(data) else data.parent
    return fixed.absolute()


def files(source: WebDatasetSource, data: Path) -> FileSet:
    return FileSet(base=image_root(source, data), bulk=tuple(shards(data)))


def count(source: WebDatasetSource, data: Path) -> int | None:
    return None


def read(source: WebDatasetSource, data: Path) -> Iterator[Sample | Reject]:
    root = image_root(source, data)
    row = 0
    for path in shards(data):
        name = path.absolute().relative_to(root).as_posix()
        for group in _groups(path):
            try:
                yield _sample(source, group, name, row)
            except RowProblem as problem:
                yield reject(source.name, row, problem, group.key)
            row += 1


@dataclass
class Group:
    """Members of one key. images: (suffix of the name, member name, byte offset of the data)."""

    key: str
    images: list[tuple[str, str, int]] = field(default_factory=list)
    text: bytes | None = None
    json: bytes | None = None


def _groups(path: Path) -> Iterator[Group]:
    """Raises EmtError where the archive is compressed, cut off, or no tar."""
    group: Group | None = None
    member = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                # tarfile keeps every header it saw: a million of them would fill memory
                tar.members = []  # type: ignore[attr-defined]
                folder, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                if not member.isfile() or not dot or not stem:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if group is None or group.key != key:
                    if group is not None:
                        yield group
                    group = Group(key)
                _add(group, tar, member, suffix.lower())
            # tarfile takes a cut in a header for the end; only the zero block that every writer
            # leaves is one
            if os.pread(tar.fileobj.fileno(), 1, tar.offset) != b"\0":  # type: ignore[union-attr]
                raise tarfile.ReadError("its end marker is missing")
    except (tarfile.TarError, EOFError, OSError) as error:
        after = (
            f" after {member.name!r}, byte {member.offset_data + member.size:,}" if member else ""
        )
        raise EmtError(
            f"the archive cannot be read{after}: {error}",
            where=path,
            remedy="it may be cut off (fetch it again) or compressed (unpack it: .tar, not "
            ".tar.gz)",
        ) from error
    if group is not None:
        yield group


def _add(group: Group, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
    kind = suffix.rpartition(".")[2]
    if kind in IMAGE_SUFFIXES:
        group.images.append((suffix, member.name, member.offset_data))
    elif suffix in ("txt", "json"):
        content = tar.extractfile(member)
        text = content.read(MAX_TEXT_BYTES) if content else b""
        if suffix == "txt":
            group.text = text
        else:
            group.json = text


def _sample(source: WebDatasetSource, group: Group, archive: str, row: int) -> Sample:
    facts = _facts(group)
    ordered = sorted(group.images, key=lambda image: _natural(image[0]))
    meta = {name: value for name, value in facts.items() if name not in TEXT_KEYS}
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=_turns(group, facts, source.caption),
        images=[
            ImageRef(kind="tar", path=archive, member=name, index=at) for _, name, at in ordered
        ],
        missing="lead",
        own_id=facts.get("id", group.key),
        meta=meta,
    )


def _facts(group: Group) -> dict[str, Any]:
    if group.json is None:
        return {}
    try:
        found = json.loads(group.json)
    except (ValueError, RecursionError) as error:
        raise RowProblem("unreadable_row", f"{group.key}.json is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RowProblem("unreadable_row", f"{group.key}.json is no object")
    return found


def _turns(group: Group, facts: dict[str, Any], named: str | None) -> tuple[Turn, ...]:
    """named: the field that the source calls its caption."""
    if named is not None:
        if not isinstance(facts.get(named), str):
            raise RowProblem("no_answer", f"{group.key}.json has no text in {named!r}")
        return qa_turns("", facts[named])
    raw = facts.get("conversations", facts.get("messages"))
    if raw is not None:
        return parse_turns(raw)
    if "question" in facts:
        return qa_turns(facts["question"], facts.get("answer"))
    if group.text is not None:
        try:
            return qa_turns("", group.text.decode().strip())
        except UnicodeDecodeError as error:
            raise RowProblem(
                "unreadable_row", f"{group.key}.txt is not UTF-8: {error.reason}"
            ) from error
    caption = facts.get("caption", facts.get("text"))
    if caption is None:
        raise RowProblem(
            "unreadable_row",
            f"{group.key} has neither a .txt nor a .json with conversations or a caption",
        )
    return qa_turns("", caption)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """2.jpg before 10.jpg."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
