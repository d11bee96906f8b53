"""Frames for fine-tuning: what they take and how fast they come in each form that they could be
kept in, from the cache, and what the loop round them costs beside the bare forward and backward
pass.

    python speed/frame_cache.py [--set photos | FOLDER] [--camera NAME] [--size 224]
    python speed/frame_cache.py --loop --size 112 [--steps 12 --batch 32]

`photos` is a LeRobot set of 256-pixel video made on the spot: pans over scikit-learn's two
photographs, which have more detail than a table with a robot. CPU seconds of one core stand beside
wall seconds: a shared machine stretches the latter. The loop runs in turns with the bare passes,
step by step, because a machine's speed changes from minute to minute.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emt_core.data.images.decode import open_image
from emt_core.data.readers import robot_set
from emt_core.data.robot.frame_cache import CacheNeed, FrameCache, frame_caches
from emt_core.data.robot.frames import square_frame
from emt_core.data.robot.lerobot_writer import LeRobotWriter
from emt_core.data.robot.training_frames import fit_map, join_frames, open_set
from emt_core.recipe.finetune import ActionConfig, FinetuneConfig, HeadConfig
from emt_core.recipe.sources import LeRobotSource
from emt_core.workspace.progress import Progress

CAMERA = "observation.images.front"


class Clock:
    def __enter__(self) -> Clock:
        self.wall = time.perf_counter()
        self.cpu = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self.wall
        self.cpu = time.process_time() - self.cpu


def rate(name: str, frames: int, clock: Clock) -> None:
    print(f"| {name} | {frames / clock.wall:,.0f} | {frames / clock.cpu:,.0f} |", flush=True)


FORMS: dict[str, dict[str, Any]] = {
    "JPEG 95, 4:4:4 (the cache)": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "JPEG 95, 4:2:0": {"format": "JPEG", "quality": 95, "subsampling": 2},
    "JPEG 90, 4:4:4": {"format": "JPEG", "quality": 90, "subsampling": 0},
    "WebP, lossless": {"format": "WEBP", "lossless": True, "method": 0},
    "PNG": {"format": "PNG", "compress_level": 1},
}
PAPER = {"CALVIN ABC": 1_071_743, "BridgeData V2": 2_100_000, "LIBERO-10": 101_469}
"""Frames of the paper's robot sets, as published (docs/formats.md)."""


