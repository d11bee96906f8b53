"""Sources that are tables or archives: Parquet, HF folders and streams, WebDataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from source_files import encoded, picture, write_json

from mutation import files, tables, tars
from mutation.images import any_image, bad_image
from mutation.tars import Member
from mutation.values import dumps, mutated
from mutation.variant import Damage, Mutant, Variant, chosen, pool

ROWS = 8
FIRST = 5
"""Rows of the first of two files."""

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
ASKED = {"question": "q", "answer": "a", "images": "image", "own_id": "id", "meta": ["kind"]}


def asked_table() -> pa.Table:
    """A question, its answer, an image in the row, an id and a further field."""
    images = [{"bytes": encoded(picture(n)), "path": None} for n in range(ROWS)]
    return pa.table(
        {
            "q": [f"what {n}?" for n in range(ROWS)],
            "a": [f"it {n}" for n in range(ROWS)],
            "image": pa.array(images, IMAGE),
            "id": [f"n{n}" for n in range(ROWS)],
            "kind": [["x"], ["y"]] * (ROWS // 2),
        }
    )


def talk_table() -> pa.Table:
    """Turns, and a list of images."""
    images = [[encoded(picture(n)), encoded(picture(n + 1))] for n in range(ROWS)]
    talk = [{"from": "human", "value": "<image><image>?"}, {"from": "gpt", "value": "Yes."}]
    return pa.table(
        {
            "conversations": [talk] * ROWS,
            "images": pa.array(images, pa.list_(pa.binary())),
            "label": ["cat"] * ROWS,
        }
    )


def chosen_table() -> pa.Table:
    """A question with choices, and images as files."""
    return pa.table(
        {
            "q": ["which?"] * ROWS,
            "options": ["['a', 'b']"] * ROWS,
            "right": list(range(2)) * (ROWS // 2),
            "image": [f"{n % 3}.png" for n in range(ROWS)],
        }
    )


CHOSEN = {"question": "q", "choices": "options", "answer": "right", "images": "image"}

Write = Callable[[pa.Table, Path, Random], None]


def write_set(table: pa.Table, folder: Path, write: Write, suffix: str, rng: Random) -> list[Path]:
    """The table in two files, as `save_to_disk` names them where they are arrow."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = (table.slice(0, FIRST), table.slice(FIRST))
    paths = [folder / f"data-{n:05d}-of-00002.{suffix}" for n in range(2)]
    for part, path in zip(parts, paths, strict=True):
        write(part, path, rng)
    for n in range(3):
        (folder / f"{n}.png").write_bytes(encoded(picture(n)))
    return paths


def table_variant(
    source: dict[str, Any], make: Callable[[], pa.Table], suffix: str, *, saved: bool = False
) -> Variant:
    """saved: with the files that `save_to_disk` leaves beside arrow shards."""
    writer = tables.write_parquet if suffix == "parquet" else tables.write_arrow
    keep = ("image",) if make is chosen_table else ()

    def write(folder: Path) -> None:
        paths = write_set(make(), folder / "tab", writer, suffix, Random(0))
        if saved:
            state = {"_data_files": [{"filename": path.name} for path in paths], "_split": "train"}
            write_json(folder / "tab" / "state.json", state)
            write_json(folder / "tab" / "dataset_info.json", {"features": {}})

    def of_table(folder: Path, rng: Random) -> Mutant:
        change = tables.changed(make(), rng, keep)
        write_set(change.table, folder / "tab", writer, suffix, rng)
        there = change.table.num_columns > 0
        return Mutant(change.did, ROWS if there else None, change.touched)

    def of_one_file(folder: Path, rng: Random) -> Mutant:
        """Files that do not fit to each other."""
        change = tables.changed(make(), rng, keep)
        at = rng.randrange(2)
        part = (change.table.slice(0, FIRST), change.table.slice(FIRST))[at]
        writer(part, _shards(folder)[at], rng)
        return Mutant(f"file {at}: {change.did}", None, change.touched)

    def of_bytes(folder: Path, rng: Random) -> Mutant:
        path = rng.choice(_shards(folder))
        did = files.damage(path, rng)
        counts = [tables.rows_in(path) for path in _shards(folder)]
        rows = sum(count or 0 for count in counts)
        return Mutant(did, rows if None not in counts else None)

    def of_places(folder: Path, rng: Random) -> Mutant:
        return Mutant(files.misplace(rng.choice(_shards(folder)), rng))

    def of_state(folder: Path, rng: Random) -> Mutant:
        path = folder / "tab" / rng.choice(["state.json", "dataset_info.json"])
        if rng.random() < 0.3:
            return Mutant(files.damage(path, rng))
        path.write_text(dumps(mutated(json.loads(path.read_text()), rng)))
        return Mutant(path.name)

    parts = [(0.55, of_table), (0.12, of_one_file), (0.28, of_bytes), (0.02, of_places)]
    return Variant(source, write, chosen(*parts, *[(0.06, of_state)] * saved))


def _shards(folder: Path) -> list[Path]:
    return sorted((folder / "tab").glob("data-*"))


# ---- WebDataset


def talk(n: int, images: int = 1) -> bytes:
    value = "<image>" * images + f"what {n}?"
    turns = [{"from": "human", "value": value}, {"from": "gpt", "value": f"it {n}"}]
    return json.dumps({"conversations": turns, "n": n}).encode()


