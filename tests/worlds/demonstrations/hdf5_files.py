"""HDF5 files of demonstrations, laid out as LIBERO's create_dataset.py and ACT's recorders do.

Neither writer is on PyPI, so these are written by hand after their published scripts. Frames,
actions and instructions are those of write_rlds.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from demonstrations.write_rlds import INSTRUCTIONS, LENGTHS, action, pixels, state
from source_files import encoded

CAMERAS = ("cam_high", "cam_left_wrist")


def frames(episode: int, camera: int = 0) -> np.ndarray:
    """uint8 [T, 16, 24, 3]."""
    return np.stack([pixels(episode, frame, camera) for frame in range(LENGTHS[episode])])


def actions(episode: int) -> np.ndarray:
    return np.stack([action(episode, frame) for frame in range(LENGTHS[episode])])


def states(episode: int) -> np.ndarray:
    return np.stack([state(episode, frame) for frame in range(LENGTHS[episode])])


def libero_file(path: Path, instruction: Any = INSTRUCTIONS[0], episodes: int = 3) -> Path:
    """A task's file. Pictures lie upside down, as robosuite renders them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        problem = {"problem_name": "kitchen", "domain_name": "robosuite"}
        if instruction is not None:
            problem["language_instruction"] = instruction
        data.attrs["problem_info"] = json.dumps(problem)
        data.attrs["macros_image_convention"] = "opengl"
        kwargs = {"control_freq": 20}
        data.attrs["env_args"] = json.dumps({"env_name": "K", "type": 1, "env_kwargs": kwargs})
        data.attrs["num_demos"] = episodes
        for episode in range(episodes):
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = LENGTHS[episode]
            demo["actions"] = actions(episode).astype(np.float64)
            demo["states"] = states(episode)
            demo["rewards"] = demo["dones"] = np.zeros(LENGTHS[episode], np.uint8)
            demo["obs/agentview_rgb"] = frames(episode)[:, ::-1]
            demo["obs/eye_in_hand_rgb"] = frames(episode, 1)[:, ::-1]
            demo["obs/agentview_depth"] = np.zeros((LENGTHS[episode], 16, 24, 1), np.float32)
            demo["obs/ee_states"] = states(episode)[:, :6]
    return path


def act_file(path: Path, episode: int, images: str = "pixels", **attributes: Any) -> Path:
    """An episode's file. images: `pixels`, `padded`, `lengths` or `texts` (how variants encode)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"sim": False, "compress": images != "pixels", **attributes})
        for number, camera in enumerate(CAMERAS):
            _write_images(file, f"observations/images/{camera}", frames(episode, number), images)
        file["observations/qpos"] = file["observations/qvel"] = states(episode)
        file["action"] = actions(episode)
        if images == "padded":
            file["compress_len"] = np.zeros((len(CAMERAS), LENGTHS[episode]))
    return path


def _write_images(file: h5py.File, name: str, pictures: np.ndarray, how: str) -> None:
    from PIL import Image

    if how == "pixels":
        chunks = (1, *pictures.shape[1:])
        file.create_dataset(name, data=pictures, chunks=chunks)
        return
    files = [encoded(Image.fromarray(picture), "PNG") for picture in pictures]
    longest = max(map(len, files))
    if how == "padded":
        rows = np.zeros((len(files), longest), np.uint8)
        for row, content in zip(rows, files, strict=True):
            row[: len(content)] = np.frombuffer(content, np.uint8)
        file.create_dataset(name, data=rows, chunks=(1, longest))
    elif how == "lengths":
        kept = file.create_dataset(name, (len(files),), h5py.vlen_dtype(np.uint8))
        for place, content in enumerate(files):
            kept[place] = np.frombuffer(content, np.uint8)
    else:
        file[name] = np.array(files, dtype=f"S{longest}")
