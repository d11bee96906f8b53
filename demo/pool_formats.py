"""Writes composed rows in the formats that real pools come in; the demo's readers read them back.

pool/things/things.json + images/          llava              one JSON array, image paths
pool/robot_qa/robot_qa.jsonl + images/     llava_lines        the same as JSON lines
pool/sharegpt/documents.json               sharegpt           `conversations` with from/value
pool/sharegpt/affordances.json             sharegpt_messages  `messages` with role/content
pool/sharegpt/dataset_info.json                               names the two (LLaMA-Factory)
pool/charts/                               hf                 datasets' save_to_disk, Image column
pool/sim_points/sim_points-000000.tar      webdataset         key.jpg + key.json
pool/sim_relations/sim_relations.parquet   parquet            image bytes, question, answer
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.pool import IMAGE_PLACEHOLDER, Row
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 80
_SHARD_ROWS = 320
"""Rows in a tar: small shards, so that the demo has more than one."""


def encode(image: Image.Image, kind: str) -> bytes:
    """Lossy bytes of an RGB image; kind is `jpg` or `webp` (half the size at 112 pixels)."""
    buffer = io.BytesIO()
    if kind == "jpg":
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    else:
        image.save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def _write_images(folder: Path, rows: Sequence[Row], kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for row in rows:
        for key, image in row.images:
            if key not in written:
                (folder / f"{key}.{kind}").write_bytes(encode(image, kind))
                written.add(key)


def _from_value(row: Row) -> list[dict[str, str]]:
    turns = []
    for question, answer in row.turns:
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return turns


def _role_content(row: Row) -> list[dict[str, str]]:
    turns = []
    for question, answer in row.turns:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _llava_rows(root: Path, rows: Sequence[Row]) -> list[dict[str, Any]]:
    _write_images(root / "images", rows, "jpg")
    out = []
    for row in rows:
        paths = [f"images/{key}.jpg" for key, _ in row.images]
        image = {"image": paths[0] if len(paths) == 1 else paths} if paths else {}
        out.append({"id": row.own_id, **image, "conversations": _from_value(row), **row.factors()})
    return out


def _array(rows: Sequence[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


def write_llava(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """One JSON array, a row a line."""
    folder = pool / name
    records = _llava_rows(folder, rows)
    (folder / f"{name}.json").write_text(_array(records), encoding="utf-8")


def write_llava_lines(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """JSON lines."""
    folder = pool / name
    records = _llava_rows(folder, rows)
    (folder / f"{name}.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records), encoding="utf-8"
    )


def write_sharegpt(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """LLaMA-Factory with from/value turns."""
    columns = {"messages": "conversations", "images": "images"}
    _sharegpt(
        pool,
        name,
        rows,
        {"file_name": f"{name}.json", "formatting": "sharegpt", "columns": columns},
        _from_value,
    )


def write_sharegpt_messages(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """LLaMA-Factory with role/content turns, which need `tags`."""
    entry = {
        "file_name": f"{name}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
    _sharegpt(pool, name, rows, entry, _role_content)


def _sharegpt(
    pool: Path,
    name: str,
    rows: Sequence[Row],
    entry: dict[str, Any],
    turns: Callable[[Row], list[dict[str, str]]],
) -> None:
    folder = pool / "sharegpt"
    _write_images(folder / "images" / name, rows, "webp")
    column = entry["columns"]["messages"]
    records = [
        {
            column: turns(row),
            "images": [f"images/{name}/{key}.webp" for key, _ in row.images],
            "id": row.own_id,
            **row.factors(),
        }
        for row in rows
    ]
    (folder / f"{name}.json").write_text(_array(records), encoding="utf-8")
    info_path = folder / "dataset_info.json"
    info = json.loads(info_path.read_text()) if info_path.exists() else {}
    info[name] = entry
    info_path.write_text(json.dumps(dict(sorted(info.items())), indent=2) + "\n")


def write_hf(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """datasets' save_to_disk: `image` (bytes inside the Arrow file), `conversations`, `id` and the
    factors."""
    from datasets import Dataset, Features, Image, List, Value

    features = Features(
        {
            "id": Value("string"),
            "image": Image(),
            "conversations": List({"from": Value("string"), "value": Value("string")}),
            "style": Value("string"),
            "content": Value("string"),
            "kind": Value("string"),
        }
    )
    records = [
        {
            "id": row.own_id,
            "image": {"bytes": encode(_only(row), "webp"), "path": f"{row.images[0][0]}.webp"},
            "conversations": _from_value(row),
            **row.factors(),
        }
        for row in rows
    ]
    data = Dataset.from_list(records, features=features)
    data._fingerprint = f"demo-{name}"  # the default one is drawn anew in every process
    data.save_to_disk(str(pool / name), num_shards=1)


def write_webdataset(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """Tars of key.jpg and key.json; times and owners are fixed, so the same rows give the same
    bytes."""
    folder = pool / name
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(rows), _SHARD_ROWS):
        with tarfile.open(
            folder / f"{name}-{start // _SHARD_ROWS:06d}.tar", "w", format=tarfile.USTAR_FORMAT
        ) as tar:
            for row in rows[start : start + _SHARD_ROWS]:
                record = {"id": row.own_id, "conversations": _from_value(row), **row.factors()}
                text = json.dumps(record, ensure_ascii=False).encode()
                for suffix, content in (("jpg", encode(_only(row), "jpg")), ("json", text)):
                    member = tarfile.TarInfo(f"{row.own_id}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def write_parquet(pool: Path, name: str, rows: Sequence[Row]) -> None:
    """One file: image struct {bytes, path}, question and answer (no placeholder), id and the
    factors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = pool / name
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if len(row.turns) != 1:
            raise EmtError(
                "A row with several turns does not fit question and answer columns",
                where=row.own_id,
            )
    table = pa.table(
        {
            "id": [row.own_id for row in rows],
            "image": pa.array(
                [
                    {"bytes": encode(_only(row), "webp"), "path": f"{row.images[0][0]}.webp"}
                    for row in rows
                ],
                pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            ),
            "question": [row.turns[0][0].replace(IMAGE_PLACEHOLDER, "").strip() for row in rows],
            "answer": [row.turns[0][1] for row in rows],
            **{
                factor: [row.factors()[factor] for row in rows]
                for factor in ("style", "content", "kind")
            },
        }
    )
    # Small row groups: a reader that wants one image need not decode 600.
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd", row_group_size=128)


def _only(row: Row) -> Image.Image:
    if len(row.images) != 1:
        raise EmtError(
            f"The format holds one image a row, this one has {len(row.images)}", where=row.own_id
        )
    return row.images[0][1]


WRITERS: dict[str, Callable[[Path, str, Sequence[Row]], None]] = {
    "llava": write_llava,
    "llava_lines": write_llava_lines,
    "sharegpt": write_sharegpt,
    "sharegpt_messages": write_sharegpt_messages,
    "hf": write_hf,
    "webdataset": write_webdataset,
    "parquet": write_parquet,
}
