"""A small world of real files: a LLaVA pool with images on disk and two LeRobot v3.0 sets with mp4
video.

    world = small_world(tmp_path)          # world / "recipe.yaml" runs from sources to select with
    the fake encoder

Pool images near to the robots' (reddish, pointing questions) and far from them (bluish, reading
questions) alternate,
so that an estimator has something to find. Includes a text-only row, a 3-image row, a 20-turn row
and repeated ids.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

RECIPE = """
name: small
backbone: OpenGVLab/InternVL3_5-1B-HF
runtime: {workers: 0, commit_rows: 16}
sources:
  - {name: web, role: pool, format: llava, path: web/web.json, image_root: images}
  - {name: arm, role: robot, format: lerobot, path: arm, camera: observation.images.front, frames_per_episode: 4}
  - {name: hand, role: robot, format: lerobot, path: hand, camera: observation.images.front, frames_per_episode: 4}
embed: {encoder: fake}
category: {}
gap: {sample_per_source: 40, projection: pacmap, projection_fit: 60, neighbors: 5}
estimator: {steps: 60, eval_every: 5}
score: {sweep_sample: 50}
select.top: {k: 20}
"""


def small_world(folder: Path, *, pool_rows: int = 96, episodes: int = 12) -> Path:
    """Write everything; returns the folder (`recipe.yaml` in it)."""
    write_pool(folder / "web", pool_rows)
    for place, name in enumerate(("arm", "hand")):
        write_robot(folder / name, episodes=episodes, seed=place)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def write_pool(folder: Path, rows: int) -> None:
    images = folder / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = []
    for row in range(rows):
        near = row % 2 == 0
        name = f"{row:04d}.png"
        Image.fromarray(picture(rng, near=near)).save(images / name)
        question = "Point to the red block." if near else "What does the sign say?"
        answer = "(0.41, 0.62)" if near else "OPEN"
        entries.append(
            {"id": f"dup{row % 3}", "image": name, "conversations": turns((question, answer))}
        )
    entries[5] = {"id": "text", "conversations": turns(("Tell me a joke.", "No."), image=False)}
    entries[7]["image"] = ["0001.png", "0002.png", "0003.png"]
    entries[7]["conversations"][0]["value"] = (
        "<image><image><image>\nWhich of these is the largest?"
    )
    entries[9]["conversations"] = turns(*[(f"Question {n}?", f"Answer {n}.") for n in range(10)])
    (folder / "web.json").write_text(json.dumps(entries))


def turns(*pairs: tuple[str, str], image: bool = True) -> list[dict[str, str]]:
    found = []
    for place, (question, answer) in enumerate(pairs):
        text = f"<image>\n{question}" if image and place == 0 else question
        found += [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
    return found


def picture(rng: np.random.Generator, *, near: bool, side: int = 48) -> np.ndarray:
    """uint8 [side, side, 3]: noise round a reddish (near) or bluish (far) ground."""
    ground = np.array([190, 60, 50] if near else [40, 70, 190])
    return np.clip(ground + rng.normal(0, 25, (side, side, 3)), 0, 255).astype(np.uint8)


def write_robot(folder: Path, *, episodes: int, seed: int, frames: int = 10) -> None:
    from emt_core.data.robot.lerobot_writer import LeRobotWriter

    rng = np.random.default_rng(seed)
    camera = "observation.images.front"
    with LeRobotWriter(
        folder,
        fps=10,
        cameras={camera: (48, 48)},
        state_names=("x", "y"),
        action_names=("dx", "dy", "grip"),
    ) as writer:
        for episode in range(episodes):
            video = [picture(rng, near=True) for _ in range(frames)]
            writer.add_episode(
                task=("push the red block", "open the drawer")[episode % 2],
                images={camera: video},
                state=rng.normal(size=(frames, 2)),
                action=rng.normal(size=(frames, 3)),
            )
