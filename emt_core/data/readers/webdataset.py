"""WebDataset: tar archives of `key.jpg`, `key.txt`, `key.json`, members of a key side by side.

    000017.jpg  000017.json      one image and {"conversations": [...], ...}
    000018.0.png 000018.1.png 000018.json   several images, in the order of their names
    000019.webp 000019.txt       an image and its caption
    22.05.png 22.05.json         the key is 22.05: nothing of the key 22 has a text of its own

`path` is a tar, a folder of tars (in name order), or a brace pattern such as
`shards/{0000..0127}.tar`. An image is found again by its byte offset, so it is read with one seek.
Compressed archives have no such offsets and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from emt_core.data.file_kind import real_files
from emt_core.data.fingerprint import FileSet
from emt_core.data.images.values import is_absent
from emt_core.data.json_rows import parse_json
from emt_core.data.paths import existing
from emt_core.data.readers.conversation import (
    RowProblem,
    build_sample,
    qa_turns,
    sample_or_reject,
    shown,
)
from emt_core.data.readers.fields import ASKED, CONVERSATIONS, IMAGES, QUESTIONS, refuse, row_turns
from emt_core.data.readers.tar_groups import Group, archive_parts
from emt_core.data.sample import ImageRef, Reject, Sample, Turn
from emt_core.data.splits import check_one_split
from emt_core.errors import EmtError
from emt_core.recipe.sources import LlavaSource, WebDatasetSource

TEXT_KEYS = ("id", *CONVERSATIONS, *ASKED, "question", "answer", "caption", "text")
SORT = "sort the archive by name: unpack it, then tar --sort=name -cf NEW.tar -C FOLDER ."
PLAIN = LlavaSource(format="llava", name="json", role="pool", path=".")
"""Says no field of a JSON: the known names are tried."""

MAX_SHARDS = 100_000
BRACES = re.compile(r"\{([^{}]*)\}")


def locate(source: WebDatasetSource, base: Path) -> Path:
    data = base / Path(source.path).expanduser()
    return data if BRACES.search(source.path) else existing(data, source.name)


def shards(data: Path) -> list[Path]:
    """The archives, in order. Raises EmtError where there is none or a named one is missing."""
    if data.is_dir():
        found = real_files(data.rglob("*.tar"), data)
        if not found:
            raise EmtError("the folder holds no .tar file", where=data)
        check_one_split(found, data)
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
        for part in archive_parts(path):
            seen = _Seen(path)
            for group in part:
                make = partial(_sample, source, group, name, row, seen)
                yield sample_or_reject(source.name, row, group.key, make)
                row += 1


class _Seen:
    """Keys of one archive, by their hash: members of a key have to lie side by side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: set[int] = set()
        self.text_only: set[int] = set()

    def check(self, group: Group) -> None:
        """Raises RowProblem for a key that came before, EmtError where its text was kept then."""
        key = hash(group.key)
        if key in self.text_only:
            raise EmtError(
                f"the members of {group.key!r} are not side by side: {group.members[0]!r} comes "
                "later than its text",
                where=self.path,
                remedy=SORT,
            )
        if key in self.keys:
            raise RowProblem(
                "members_apart",
                f"{group.key!r} comes again with {', '.join(group.members[:6])}; {SORT}",
            )
        self.keys.add(key)

    def keep(self, sample: Sample, group: Group) -> None:
        if sample.text_only:
            self.text_only.add(hash(group.key))


def _sample(source: WebDatasetSource, group: Group, archive: str, row: int, seen: _Seen) -> Sample:
    seen.check(group)
    if group.problem:
        raise group.problem
    facts = _facts(group)
    refuse(facts)
    ordered = sorted(group.images, key=lambda image: _natural(image[0]))
    unseen = next((name for name in IMAGES if not is_absent(facts.get(name))), None)
    if unseen and not ordered:
        raise RowProblem(
            "missing_image",
            f"{group.key}.json names an image ({unseen}: {shown(facts[unseen])}) and the archive "
            "has none of this key",
        )
    sample = build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=_turns(group, facts, source.caption),
        images=[
            ImageRef(kind="tar", path=archive, member=name, index=at) for _, name, at in ordered
        ],
        missing="lead",
        own_id=facts.get("id", group.key),
        meta={name: value for name, value in facts.items() if name not in TEXT_KEYS},
    )
    seen.keep(sample, group)
    return sample


def _facts(group: Group) -> dict[str, Any]:
    if group.json is None:
        return {}
    try:
        found = parse_json(group.json)
    except ValueError as error:
        raise RowProblem("unreadable_row", f"{group.key}.json is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RowProblem("unreadable_row", f"{group.key}.json is no object")
    return found


def _turns(group: Group, facts: dict[str, Any], named: str | None) -> tuple[Turn, ...]:
    """Of the JSON's conversation, its question and answer, the text, or the JSON's caption.

    named: the field that the source calls its caption.
    """
    if named is not None:
        if not isinstance(facts.get(named), str):
            raise RowProblem("no_answer", f"{group.key}.json has no text in {named!r}")
        return qa_turns("", facts[named])
    if any(not is_absent(facts.get(name)) for name in (*CONVERSATIONS, *QUESTIONS)):
        return row_turns(PLAIN, facts)
    if not is_absent(facts.get("question")):
        return qa_turns(facts["question"], facts.get("answer"))
    if group.text is not None:
        try:
            return qa_turns("", group.text.decode("utf-8-sig").strip())
        except UnicodeDecodeError as error:
            raise RowProblem(
                "unreadable_row", f"{group.key}.txt is not UTF-8: {error.reason}"
            ) from error
    caption = next((facts[n] for n in ("caption", "text") if not is_absent(facts.get(n))), None)
    if caption is None:
        raise RowProblem(
            "unreadable_row",
            f"{group.key} has neither a .txt nor a .json with conversations or a caption; it has "
            f"{', '.join(group.members[:6])} (a key ends at the first dot of a name)",
        )
    return qa_turns("", caption)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """2.jpg before 10.jpg."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
