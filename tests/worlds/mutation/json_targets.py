"""Sources of JSON rows: LLaVA in all its shapes, InternVL's list of files, ShareGPT, VCR."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from source_files import encoded, picture, write_json

from mutation import files
from mutation.images import any_image, bad_image
from mutation.values import RAW, dumps, mutated
from mutation.variant import Damage, Mutant, Variant, chosen, pool

PICTURES = ("0.png", "1.jpg", "2.webp", "sub/3.gif", "4.tiff", "5.bmp")


def pictures(folder: Path) -> None:
    for seed, name in enumerate(PICTURES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        form = {"jpg": "JPEG"}.get(path.suffix[1:], path.suffix[1:].upper())
        path.write_bytes(encoded(picture(seed), form))


B64 = base64.b64encode(encoded(picture(7))).decode()


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def llava_rows() -> list[dict[str, Any]]:
    """Twelve rows of the layouts that are read without a setting."""
    say = {"role": "assistant", "content": "A box."}
    part = {"type": "text", "text": "What?"}
    url = {"url": f"data:image/png;base64,{B64}"}
    return [
        {"id": "a", "image": "0.png", "conversations": turns("<image>\nWhat?", "A box.")},
        {"id": "b", "image": ["0.png", "1.jpg"], "conversations": turns("<image><image>?", "No.")},
        {"id": 3, "conversations": turns("Hello?", "Yes.", "Sure?", "Yes.")},
        {"image": "2.webp", "conversations": turns("No mark.", "Right."), "style": {"a": 1}},
        {"image": B64, "conversations": turns("<image>In the row?", "Yes.")},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": url}, part]},
                say,
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "image": "sub/3.gif"}, part]},
                say,
            ]
        },
        {"query": "<image>What?", "response": "It.", "images": ["4.tiff"], "history": [["a", "b"]]},
        {"images": ["5.bmp"], "texts": [{"user": "What?", "assistant": "A box."}]},
        {"image": "0.png", "conversations": turns("<|image_1|>What?", "A box.")},
        {"messages": [{"role": "user", "content": "Look: <img>1.jpg</img>"}, say]},
        {"id": "l", "image": "5.bmp", "conversations": turns("<image>", "Ends.")},
    ]


def users_of(rows: Sequence[dict[str, Any]], name: str) -> frozenset[int]:
    """Rows that name a file."""
    return frozenset(
        n
        for n, row in enumerate(rows)
        if f'"{name}"' in json.dumps(row) or f">{name}<" in json.dumps(row)
    )


Rows = Sequence[Any]
Style = Callable[[Rows], str]


def as_array(rows: Rows) -> str:
    return "[" + ",\n".join(dumps(row) for row in rows) + "]"


def as_lines(rows: Rows) -> str:
    return "".join(dumps(row) + "\n" for row in rows)


def as_objects(rows: Rows) -> str:
    return "\n".join(dumps(row, indent=1) for row in rows)


def rows_of_file(data: bytes, style: Style) -> tuple[int | None, str]:
    """(rows of a damaged file, whether it fails), by the standard library's decoder."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"[":
        try:
            return len(json.loads(data.decode())), "never"
        except (ValueError, RecursionError):
            return None, "must"
    lines = [line for line in data.split(b"\n") if line and not line.isspace()]
    if style is as_lines and len(lines) > 1:
        try:
            if isinstance(json.loads(lines[0].decode()), dict):
                return len(lines), "never"
        except (ValueError, RecursionError):
            pass
    return None, "may"


