"""Embedding throughput of the tiny VLM through the real stages, and what share of it is model time.

    python speed/embed_throughput.py [--model assets/tiny_vlm] [--rows 1200] [--write]

Writes JPEG images and a LLaVA JSON, runs sources and embed in a process of its own for each setting
(so that torch's threads are set from the start), and prints what the embed artifact's manifest
says. `--write` keeps the table in speed/results/embed_throughput.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "embed_throughput.md"
SIZES = {"112 px": (112, 112), "640 x 480": (640, 480)}
SETTINGS = [(2, 0), (2, 1), (1, 1), (2, 2)]
"""(torch threads, workers)."""

WORDS = (
    "where is the red cup left of a green box point at robot open drawer "
    "what does sign say how many"
).split()


def write_pool(folder: Path, rows: int, size: tuple[int, int]) -> None:
    """JPEGs of smooth noise (they decode as photographs do, pure noise takes far longer), 4 to 24
    words a question."""
    rng = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir(parents=True)
    entries = []
    for row in range(rows):
        coarse = Image.fromarray(
            rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        )
        coarse.resize(size, Image.Resampling.BICUBIC).save(images / f"{row}.jpg", quality=88)
        question = "<image>\n" + " ".join(rng.choice(WORDS, rng.integers(4, 25)))
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "yes"}]
        entries.append({"id": str(row), "image": f"{row}.jpg", "conversations": turns})
    (folder / "pool.json").write_text(json.dumps(entries))


def measure(folder: Path, model: Path, workers: int) -> None:
    """In a process of its own: sources and embed, the embed manifest's metrics as JSON on standard
    output."""
    from emt_core.recipe.recipe import build_recipe
    from emt_core.run.plan import make_plan
    from emt_core.run.runner import run_plan
    from emt_core.stages import embed
    from emt_core.workspace.artifact import Workspace

    embed.INLINE_ROWS_CPU = (
        0  # by itself the stage starts no workers for so few rows beside a model on the CPU
    )
    recipe = {
        "name": "throughput",
        "base": str(folder),
        "runtime": {"workers": workers, "batch": 64, "device": "cpu"},
        "sources": [
            {
                "name": "pool",
                "role": "pool",
                "format": "llava",
                "path": "pool.json",
                "image_root": "images",
            }
        ],
        "embed": {"encoder": "vlm", "model": str(model)},
    }
    with tempfile.TemporaryDirectory() as space:
        made = run_plan(make_plan(build_recipe(recipe)), Workspace.open(space, create=True))
        print(json.dumps(made["embed"].metrics | {"seconds": made["embed"].manifest["seconds"]}))


def cpu_cost(folder: Path, model: Path) -> None:
    """CPU milliseconds a sample, one thread, in this process: a figure that a busy machine cannot
    spoil."""
    import torch

    from emt_core.data.images.decode import open_image
    from emt_core.data.sample import ImageRef, Sample, Turn
    from emt_core.models.encoders.vlm import VlmEncoder

    torch.set_num_threads(1)
    encoder = VlmEncoder(str(model))
    encoder.load("cpu", "float32")
    entries = json.loads((folder / "pool.json").read_text())[:256]

    def prepare(entry: dict) -> object:
        turns = (Turn(role="user", text=entry["conversations"][0]["value"]),)
        ref = ImageRef(kind="file", path=entry["image"])
        sample = Sample(source="pool", row=0, role="pool", turns=turns, images=(ref,))
        return encoder.prepare(sample, [open_image(ref, folder / "images", 10**8)], "user")

    prepared = [prepare(entry) for entry in entries[:64]]
    encoder.encode(prepared)
    began = time.process_time()
    prepared = [prepare(entry) for entry in entries]
    middle = time.process_time()
    for at in range(0, len(prepared), 64):
        encoder.encode(prepared[at : at + 64])
    ended = time.process_time()
    milliseconds = [1000 * seconds / len(prepared) for seconds in (middle - began, ended - middle)]
    print(json.dumps({"prepare": milliseconds[0], "encode": milliseconds[1]}))


def random_model(folder: Path) -> Path:
    """A random model of the tiny VLM's size, where the trained one is not at hand: speed does not
    depend on weights."""
    from demo import tiny_vlm, tokenizer

    trained = tokenizer.train([" ".join(WORDS)] * 20)
    tiny_vlm.fresh_model(trained, 0).save_pretrained(folder)
    tiny_vlm.processor(trained).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "tiny_vlm")
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--cpu-only", action="store_true", help="CPU time a sample only, no runs of the stages"
    )
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder = Path(options.measure[0])
        workers = options.measure[1]
        return (
            cpu_cost(folder, options.model)
            if workers == "cpu"
            else measure(folder, options.model, int(workers))
        )
    costs = [
        "| images | prepare, CPU ms a sample | encode, CPU ms a sample | model share of CPU time |",
        "|---|---|---|---|",
    ]
    lines = [
        "| images | torch threads | workers | samples/s | model share | embed stage, s | load "
        "before |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as space:
        model = options.model if options.model.is_dir() else random_model(Path(space) / "model")
        for name, size in SIZES.items():
            folder = Path(space) / name.replace(" ", "")
            write_pool(folder, options.rows, size)
            found = _child(folder, model, 1, "cpu")
            share = found["encode"] / (found["encode"] + found["prepare"])
            costs.append(
                f"| {name} | {found['prepare']:.2f} | {found['encode']:.2f} | {share:.0%} |"
            )
            print(costs[-1], flush=True)
            for threads, workers in [] if options.cpu_only else SETTINGS:
                lines.append(_row(name, folder, model, threads, workers))
                print(lines[-1], flush=True)
    if options.write:
        kind = (
            "the shipped tiny VLM"
            if options.model.is_dir()
            else "a random model of the tiny VLM's size"
        )
        only = " --cpu-only" if options.cpu_only else ""
        head = (
            f"# Embedding throughput\n\n`python speed/embed_throughput.py --rows "
            f"{options.rows}{only} --write`, "
            f"{time.strftime('%Y-%m-%d')}; {kind}, float32, batch 64, {options.rows:,} rows of one "
            "image and 4 to 24 "
            f"words.\n{_machine()}\n\n"
        )
        RESULT.parent.mkdir(exist_ok=True)
        runs = [] if options.cpu_only else ["", *lines]
        RESULT.write_text(head + "\n".join([*costs, *runs]) + "\n", encoding="utf-8")


def _row(name: str, folder: Path, model: Path, threads: int, workers: int) -> str:
    load = os.getloadavg()[0]
    found = _child(folder, model, threads, str(workers))
    return (
        f"| {name} | {threads} | {found['workers']} | {found['samples_per_second']:.0f} | "
        f"{found['model_share']:.0%} "
        f"| {found['seconds']:.0f} | {load:.1f} |"
    )


def _child(folder: Path, model: Path, threads: int, what: str) -> dict:
    command = [sys.executable, __file__, "--model", str(model), "--measure", str(folder), what]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    out = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(out.splitlines()[-1])


def _machine() -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return (
        f"Machine: {os.cpu_count()} cores ({cpu}), no GPU; Python {platform.python_version()}, "
        f"{versions}.\n"
        "`load before` is the load average just before the run: well above 0, others were using "
        "the same cores, and\n"
        "samples/s says little; CPU seconds and the share of them are the figures to compare."
    )


if __name__ == "__main__":
    main()
