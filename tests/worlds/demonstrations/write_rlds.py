"""Writes the folder `rlds` beside this file with tensorflow_datasets itself, as Open X sets are
made.

Run once, in an environment of its own (the project does not need TensorFlow):

    uv venv /somewhere && uv pip install --python /somewhere tensorflow-cpu tensorflow-datasets
    /somewhere/bin/python tests/worlds/demonstrations/write_rlds.py

Three sets, one a style of Open X-Embodiment. A frame tells its episode, its number and its camera
by its pixels: see `pixels`. Written with tensorflow 2.21.0 and tensorflow_datasets 4.9.10.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LENGTHS = (5, 3, 4, 6)
"""Frames of the episodes."""

INSTRUCTIONS = ("put the pot on the stove", "open the drawer")


def pixels(episode: int, frame: int, camera: int) -> np.ndarray:
    """uint8 [16, 24, 3]: a corner tells up from down and left from right."""
    image = np.zeros((16, 24, 3), np.uint8)
    image[..., 0] = 40 * episode + 10
    image[..., 1] = 20 * frame + 5
    image[..., 2] = 90 * camera + 30
    image[:4, :6] = 255
    return image


def action(episode: int, frame: int) -> np.ndarray:
    """float32 [7]."""
    return (np.arange(7) / 8 + episode - frame / 4).astype(np.float32)


def state(episode: int, frame: int) -> np.ndarray:
    """float32 [8]."""
    return (np.arange(8) + 10 * episode + frame).astype(np.float32)


def main() -> None:
    import tensorflow_datasets as tfds

    out = HERE / "rlds"
    shutil.rmtree(out, ignore_errors=True)
    f = tfds.features

    def steps_of(episode: int, style: str):
        for frame in range(LENGTHS[episode]):
            last = frame == LENGTHS[episode] - 1
            step = {
                "is_first": frame == 0,
                "is_last": last,
                "is_terminal": last,
                "reward": float(last),
                "discount": 1.0,
            }
            text = INSTRUCTIONS[episode % 2]
            a = action(episode, frame)
            images = [pixels(episode, frame, camera) for camera in range(2)]
            if style == "libero":
                observation = {"image": images[0], "wrist_image": images[1]}
                observation["state"] = state(episode, frame)
                step |= {"action": a, "language_instruction": text}
            elif style == "fractal":
                observation = {"image": images[0], "natural_language_instruction": text}
                observation["gripper_closed"] = state(episode, frame)[:1]
                step["action"] = {
                    "world_vector": a[:3],
                    "rotation_delta": a[3:6],
                    "gripper_closedness_action": a[6:],
                    "terminate_episode": np.array([0, 1, int(last)], np.int32),
                }
            else:
                codes = np.zeros(64, np.int32)
                codes[: len(text)] = list(text.encode())
                observation = {"rgb": images[0], "instruction": codes}
                observation["trail"] = [frame] * frame  # as long as the frame's number
                step["action"] = a[:2]
            yield step | {"observation": observation}

    def image(encoding: str):
        return f.Image(shape=(16, 24, 3), dtype=np.uint8, encoding_format=encoding)

    def tensor(size: int, dtype=np.float32):
        return f.Tensor(shape=(size,), dtype=dtype)

    common = {
        name: f.Scalar(dtype=dtype)
        for name, dtype in {
            "is_first": np.bool_,
            "is_last": np.bool_,
            "is_terminal": np.bool_,
            "reward": np.float32,
            "discount": np.float32,
        }.items()
    }
    styles = {
        "libero": {
            "observation": {
                "image": image("jpeg"),
                "wrist_image": image("png"),
                "state": tensor(8),
            },
            "action": tensor(7),
            "language_instruction": f.Text(),
        },
        "fractal": {
            "observation": {
                "image": image("png"),
                "natural_language_instruction": f.Text(),
                "gripper_closed": tensor(1),
            },
            "action": {
                "world_vector": tensor(3),
                "rotation_delta": tensor(3),
                "gripper_closedness_action": tensor(1),
                "terminate_episode": tensor(3, np.int32),
            },
        },
        "language_table": {
            "observation": {
                "rgb": image("png"),
                "instruction": tensor(64, np.int32),
                "trail": f.Sequence(f.Scalar(dtype=np.int32)),
            },
            "action": tensor(2),
        },
    }
    for style, features in styles.items():
        steps = f.Dataset(
            {
                name: f.FeaturesDict(value) if isinstance(value, dict) else value
                for name, value in (features | common).items()
            }
        )
        info = f.FeaturesDict(
            {"steps": steps, "episode_metadata": f.FeaturesDict({"file_path": f.Text()})}
        )
        folder = out / style / "1.0.0"
        folder.mkdir(parents=True)
        splits = {"train": [[0, 1], [2]], "val": [[3]]}
        written = []
        for split, shards in splits.items():
            lengths = []
            size = 0
            for number, episodes in enumerate(shards):
                name = f"{style}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
                size += _write(folder / name, info, episodes, style, steps_of)
                lengths.append(len(episodes))
            template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
            written.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=lengths,
                    num_bytes=size,
                    filename_template=tfds.core.ShardedFileTemplate(
                        dataset_name=style,
                        data_dir=folder,
                        filetype_suffix="tfrecord",
                        template=template,
                    ),
                )
            )
        tfds.folder_dataset.write_metadata(
            data_dir=folder, features=info, split_infos=written, check_data=True
        )
        files = sorted(path.name for path in folder.iterdir())
        print(style, json.dumps(files, indent=1), *_read_back(tfds, folder))


def _write(path: Path, info, episodes, style: str, steps_of) -> int:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for episode in episodes:
            example = {
                "steps": list(steps_of(episode, style)),
                "episode_metadata": {"file_path": f"demo_{episode}.npy"},
            }
            writer.write(info.serialize_example(info.encode_example(example)))
    return path.stat().st_size


def _read_back(tfds, folder: Path):
    """What tensorflow_datasets itself reads: frames of each episode."""
    builder = tfds.builder_from_directory(folder)
    for split in builder.info.splits:
        for episode in builder.as_dataset(split=split):
            yield split, len(list(episode["steps"]))


if __name__ == "__main__":
    main()