def json_damage(
    name: str,
    style: Style,
    rows: Callable[[], list[Any]],
    images: Sequence[str] = PICTURES,
) -> Damage:
    """Damage to a file of JSON rows: in rows, of their number, of the file's bytes."""

    def in_rows(folder: Path, rng: Random) -> Mutant:
        found = rows()
        some = frozenset(rng.sample(range(len(found)), rng.choice([1, 1, 2, 3])))
        for row in some:
            found[row] = mutated(found[row], rng)
            while rng.random() < 0.3:
                found[row] = mutated(found[row], rng)
        text = style(found)
        (folder / name).write_text(text)
        too_deep = any(raw in text for raw in RAW.values())
        first = style is not as_array and 0 in some  # it tells what kind of file this is
        if first and not isinstance(found[0], dict):
            return Mutant(f"rows {sorted(some)}")
        fails = "may" if first or (too_deep and style is not as_lines) else "never"
        return Mutant(f"rows {sorted(some)}", len(found), some, fails)

    def of_number(folder: Path, rng: Random) -> Mutant:
        found = rows()
        row = rng.randrange(len(found))
        what = rng.choice(["gone", "twice", "shuffled", "blank lines", "many"])
        if what == "gone":
            del found[row]
        elif what == "twice":
            found.insert(row, found[row])
        elif what == "shuffled":
            rng.shuffle(found)
        elif what == "many":
            found *= 40
        text = style(found)
        if what == "blank lines":
            text = re.sub(r"\n", lambda _: "\r\n" + rng.choice(["", " \n", "\t\r\n"]), text)
        (folder / name).write_text(text, newline="")
        same = frozenset() if what == "blank lines" else None
        return Mutant(f"rows {what}", len(found), same, "never")

    def of_bytes(folder: Path, rng: Random) -> Mutant:
        did = files.damage(folder / name, rng)
        count, fails = rows_of_file((folder / name).read_bytes(), style)
        return Mutant(did, count, None, fails)  # type: ignore[arg-type]

    def of_encoding(folder: Path, rng: Random) -> Mutant:
        path = folder / name
        text = path.read_text()
        code = rng.choice(["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp037"])
        path.write_bytes(text.encode(code))
        if code == "utf-8-sig":
            return Mutant(code, len(rows()), frozenset(), "never")
        return Mutant(code, fails="may" if code == "utf-16-le" else "must")  # it begins with a [

    damages = ((0.6, in_rows), (0.1, of_number), (0.18, of_bytes), (0.03, of_encoding))
    return chosen(*damages, *[(0.09, image_damage(rows, images))] * bool(images))


def image_damage(rows: Callable[[], list[Any]], names: Sequence[str] = PICTURES) -> Damage:
    """One image file damaged, or something else in its place."""

    def damage(folder: Path, rng: Random) -> Mutant:
        name = rng.choice(names)
        did = f"{name}: "
        if rng.random() < 0.4:
            did = files.misplace(folder / name, rng)
        elif rng.random() < 0.5:
            did = files.damage(folder / name, rng)
        else:
            (folder / name).write_bytes(rng.choice([any_image, bad_image])(rng))
        return Mutant(did, len(rows()), users_of(rows(), name), "never")

    return damage


def misplaced(name: str) -> Damage:
    """Something that is no plain file in the place of the file of rows."""

    def damage(folder: Path, rng: Random) -> Mutant:
        return Mutant(files.misplace(folder / name, rng))

    return damage


def json_variant(style: Style, **more: Any) -> Variant:
    name = "rows.json"

    def write(folder: Path) -> None:
        pictures(folder)
        (folder / name).write_text(style(llava_rows()))

    damage = chosen((0.98, json_damage(name, style, llava_rows)), (0.02, misplaced(name)))
    return Variant(pool("llava", name, **more), write, damage)


# ---- InternVL's meta.json, LLaMA-Factory's dataset_info.json: files that lead to files


def meta_variant() -> Variant:
    meta = {
        "boxes": {"root": ".", "annotation": "rows.jsonl", "repeat_time": 1},
        "more": {"root": "sub", "annotation": "more/rows.json"},
    }
    other = [{"image": "3.gif", "conversations": turns("<image>?", "It.")}] * 3

    def write(folder: Path) -> None:
        pictures(folder)
        write_json(folder / "meta.json", meta)
        (folder / "rows.jsonl").write_text(as_lines(llava_rows()))
        write_json(folder / "more" / "rows.json", other)

    def of_meta(folder: Path, rng: Random) -> Mutant:
        path = folder / "meta.json"
        if rng.random() < 0.3:
            return Mutant(files.damage(path, rng))
        path.write_text(dumps(mutated(mutated(meta, rng), rng)))
        return Mutant("meta.json")

    def of_rows(folder: Path, rng: Random) -> Mutant:
        found = json_damage("rows.jsonl", as_lines, llava_rows)(folder, rng)
        rows = found.rows + len(other) if found.rows is not None else None
        users = found.touched
        if users is not None and "3.gif" in found.did:
            users |= {len(llava_rows()) + n for n in range(len(other))}
        whole = users if rows == len(llava_rows()) + len(other) else None
        return Mutant(found.did, rows, whole, "may")

    return Variant(pool("llava", "meta.json"), write, chosen((0.5, of_meta), (0.5, of_rows)))