def photo_set(folder: Path) -> Path:
    """12 episodes of 60 frames: a window of 256 pixels that moves over a photograph."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    rng = np.random.default_rng(0)
    names = tuple(f"d{place}" for place in range(3))
    with LeRobotWriter(
        folder,
        fps=10,
        cameras={CAMERA: (256, 256)},
        state_names=names,
        action_names=names,
        quantizer=23,
    ) as writer:
        for episode in range(12):
            photo = photos[episode % len(photos)]
            ends = rng.integers(0, (photo.shape[0] - 256, photo.shape[1] - 256), (2, 2))
            path = np.linspace(*ends, 60).round().astype(int)
            frames = [photo[y : y + 256, x : x + 256] for y, x in path]
            values = np.zeros((60, 3), np.float32)
            writer.add_episode(task="look", images={CAMERA: frames}, state=values, action=values)
    return folder


def source_of(root: Path, camera: str) -> LeRobotSource:
    return LeRobotSource(
        name=root.name, role="robot", format="lerobot", path=str(root), camera=camera
    )


def forms(root: Path, camera: str, size: int) -> None:
    """Bytes, rates and error of each form, on 200 frames."""
    robot = robot_set(source_of(root, camera), root)
    refs = [ref for episode in robot.episodes() for ref in robot.frames(episode, camera)]
    rng = np.random.default_rng(0)
    picked = [refs[int(place)] for place in rng.integers(0, len(refs), 200)]
    with Clock() as clock:
        images = [open_image(ref, root, robot.source.max_pixels) for ref in picked]
        frames = [square_frame(image, size) for image in images]
    raw = size * size * 3
    paper = ", ".join(f"{name}, GB" for name in PAPER)
    print(f"{root.name}: {len(refs):,} frames, {images[0].size} to {size}\n")
    head = ("kept as", "bytes a frame", "mean error, of 255", "encoded/CPU s", "decoded/CPU s")
    print(f"| {' | '.join(head)} | {paper} |")
    print("|---|---|---|---|---|---|")
    print(f"| nothing: decoded on the fly, any order | 0 | 0 | | {200 / clock.cpu:,.0f} | 0 |")
    print(f"| raw | {raw:,} | 0 | | | {in_gigabytes(raw)} |")
    for name, options in FORMS.items():
        with Clock() as encoding:
            encoded = [_encoded(frame, options) for frame in frames]
        with Clock() as decoding:
            decoded = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded]
        bytes_each = float(np.mean([len(one) for one in encoded]))
        pairs = zip(frames, decoded, strict=True)
        error = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairs]))
        rates = f"{200 / encoding.cpu:,.0f} | {200 / decoding.cpu:,.0f}"
        print(
            f"| {name} | {bytes_each:,.0f} | {error:.2f} | {rates} | {in_gigabytes(bytes_each)} |"
        )


def in_gigabytes(each: float) -> str:
    return ", ".join(f"{frames * each / 1e9:,.0f}" for frames in PAPER.values())


def _encoded(frame: np.ndarray, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, **options)
    return file.getvalue()


def fill_and_read(root: Path, camera: str, size: int, folder: Path) -> FrameCache:
    robot = robot_set(source_of(root, camera), root)
    rng = np.random.default_rng(0)
    print("\n| access | frames/s | frames per CPU second |\n|---|---|---|")
    quiet = Progress(label="", quiet=True)
    with Clock() as clock:
        need = CacheNeed(key="b", robot=robot, episodes=list(robot.episodes()), size=size)
        (cache,) = frame_caches(folder, [need], bound_gb=100, workers=1, progress=quiet)
    rate("into the cache, in order (1 thread)", len(cache), clock)
    rows = rng.integers(0, len(cache), 64 * 64)
    with Clock() as clock:
        for part in rows.reshape(-1, 64):
            cache.pixels(part)
    rate("from the cache, any order (batches of 64)", len(rows), clock)
    return cache


def loop_against_bare(
    root: Path, model: Path, cache: FrameCache, size: int, steps: int, batch: int
) -> None:
    import torch

    from emt_core.models.vlm.load import load_processor, load_vlm
    from emt_core.training.devices import open_accelerator
    from emt_core.training.policy.finetuning import Finetuner
    from emt_core.training.policy.loss import action_loss
    from emt_core.training.policy.policy import PolicySpec, build_vla

    torch.set_num_threads(1)
    config = FinetuneConfig(
        chunk=5,
        image_size=size,
        head=HeadConfig(latent=256, widths=(256, 128)),
        steps=steps,
        batch=batch,
    )
    action = ActionConfig(gripper=("gripper_closing",), gripper_kind="continuous")
    opened = open_set(robot_set(source_of(root, CAMERA), root), action)
    frames, _ = join_frames([opened], [cache])
    spec = PolicySpec(
        action_map=fit_map([opened], action, config.chunk),
        chunk=config.chunk,
        image_size=size,
        crop=1.0,
        system=config.system,
        prompt=config.prompt,
        cutoff=config.cutoff,
        head=config.head,
        step=0,
    )
    vla = build_vla(load_vlm(model), spec, seed=0)
    with tempfile.TemporaryDirectory() as out:
        trainer = Finetuner(
            config,
            vla,
            load_processor(model),
            spec,
            frames,
            Path(out),
            accelerator=open_accelerator("cpu", "float32"),
            part=8,
        )
        fixed = trainer._read(1)
        parts = [slice(at, at + 8) for at in range(0, batch, 8)]
        inputs = [trainer.prompts.batch(fixed.frames[part], fixed.texts[part]) for part in parts]
        whole = []
        bare = []
        for step in range(1, steps + 1):
            with Clock() as clock:  # read, map actions, tokens, processor, loss, clip, AdamW
                trainer._step(step, trainer._read(step), 1e-4)
            whole.append(clock.cpu)
            trainer.optimizer.zero_grad()
            with Clock() as clock:  # the passes alone, on inputs that are ready
                for part, ready in zip(parts, inputs, strict=True):
                    loss = action_loss(
                        trainer.vla(ready),
                        fixed.targets[part],
                        steps=fixed.steps,
                        binary=False,
                        gripper_weight=1,
                    )
                    loss.total.backward()
            bare.append(clock.cpu)
    step = statistics.median(whole[2:])
    passes = statistics.median(bare[2:])
    print(
        f"\nA step of batch {batch}: {step:.2f} CPU s, bare passes {passes:.2f} CPU s: "
        f"{step / passes - 1:+.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    assets = Path(__file__).parents[1] / "assets"
    demo = assets / "demo" / "robots" / "arm_reach_push"
    parser.add_argument("--set", default=str(demo), help="a LeRobot folder, or `photos`")
    parser.add_argument("--camera", default=CAMERA)
    parser.add_argument("--model", type=Path, default=assets / "tiny_vlm")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--loop", action="store_true", help="also train (the demo's set only)")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = args.set == "photos"
        root = photo_set(Path(folder) / "photos") if photos else Path(args.set)
        forms(root, args.camera, args.size)
        cache = fill_and_read(root, args.camera, args.size, Path(folder) / "cache")
        if args.loop:
            loop_against_bare(root, args.model, cache, args.size, args.steps, args.batch)


if __name__ == "__main__":
    main()
