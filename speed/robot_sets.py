"""Time and memory of reading robot sets of a gigabyte: RLDS (one shard) and HDF5 (one file).

    OMP_NUM_THREADS=1 python speed/robot_sets.py [--gigabytes 1.0] [--folder /tmp]

Episodes of 100 frames of noise, 256 x 256, as PNG in RLDS and as pixels in HDF5. Prints the CPU
seconds of what `sources` does (eight frames an episode, headers of their images, checksums of all
bytes in RLDS), the frames a CPU second in any order, and the memory that this adds.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from emt_core.data.crc32c import crc32c, masked
from emt_core.data.images.decode import check_image, open_image
from emt_core.data.readers import robot_set
from emt_core.data.readers.robot_set import RobotSet, read_frames
from emt_core.data.sample import Sample
from emt_core.recipe.sources import HDF5Source, RLDSSource

FRAMES = 100
SIDE = 256
PIXELS = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size = len(content)
    length = b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def write_rlds(folder: Path, episodes: int) -> RobotSet:
    encoded = io.BytesIO()
    Image.fromarray(PIXELS).save(encoded, "PNG", compress_level=0)
    values = {
        "steps/observation/image": field(1, field(1, encoded.getvalue()) * FRAMES),
        "steps/action": field(2, field(1, np.zeros(7 * FRAMES, "<f4").tobytes())),
        "steps/is_first": field(3, field(1, bytes(FRAMES))),
        "steps/language_instruction": field(1, field(1, b"go") * FRAMES),
    }
    features = {
        "action": {"tensor": {"dtype": "float32", "shape": {"dimensions": ["7"]}}},
        "is_first": {"tensor": {"dtype": "bool", "shape": {}}},
        "language_instruction": {"text": {}},
        "observation": {"featuresDict": {"features": {"image": {"image": {}}}}},
    }
    entries = (field(1, name.encode()) + field(2, value) for name, value in values.items())
    record = field(1, b"".join(field(1, entry) for entry in entries))
    head = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", masked(crc32c([part]))) for part in (head, record)]
    whole = b"".join([head, sums[0], record, sums[1]])
    with (folder / "set-train.tfrecord-00000-of-00001").open("wb") as file:
        for _ in range(episodes):
            file.write(whole)
    steps = {"sequence": {"feature": {"featuresDict": {"features": features}}}}
    text = json.dumps({"featuresDict": {"features": {"steps": steps}}})
    (folder / "features.json").write_text(text)
    split = {"name": "train", "shardLengths": [str(episodes)]}
    (folder / "dataset_info.json").write_text(json.dumps({"name": "set", "splits": [split]}))
    source = RLDSSource(name="set", role="robot", format="rlds", path="set", camera="image")
    return robot_set(source, folder)


def write_hdf5(folder: Path, episodes: int) -> RobotSet:
    path = folder / "set.hdf5"
    with h5py.File(path, "w") as file:
        for episode in range(episodes):
            file[f"data/demo_{episode}/obs/front"] = np.broadcast_to(
                PIXELS, (FRAMES, *PIXELS.shape)
            )
            file[f"data/demo_{episode}/actions"] = np.zeros((FRAMES, 7))
    source = HDF5Source(
        name="set", role="robot", format="hdf5", path="set", camera="front", instruction="go"
    )
    return robot_set(source, path)


def own_memory() -> int:
    """Anonymous memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def samples(robot: RobotSet) -> Iterator[Sample]:
    for row in read_frames(robot):
        assert isinstance(row, Sample) and check_image(row.images[0], robot.root, 10**6) is None
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    episodes = round(options.gigabytes * 1e9 / PIXELS.nbytes / FRAMES)
    print("| set | GB | sources, CPU s | any order, frames/CPU s | memory added, MB |")
    print("|---|---|---|---|---|")
    for name, write in (("RLDS", write_rlds), ("HDF5", write_hdf5)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            robot = write(Path(folder), episodes)
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e9
            before = most = own_memory()
            began = time.process_time()
            refs = []
            for row in samples(robot):
                refs.append(row.images[0])
                most = max(most, own_memory())
            read = time.process_time() - began
            order = np.random.default_rng(1).permutation(len(refs))[:200]
            began = time.process_time()
            for place in order:
                open_image(refs[place], robot.root, 10**6)
                most = max(most, own_memory())
            rate = len(order) / (time.process_time() - began)
            added = (most - before) / 2**20
            print(f"| {name} | {size:.1f} | {read:.1f} | {rate:,.0f} | {added:.0f} |")


if __name__ == "__main__":
    main()
