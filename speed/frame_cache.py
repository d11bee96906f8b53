"""Frames for fine-tuning: from the video in any order, into the cache in order, from the cache in
any order; and what the loop round them costs beside the bare forward and backward pass.

    python speed/frame_cache.py [--set assets/demo/robots/arm_reach_push --size 112]
                                [--steps 12 --batch 32]

CPU seconds of one core stand beside wall seconds: a shared machine stretches the latter. The loop
runs in turns with the bare passes, step by step, because a machine's speed changes from minute to
minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from emt_core.data.images.decode import open_image
from emt_core.data.readers.lerobot import episode_frames
from emt_core.data.readers.lerobot_meta import load_meta
from emt_core.data.robot.frame_cache import CacheNeed, FrameCache, frame_caches
from emt_core.data.robot.frames import square_frame
from emt_core.data.robot.training_frames import fit_map, join_frames, open_set
from emt_core.recipe.finetune import ActionConfig, FinetuneConfig, HeadConfig, RobotData
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


def frames_per_second(root: Path, size: int, folder: Path) -> FrameCache:
    source = LeRobotSource(
        name=root.name, role="robot", format="lerobot", path=str(root), camera=CAMERA
    )
    episodes = list(load_meta(root).episodes(CAMERA))
    rng = np.random.default_rng(0)
    print("| access | frames/s | frames per CPU second |\n|---|---|---|")
    refs = [ref for episode in episodes for ref in episode_frames(source, root, episode.index)]
    picked = [refs[int(place)] for place in rng.integers(0, len(refs), 300)]
    with Clock() as clock:
        for ref in picked:
            square_frame(open_image(ref, root, source.max_pixels), size)
    rate("video, any order", len(picked), clock)
    quiet = Progress(label="", quiet=True)
    with Clock() as clock:
        need = CacheNeed(key="b", source=source, root=root, episodes=episodes, size=size)
        (cache,) = frame_caches(folder, [need], workers=1, progress=quiet)
    rate("video into the cache, in order (1 thread)", len(cache.frames), clock)
    rows = rng.integers(0, len(cache.frames), 64 * 256)
    with Clock() as clock:
        for part in rows.reshape(-1, 64):
            cache.frames[part].sum()
    rate("cache, any order (batches of 64, every byte read)", len(rows), clock)
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
    opened = open_set(RobotData(name=root.name, path=str(root), camera=CAMERA), root, action)
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
    parser.add_argument("--set", type=Path, default=assets / "demo" / "robots" / "arm_reach_push")
    parser.add_argument("--model", type=Path, default=assets / "tiny_vlm")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = frames_per_second(args.set, args.size, Path(folder))
        loop_against_bare(args.set, args.model, cache, args.size, args.steps, args.batch)


if __name__ == "__main__":
    main()
