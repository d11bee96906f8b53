"""HDF5 demonstrations of which one is spoilt, or leads to another file: it costs itself only."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from demonstrations.hdf5_files import libero_file
from demonstrations.write_rlds import LENGTHS

from emt_core.recipe.sources import HDF5Source

SOURCE = HDF5Source(
    name="arm",
    role="robot",
    format="hdf5",
    path="set",
    camera="agentview_rgb",
    frames_per_episode=100,
)


def spoilt(path: Path, change) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _shorter(file) -> None:
    kept = file["data/demo_1/actions"][:-1]
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = kept


def _wider(file) -> None:
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = np.zeros((LENGTHS[1], 9))


def _gone(file) -> None:
    del file["data/demo_1/obs/agentview_rgb"]


def _empty(file) -> None:
    _gone(file)
    file["data/demo_1/obs/agentview_rgb"] = np.zeros((0, 16, 24, 3), np.uint8)


def _channels_first(file) -> None:
    _gone(file)
    file["data/demo_1/obs/agentview_rgb"] = np.zeros((LENGTHS[1], 3, 16, 24), np.uint8)


def _unwritten(file) -> None:
    _gone(file)
    file.create_dataset("data/demo_1/obs/agentview_rgb", (LENGTHS[1], 16, 24, 3), "uint8")


def _written_in_part(file) -> None:
    _gone(file)
    shape = (LENGTHS[1], 16, 24, 3)
    made = file.create_dataset(
        "data/demo_1/obs/agentview_rgb", shape, "uint8", chunks=(1, 16, 24, 3)
    )
    made[0] = 7


def _elsewhere(file) -> None:
    _gone(file)
    file["data/demo_1/obs/agentview_rgb"] = h5py.ExternalLink("../secret.hdf5", "pixels")


def _by_way_of_a_soft_link(file) -> None:
    _elsewhere(file)
    file["way"] = file["data/demo_1/obs"].get("agentview_rgb", getlink=True)
    del file["data/demo_1/obs/agentview_rgb"]
    file["data/demo_1/obs/agentview_rgb"] = h5py.SoftLink("/way")


def _round_and_round(file) -> None:
    _gone(file)
    file["data/demo_1/obs/agentview_rgb"] = h5py.SoftLink("agentview_rgb")


def _raw_file(file) -> None:
    _gone(file)
    shape = (LENGTHS[1], 16, 24, 3)
    outside = [("../secret.bin", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("data/demo_1/obs/agentview_rgb", shape, "uint8", external=outside)


def _virtual(file) -> None:
    _gone(file)
    layout = h5py.VirtualLayout((LENGTHS[1], 16, 24, 3), "uint8")
    layout[:] = h5py.VirtualSource("../secret.hdf5", "pixels", (LENGTHS[1], 16, 24, 3))
    file.create_virtual_dataset("data/demo_1/obs/agentview_rgb", layout)


def _bomb(file) -> None:
    _gone(file)
    shape = (LENGTHS[1], 16_000, 16_000, 3)
    file.create_dataset(
        "data/demo_1/obs/agentview_rgb", shape, "uint8", chunks=shape, compression="gzip"
    )


def _no_name(file) -> None:
    file.move("data/demo_1", b"data/demo_1\xff")


def _references(file) -> None:
    _gone(file)
    made = file.create_dataset("data/demo_1/obs/agentview_rgb", (LENGTHS[1],), h5py.ref_dtype)
    made[0] = file["data/demo_1"].ref


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        (_shorter, "length_mismatch", "3 images and 2 actions"),
        (_wider, "unreadable_row", "9 dimensions in 'actions', the first episode 7"),
        (_gone, "missing_image", "no dataset 'data/demo_1/obs/agentview_rgb'"),
        (_empty, "empty_episode", "no frames"),
        (_channels_first, "missing_image", "images are uint8 [frames, height, width"),
        (_unwritten, "missing_image", "was never written"),
        (_written_in_part, "missing_image", "written in part: 1 of 3 chunks"),
        (_elsewhere, "missing_image", "is a link to another file, '../secret.hdf5'"),
        (_by_way_of_a_soft_link, "missing_image", "is a link to another file"),
        (_round_and_round, "missing_image", "goes round in a circle"),
        (_raw_file, "missing_image", "keeps its values in other files"),
        (_virtual, "missing_image", "keeps its values in other files"),
        (_bomb, "missing_image", "chunks of 2,304,000,000 bytes"),
        (_references, "missing_image", "holds references"),
        (_no_name, "missing_image", "no dataset 'data/demo_1\ufffd"),
    ],
)
def test_a_demo_that_cannot_be_read_costs_itself(tmp_path, rows_of, change, reason, says):
    with h5py.File(tmp_path / "secret.hdf5", "w") as secret:
        secret["pixels"] = np.full((LENGTHS[1], 16, 24, 3), 99, np.uint8)
    (tmp_path / "secret.bin").write_bytes(bytes(5000))
    spoilt(libero_file(tmp_path / "set/a_demo.hdf5"), change)
    samples, rejects = rows_of(SOURCE)
    assert {s.episode for s in samples} == {0, 2}
    assert {r.reason for r in rejects} == {reason}
    assert rejects[0].row == LENGTHS[0] and says in rejects[0].detail
    assert "demo_1" in rejects[0].detail + rejects[0].own_id