GROUPS: tuple[tuple[Member, ...], ...] = (
    (Member("0.png", encoded(picture(0))), Member("0.json", talk(0))),
    (Member("1.jpg", encoded(picture(1), "JPEG")), Member("1.txt", b"a caption")),
    (
        Member("2.0.png", encoded(picture(2))),
        Member("2.1.webp", encoded(picture(3), "WEBP")),
        Member("2.json", talk(2, 2)),
    ),
    (Member("d/3.png", encoded(picture(4))), Member("d/3.json", b'{"caption": "of it"}')),
    (
        Member("4.gif", encoded(picture(5), "GIF")),
        Member("4.json", b'{"question": "?", "answer": "!"}'),
    ),
    (Member("5.json", json.dumps({"query": "hi", "response": "ho"}).encode()),),
    (
        Member("6.png", encoded(picture(6))),
        Member("6.txt", "größer".encode()),
        Member("6.cls", b"3"),
    ),
)
MEMBERS = [member for group in GROUPS for member in group]
OWNER = [row for row, group in enumerate(GROUPS) for _ in group]
"""Member -> row."""


def webdataset_variant(source: dict[str, Any], name: str) -> Variant:
    """The archive, and where it says so a second one."""

    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tars.archive(MEMBERS))

    def of_content(folder: Path, rng: Random) -> Mutant:
        """What one member holds: rows stay, and the others are what they were."""
        found = list(MEMBERS)
        at = rng.randrange(len(found))
        member = found[at]
        if member.name.endswith(".json"):
            facts = json.loads(member.data)
            data = dumps(mutated(facts, rng)).encode()
            if rng.random() < 0.2:
                data = files.damaged(member.data, rng)
        elif member.name.endswith("txt"):
            data = files.damaged(member.data, rng)
        else:
            data = rng.choice([any_image, bad_image])(rng)
        found[at] = replace(member, data=data)
        (folder / name).write_bytes(tars.archive(found, rng.choice([0, 1, 2])))
        return Mutant(member.name, len(GROUPS), frozenset([OWNER[at]]), "never")

    def of_members(folder: Path, rng: Random) -> Mutant:
        what, found = tars.other_members(MEMBERS, rng)
        while rng.random() < 0.3:
            what, found = tars.other_members(found, rng)
        data = tars.archive(found, rng.choice([0, 1, 2]))
        (folder / name).write_bytes(data * 2 if what == "concatenated" else data)
        return Mutant(f"members {what}")

    def of_header(folder: Path, rng: Random) -> Mutant:
        data = tars.archive(MEMBERS)
        for _ in range(rng.choice([1, 1, 2])):
            header = rng.choice(tars.places(MEMBERS))[0]
            data = tars.bad_header(data, header, rng)
        (folder / name).write_bytes(data)
        return Mutant("header")

    def of_data(folder: Path, rng: Random) -> Mutant:
        """Bytes inside one member, which no header is part of."""
        at = rng.randrange(len(MEMBERS))
        _, start, stop = tars.places(MEMBERS)[at]
        data = files.flipped(tars.archive(MEMBERS), rng, start=start, stop=stop)
        (folder / name).write_bytes(data)
        return Mutant(f"bytes of {MEMBERS[at].name}", len(GROUPS), frozenset([OWNER[at]]), "never")

    def of_bytes(folder: Path, rng: Random) -> Mutant:
        return Mutant(files.damage(folder / name, rng))

    def of_places(folder: Path, rng: Random) -> Mutant:
        if rng.random() < 0.5:
            shutil.copy(folder / name, (folder / name).with_name(".copy.tar"))
            return Mutant("a hidden copy beside it", len(GROUPS), frozenset(), "never")
        return Mutant(files.misplace(folder / name, rng))

    damages: tuple[tuple[float, Damage], ...] = (
        (0.35, of_content),
        (0.25, of_members),
        (0.15, of_header),
        (0.08, of_data),
        (0.15, of_bytes),
        (0.02, of_places),
    )
    return Variant(source, write, chosen(*damages))


PARQUET = tuple(
    table_variant(pool("parquet", "tab", **more), make, "parquet")
    for make, more in (
        (asked_table, ASKED),
        (talk_table, {"images": "images"}),
        (chosen_table, CHOSEN),
        (chosen_table, {"text": "q", "images": "image", "image_root": "."}),
    )
)
HF = tuple(
    table_variant(pool("hf", "tab", **more), make, "arrow", saved=True)
    for make, more in (
        (asked_table, ASKED),
        (talk_table, {"images": "images"}),
        (chosen_table, CHOSEN),
    )
)
STREAM = tuple(
    table_variant(pool("hf", "tab", streaming=True, **more), make, suffix)
    for make, more, suffix in (
        (asked_table, ASKED, "parquet"),
        (talk_table, {"images": "images"}, "parquet"),
        (asked_table, ASKED, "arrow"),
        (talk_table, {"images": "images"}, "arrow"),
    )
)
WEBDATASET = (
    webdataset_variant(pool("webdataset", "w.tar"), "w.tar"),
    webdataset_variant(pool("webdataset", "shards"), "shards/00.tar"),
)
