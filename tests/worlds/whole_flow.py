"""A world in which every stage runs for real within a minute: two pools, two robot sets, a tiny VLM
and Meta-World.

    recipe = write_whole_flow(folder)      # emt run RECIPE --workspace W makes 29 artifacts
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from places import ROOT
from small_world import picture, small_world

RECIPE = """
name: kills
base: .
backbone: {root}/assets/tiny_vlm
runtime: {{workers: 1, batch: 4, commit_rows: 16, device: cpu}}
sources:
  - {{name: web, role: pool, format: llava, path: web/web.json, image_root: images}}
  - {{name: tars, role: pool, format: webdataset, path: tars}}
  - {{name: arm, role: robot, format: lerobot, path: arm, camera: observation.images.front, frames_per_episode: 4}}
  - {{name: hand, role: robot, format: lerobot, path: hand, camera: observation.images.front, frames_per_episode: 4}}
embed: {{encoder: vlm, model: "{root}/assets/tiny_vlm", pooling: mean}}
category: {{}}
gap: {{sample_per_source: 40, projection: pacmap, projection_fit: 60, neighbors: 5}}
estimator: {{steps: 60, eval_every: 5}}
measure.knn: {{kind: knn}}
measure.distance: {{kind: distance}}
measure.perplexity: {{kind: perplexity, steps: 6, batch: 2, action_bins: 16}}
measure.mlp: {{kind: mlp, steps: 60}}
measure.dsir: {{kind: dsir, text: user}}
score.learned: {{sweep_sample: 50, parents: {{estimator: ''}}}}
score.knn: {{sweep_sample: 50}}
score.distance: {{sweep_sample: 50}}
score.perplexity: {{sweep_sample: 50}}
score.mlp: {{sweep_sample: 50}}
score.dsir: {{sweep_sample: 50}}
trust: {{parents: {{score: learned}}, compare: [knn, distance], seeds: 2, folds: 2, pool_rows: 12,
  robot_rows: 8, stop_points: [10, 20], sample_rows: 60}}
select.top: {{k: 20, parents: {{score: learned}}}}
select.mixed: {{strategy: gumbel, k: 20, clusters: {{cells: 3, fit_rows: 60}}, parents: {{score: learned}}}}
midtrain: {{steps: 6, batch: 4, cutoff: 256, learning_rate: 5.0e-4, parents: {{select: top}}}}
retain: {{files: {{demo: {{format: own, path: "{root}/assets/demo/questions.parquet", limit: 12}}}}, max_new_tokens: 4}}
demos: {{tasks: [reach-v3], episodes_per_task: 3}}
finetune:
  image_size: 112
  chunk: 5
  action: {{gripper: [gripper_closing], gripper_kind: continuous, scale: min_max}}
  head: {{latent: 16, widths: [16]}}
  steps: 6
  batch: 8
  learning_rate: 1.0e-3
  warmup_steps: 1
  keep: [3]
evaluate: {{benchmark: {{name: metaworld, max_steps: 20}}, checkpoints: all, episodes: 2, videos: 1}}
"""


def write_whole_flow(folder: Path) -> Path:
    """Write the sources and the recipe; returns the recipe's path."""
    small_world(folder, pool_rows=60, episodes=4)
    write_tars(folder / "tars", files=2, rows=12)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=ROOT))
    return recipe


def write_tars(folder: Path, *, files: int, rows: int) -> None:
    """WebDataset archives: an image and its question and answer for each key."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for number in range(files):
        with tarfile.open(folder / f"{number:04d}.tar", "w") as tar:
            for row in range(rows):
                pixels = io.BytesIO()
                Image.fromarray(picture(rng, near=row % 3 == 0)).save(pixels, "JPEG")
                talk = [
                    {"from": "human", "value": f"<image>\nWhat is in picture {row}?"},
                    {"from": "gpt", "value": "A block."},
                ]
                words = json.dumps({"conversations": talk}).encode()
                for suffix, content in (("jpg", pixels.getvalue()), ("json", words)):
                    entry = tarfile.TarInfo(f"{number}{row:03d}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
