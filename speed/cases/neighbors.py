"""10th nearest robot frame of every pool row, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cases import Contender, Steps, agreement
from cases.store import parts

UNIT = "pool rows of 256 float32, 8,192 robot frames"
ROWS = 50_000
BANK = 8192
DIM = 256
K = 10


def prepare(folder: Path, rows: int, *, growth: bool = False) -> None:
    pool = np.concatenate(list(parts(rows, DIM))).astype(np.float32)
    np.save(folder / "pool.npy", pool)
    np.save(folder / "robot.npy", np.random.default_rng(9).standard_normal((BANK, DIM), np.float32))


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / "pool.npy"), np.load(folder / "robot.npy")


def said(distance: np.ndarray) -> dict[str, float]:
    return {"mean distance": float(distance.mean(dtype=np.float64))}


def ours(folder: Path, rows: int) -> Steps:
    from safetensors.numpy import save_file

    from emt_core.proximity.measures.bank import FILE, Bank
    from emt_core.proximity.measures.knn import kth_distance

    pool, robot = read(folder)
    listed = {"vectors": robot.astype(np.float16), "weight": np.full(BANK, 1 / BANK, np.float32)}
    save_file(listed | {"rows": np.arange(BANK)}, folder / FILE)
    bank = Bank.read(folder, dim=DIM, normalize=False)
    kth_distance(pool[:64], bank, K)
    yield
    block = 1024
    found = [kth_distance(pool[at : at + block], bank, K) for at in range(0, rows, block)]
    yield said(np.concatenate(found))


def floor(folder: Path, rows: int) -> Steps:
    """The products alone."""
    import torch

    pool, robot = map(torch.from_numpy, read(folder))
    out = torch.empty(1024, BANK)
    yield
    for at in range(0, rows - rows % 1024, 1024):
        torch.mm(pool[at : at + 1024], robot.T, out=out)
    yield {}


def faiss_flat(folder: Path, rows: int) -> Steps:
    import faiss

    pool, robot = read(folder)
    index = faiss.IndexFlatL2(DIM)
    index.add(robot.astype(np.float16).astype(np.float32))
    index.search(pool[:64], K)
    yield
    distance, _ = index.search(pool, K)
    yield said(np.sqrt(distance[:, -1]))


def scikit(folder: Path, rows: int) -> Steps:
    from sklearn.neighbors import NearestNeighbors

    pool, robot = read(folder)
    model = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(
        robot.astype(np.float16).astype(np.float32)
    )
    model.kneighbors(pool[:64])
    yield
    distance, _ = model.kneighbors(pool)
    yield said(distance[:, -1])


CONTENDERS = {
    "ours": Contender(ours),
    "floor": Contender(floor),
    "faiss IndexFlatL2": Contender(faiss_flat),
    "scikit-learn NearestNeighbors, brute": Contender(scikit),
}


def check(found: dict[str, dict[str, float]]) -> str:
    return agreement(found, "mean distance", "the mean distance", within=1e-4)
