"""Likeness of representations against a plain reference; drift of real tiny VLMs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.data.sample import ImageRef
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.training.probe.drift import (
    GROUPS,
    Layers,
    Shown,
    drift_rows,
    modules_of,
    representations,
)
from emt_core.training.probe.similarity import linear_cka, neighbor_overlap


def plain_cka(x: np.ndarray, y: np.ndarray) -> float:
    """As the paper writes it, over features."""
    x = x - x.mean(0)
    y = y - y.mean(0)
    cross = np.linalg.norm(y.T @ x, "fro") ** 2
    return float(cross / (np.linalg.norm(x.T @ x, "fro") * np.linalg.norm(y.T @ y, "fro")))


def test_cka_is_the_papers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 7)) + 5
    y = np.tanh(x[:, :4] @ rng.normal(size=(4, 9))) + 0.2 * rng.normal(size=(60, 9))
    assert linear_cka(x, y) == pytest.approx(plain_cka(x, y), rel=1e-9)
    turned = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    assert linear_cka(x, 3 * x @ turned) == pytest.approx(1)
    assert linear_cka(x, rng.normal(size=(60, 7))) < 0.3
    assert np.isnan(linear_cka(x, np.ones((60, 2))))


def test_neighbors_in_common_are_counted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5))
    y = x + 0.5 * rng.normal(size=x.shape)
    found = neighbor_overlap(x, y, 4)
    for row in range(30):
        near = []
        for values in (x, y):
            unit = values / np.linalg.norm(values, axis=1, keepdims=True)
            likeness = [(-(unit[row] @ unit[n]), n) for n in range(30) if n != row]
            near.append({n for _, n in sorted(likeness)[:4]})
        assert found[row] == len(near[0] & near[1]) / 4
    assert (neighbor_overlap(x, x * 2, 4) == 1).all()
    assert neighbor_overlap(x[:3], y[:3], 10).tolist() == [1, 1, 1]  # all others


@pytest.fixture(params=[save_internvl, save_qwen3_vl], ids=["internvl", "qwen3_vl"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """`origin/`, `trained/` with another last language block, and pictures."""
    request.param(tmp_path / "origin")
    vlm = load_vlm(tmp_path / "origin")
    torch.manual_seed(1)
    with torch.no_grad():
        last = vlm.get_submodule(modules_of(vlm)["language_late"])
        for parameter in last.parameters():
            parameter.add_(torch.randn_like(parameter))
    vlm.save_pretrained(tmp_path / "trained")
    load_processor(tmp_path / "origin").save_pretrained(tmp_path / "trained")
    rng = np.random.default_rng(0)
    for number in range(12):
        color = rng.integers(0, 255, (1, 1, 3)).astype(np.uint8)
        Image.fromarray(np.tile(color, (56, 56, 1))).save(tmp_path / f"{number}.png")
    return tmp_path


def shown(world: Path, count: int = 12) -> list[Shown]:
    return [
        Shown(
            images=(ImageRef(kind="file", path=f"{number}.png"),),
            root=world,
            max_pixels=10**6,
            instruction=f"push block {number % 3}",
        )
        for number in range(count)
    ]


def seen_by(world: Path, model: str, of: list[Shown]) -> dict[str, np.ndarray]:
    layers = Layers(
        world / model,
        None,
        prompt="What action should the robotic arm take to {instruction}",
        cutoff=1024,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return representations(layers, of, lambda _: None)


def test_drift_is_where_the_weights_changed(world: Path):
    before = seen_by(world, "origin", shown(world))
    itself = drift_rows("robot", before, seen_by(world, "origin", shown(world)), 3)
    assert [row["group"] for row in itself] == list(GROUPS)
    for row in itself:
        assert row["cka"] == pytest.approx(1) and row["overlap"] == 1 and row["samples"] == 12
    moved = {
        row["group"]: row
        for row in drift_rows("robot", before, seen_by(world, "trained", shown(world)), 3)
    }
    assert moved["language_late"]["cka"] < 0.99
    for group in GROUPS[:-1]:
        assert moved[group]["cka"] == pytest.approx(1), group


def test_a_picture_that_cannot_be_read_is_left_out_of_both(world: Path):
    (world / "3.png").write_bytes(b"no picture")
    found = seen_by(world, "origin", shown(world))
    (row, *_) = drift_rows("robot", found, found, 3)
    assert row["samples"] == 11
    assert all(np.isnan(values[3]).all() for values in found.values())
