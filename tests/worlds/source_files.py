"""Builders of small real files in each format."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """A smooth RGB image whose colour tells the seed."""
    x, y = np.meshgrid(np.linspace(0, 60, size[0]), np.linspace(0, 60, size[1]))
    base = np.array([(seed * 53) % 160, (seed * 101) % 160, (seed * 29) % 160])
    return Image.fromarray((base + np.stack([x, y, x], -1)).astype(np.uint8), "RGB")


def encoded(image: Image.Image | None = None, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, format, **options)
    return buffer.getvalue()


def save_pictures(folder: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path)


def llava_row(image: Any = None, turns: int = 2, **more: Any) -> dict[str, Any]:
    images = [image] if isinstance(image, str) else list(image or [])
    conversations = [
        {"from": "human" if n % 2 == 0 else "gpt", "value": f"turn {n}"} for n in range(turns)
    ]
    conversations[0]["value"] = "<image>\n" * len(images) + "what is this?"
    row: dict[str, Any] = {"id": more.pop("id", "x"), "conversations": conversations, **more}
    return row | ({"image": image} if image is not None else {})


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_tar(
    path: Path,
    members: Mapping[str, bytes] | Iterable[tuple[str, bytes]],
    format: int = tarfile.PAX_FORMAT,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in items:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


FRONT = {"observation.images.front": (32, 48)}


def lerobot_folder(
    root: Path,
    *,
    version: str = "v3.0",
    storage: str = "video",
    episodes: int = 3,
    length: int = 12,
    fps: int = 10,
    cameras: Mapping[str, tuple[int, int]] = FRONT,
    **options: Any,
) -> Path:
    """A set whose frames tell episode, frame and camera by their colour, as `robot_frame` has it.

    cameras: name -> (height, width).
    """
    from emt_core.data.robot.lerobot_writer import LeRobotWriter

    with LeRobotWriter(
        root,
        fps=fps,
        cameras=cameras,
        state_names=("x", "y"),
        action_names=("dx", "dy", "grip"),
        version=version,  # type: ignore[arg-type]
        storage=storage,  # type: ignore[arg-type]
        quantizer=10,
        **options,
    ) as writer:
        for episode in range(episodes):
            writer.add_episode(
                task=("open the drawer", "push the block")[episode % 2],
                images={
                    name: [robot_frame(episode, n, place, size) for n in range(length)]
                    for place, (name, size) in enumerate(cameras.items())
                },
                state=np.full((length, 2), episode, np.float32),
                action=np.arange(length * 3, dtype=np.float32).reshape(length, 3),
            )
    return root


def robot_frame(
    episode: int, frame: int, camera: int = 0, size: tuple[int, int] = (32, 48)
) -> np.ndarray:
    """red = 20 + 60 * episode (of 256), green = 10 * frame, blue = 128 + 40 * camera."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = (20 + 60 * episode) % 256
    image[..., 1] = 10 * frame
    image[..., 2] = 128 + 40 * camera
    return image


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Give the process its ordinary priority back after a video is encoded as AV1.

    SVT-AV1 takes a real-time priority (SCHED_FIFO 99) where it may, as root. Servers and browsers
    that later tests start would inherit it, and starve everything else.
    """
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
