"""A feature store and the same vectors as a NumPy file, for several cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PART = 50_000


def parts(rows: int, dim: int):
    """float16 [n, dim] parts of unit variance: one block, rolled by a column each time."""
    base = np.random.default_rng(0).standard_normal((PART, dim), np.float32).astype(np.float16)
    for place in range(-(-rows // PART)):
        yield np.roll(base, place, axis=1)[: rows - place * PART]


def write_store(folder: Path, rows: int, dim: int, *, array: bool = True) -> None:
    """features.lance, and features.npy beside it for contenders that map a file."""
    import pyarrow as pa

    from emt_core.data.features import Features, feature_table

    features = Features.at(folder / "features.lance")
    waiting = []
    for part in parts(rows, dim):
        waiting.append(feature_table(part, [""] * len(part)))
        if len(waiting) == 20:
            features.table.append(pa.concat_tables(waiting))
            waiting = []
    if waiting:
        features.table.append(pa.concat_tables(waiting))
    if not array:
        return
    out = np.lib.format.open_memmap(
        folder / "features.npy", mode="w+", dtype=np.float16, shape=(rows, dim)
    )
    at = 0
    for part in parts(rows, dim):
        out[at : at + len(part)] = part
        at += len(part)
    out.flush()