def sharegpt_rows() -> list[dict[str, Any]]:
    return [
        {"conversations": turns("<image>What?", "It."), "images": [PICTURES[n % 6]], "system": "s"}
        if n % 3
        else {"id": str(n), "conversations": turns("Hi?", "Ho."), "images": []}
        for n in range(10)
    ]


def sharegpt_variant(style: Style, suffix: str) -> Variant:
    info = {
        "mine": {
            "file_name": f"mine.{suffix}",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "images", "system": "system"},
            "tags": {
                "role_tag": "from",
                "content_tag": "value",
                "user_tag": "human",
                "assistant_tag": "gpt",
            },
        }
    }

    def write(folder: Path) -> None:
        pictures(folder)
        write_json(folder / "dataset_info.json", info)
        (folder / f"mine.{suffix}").write_text(style(sharegpt_rows()))

    def of_info(folder: Path, rng: Random) -> Mutant:
        path = folder / "dataset_info.json"
        if rng.random() < 0.2:
            return Mutant(files.damage(path, rng))
        entry = mutated(info["mine"], rng)
        path.write_text(dumps({"mine": entry}))
        moved = not isinstance(entry, dict) or entry.get("file_name") != info["mine"]["file_name"]
        return Mutant("dataset_info.json", None if moved else len(sharegpt_rows()))

    rows = json_damage(f"mine.{suffix}", style, sharegpt_rows)
    source = pool("sharegpt", ".", dataset="mine")
    return Variant(source, write, chosen((0.35, of_info), (0.65, rows)))


# ---- VCR


def vcr_rows() -> list[dict[str, Any]]:
    return [
        {
            "annot_id": f"train-{n}",
            "movie": "m",
            "img_fn": f"m/{n % 3}.jpg",
            "metadata_fn": f"m/{n % 3}.json",
            "objects": ["person", "person", "car"],
            "question": ["Why", "is", [0], "pointing", "at", [1, 2], "?"],
            "answer_choices": [[[0], "likes", "it", "."], ["No", "."]],
            "answer_label": 0,
            "rationale_choices": [["As", "one", "sees", "."], ["It", "does", "n't", "."]],
            "rationale_label": 1,
        }
        for n in range(8)
    ]


def vcr_variant(**more: Any) -> Variant:
    places = {"boxes": [[1.0, 2.0, 9.0, 9.0, 0.9]] * 3, "width": 24, "height": 16}

    def write(folder: Path) -> None:
        for n in range(3):
            image = folder / "vcr1images" / "m" / f"{n}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(encoded(picture(n), "JPEG"))
            write_json(image.with_suffix(".json"), places)
        (folder / "rows.json").write_text(as_lines(vcr_rows()))

    def of_boxes(folder: Path, rng: Random) -> Mutant:
        n = rng.randrange(3)
        path = folder / "vcr1images" / "m" / f"{n}.json"
        if rng.random() < 0.2:
            did = files.misplace(path, rng)
        elif rng.random() < 0.2:
            did = files.damage(path, rng)
        else:
            path.write_text(dumps(mutated(places, rng)))
            did = path.name
        return Mutant(did, 8, frozenset(row for row in range(8) if row % 3 == n), "never")

    def of_images(folder: Path, rng: Random) -> Mutant:
        n = rng.randrange(3)
        (folder / "vcr1images" / "m" / f"{n}.jpg").write_bytes(bad_image(rng))
        return Mutant("image", 8, frozenset(row for row in range(8) if row % 3 == n), "never")

    of_rows = json_damage("rows.json", as_lines, vcr_rows, images=())
    damage = chosen((0.65, of_rows), (0.25, of_boxes), (0.1, of_images))
    return Variant(pool("vcr", "rows.json", **more), write, damage)


# ---- images alone


def images_variant() -> Variant:
    """Rows of one image each; every image is a mutant."""
    rows = [{"image": f"{n}.png", "conversations": turns("<image>?", "It.")} for n in range(6)]

    def write(folder: Path) -> None:
        for n in range(6):
            (folder / f"{n}.png").write_bytes(encoded(picture(n)))
        (folder / "rows.json").write_text(as_array(rows))

    def damage(folder: Path, rng: Random) -> Mutant:
        for n in range(5):
            (folder / f"{n}.png").write_bytes(bad_image(rng))
        return Mutant("images", 6, frozenset(range(5)), "never")

    return Variant(pool("llava", "rows.json"), write, damage)
