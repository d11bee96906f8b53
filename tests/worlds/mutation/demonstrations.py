"""Demonstrations in HDF5 and RLDS, and damage to their files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from demonstrations.hdf5_files import act_file, libero_file

from mutation import files
from mutation.images import bad_image
from mutation.values import HOSTILE, dumps, mutated
from mutation.variant import Mutant, Variant, chosen

WRITTEN = Path(__file__).parents[1] / "demonstrations" / "rlds"


def robot(format: str, path: str, camera: str, **more: Any) -> dict[str, Any]:
    facts = {"format": format, "name": "m", "role": "robot", "path": path, "camera": camera}
    return {**facts, "frames_per_episode": 3, **more}


# ---- HDF5


def hdf5_variant(source: dict[str, Any], images: str = "") -> Variant:
    """images: how ACT's files encode them; "" is a file of LIBERO's layout."""

    def write(folder: Path) -> None:
        if images:
            for episode in range(2):
                act_file(folder / "set" / f"episode_{episode}.hdf5", episode, images)
        else:
            libero_file(folder / "set" / "open_the_drawer_demo.hdf5", episodes=2)

    def of_bytes(folder: Path, rng: Random) -> Mutant:
        path = rng.choice(sorted((folder / "set").iterdir()))
        return Mutant(files.damage(path, rng) if rng.random() < 0.95 else files.misplace(path, rng))

    def of_contents(folder: Path, rng: Random) -> Mutant:
        path = rng.choice(sorted((folder / "set").iterdir()))
        with h5py.File(path, "r+") as file:
            did = [_change(file, rng) for _ in range(rng.choice([1, 1, 2]))]
        return Mutant(", ".join(did))

    return Variant(source, write, chosen((0.45, of_bytes), (0.55, of_contents)))


def _change(file: h5py.File, rng: Random) -> str:
    """One group or dataset, or an attribute of it, becomes another."""
    names: list[str] = []
    file.visit(names.append)
    if not names:
        return "nothing is left"
    name = rng.choice(names)
    if rng.random() < 0.25:
        attributes = (
            file[name].attrs
            if rng.random() < 0.5
            else file["data" if "data" in file else "/"].attrs
        )
        key = rng.choice([*attributes, "language_instruction", "problem_info"])
        attributes[key] = rng.choice(
            [0, float("nan"), np.zeros(9), b"\xff", "[" * 900, "{}", "null", *_texts()]
        )
        return f"{name}: attribute {key}"
    old = file[name]
    shape = tuple(min(size, 64) for size in getattr(old, "shape", None) or (3, 4))
    dtype = getattr(old, "dtype", np.float32)
    what = rng.choice(sorted(REPLACED))
    del file[name]
    if what == "gone":
        return f"{name}: gone"
    made = REPLACED[what](file, name, shape, dtype, rng)
    if made is not None:
        file[name] = made
    return f"{name}: {what}"


def _texts() -> list[str]:
    return [text for text in HOSTILE if "\0" not in text and text.isprintable()]


def _bomb(file: h5py.File, name: str, shape: Any, dtype: Any, rng: Random) -> None:
    huge = (shape[0], 20_000, 20_000, 3)
    file.create_dataset(name, huge, "uint8", chunks=(1, 5_000, 5_000, 3), compression="gzip")


def _encoded(file: h5py.File, name: str, shape: Any, dtype: Any, rng: Random) -> None:
    kept = file.create_dataset(name, (shape[0],), h5py.vlen_dtype(np.uint8))
    for place in range(shape[0]):
        kept[place] = np.frombuffer(bad_image(rng), np.uint8)


def _text_cells(file: h5py.File, name: str, shape: Any, dtype: Any, rng: Random) -> None:
    file.create_dataset(name, (shape[0],), h5py.string_dtype(), data=["\u202ex"] * shape[0])


def _many(file: h5py.File, name: str, shape: Any, dtype: Any, rng: Random) -> None:
    for place in range(200):
        file[f"{name}/{place}"] = np.zeros(2)


REPLACED: dict[str, Any] = {
    "gone": None,
    "no rows": lambda f, n, s, d, r: np.zeros((0, *s[1:])),
    "fewer rows": lambda f, n, s, d, r: np.zeros((max(s[0] - 1, 0), *s[1:])),
    "more rows": lambda f, n, s, d, r: np.zeros((s[0] + 3, *s[1:])),
    "wider": lambda f, n, s, d, r: np.zeros((*s, 2)),
    "scalar": lambda f, n, s, d, r: np.float64(3),
    "flat": lambda f, n, s, d, r: np.zeros(s[0]),
    "NaN": lambda f, n, s, d, r: np.full(s, np.nan),
    "infinite": lambda f, n, s, d, r: np.full(s, 1e308),
    "half": lambda f, n, s, d, r: np.zeros(s, np.float16),
    "complex": lambda f, n, s, d, r: np.zeros(s, np.complex64),
    "bytes": lambda f, n, s, d, r: np.zeros(s, "S4"),
    "records": lambda f, n, s, d, r: np.zeros(s[0], [("a", "i4"), ("b", "f4", 3)]),
    "text": _text_cells,
    "images": _encoded,
    "bomb": _bomb,
    "group": _many,
    "loop": lambda f, n, s, d, r: h5py.SoftLink("/" + n),
    "nowhere": lambda f, n, s, d, r: h5py.SoftLink("/nowhere"),
    "outside": lambda f, n, s, d, r: h5py.ExternalLink("../../etc/passwd", "x"),
    "root": lambda f, n, s, d, r: h5py.SoftLink("/"),
}


# ---- RLDS


def rlds_variant(style: str, camera: str) -> Variant:
    def write(folder: Path) -> None:
        shutil.copytree(WRITTEN / style, folder / "set")

    def of_json(folder: Path, rng: Random) -> Mutant:
        name = rng.choice(["dataset_info.json", "features.json", "features.json"])
        path = folder / "set" / "1.0.0" / name
        if rng.random() < 0.2:
            return Mutant(files.damage(path, rng))
        facts = json.loads(path.read_text())
        for _ in range(rng.choice([1, 1, 2, 4])):
            facts = mutated(facts, rng)
        path.write_text(dumps(facts))
        return Mutant(name)

    def of_bytes(folder: Path, rng: Random) -> Mutant:
        path = rng.choice(sorted((folder / "set" / "1.0.0").glob("*train.tfrecord*")))
        return Mutant(files.damage(path, rng) if rng.random() < 0.95 else files.misplace(path, rng))

    source = robot("rlds", "set", camera)
    return Variant(source, write, chosen((0.5, of_json), (0.5, of_bytes)))


HDF5 = (
    hdf5_variant(robot("hdf5", "set", "agentview_rgb")),
    hdf5_variant(robot("hdf5", "set", "cam_high", instruction="tidy up"), "pixels"),
    hdf5_variant(robot("hdf5", "set", "cam_high", instruction="tidy up"), "padded"),
)
RLDS = (
    rlds_variant("libero", "wrist_image"),
    rlds_variant("fractal", "image"),
    rlds_variant("language_table", "rgb"),
)
