"""What the tiny VLM has learned: held-out questions of every kind, against the same model without
the right image.

    python -m demo.probe --model assets/tiny_vlm --n 300 --seed 77

Held out means: images from another split of seeds, and strings to read that no training image shows
(`words.py`). Two baselines use the same weights and questions: no image at all, and the image of
another question of the same kind. A kind counts as learned when the 95 % Wilson interval of the
model lies above those of both baselines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.questions import KINDS, POINT_TOLERANCE, held_out, question_row
from demo.sample import DemoSample
from emt_core.evaluation.proportion import wilson
from emt_core.evaluation.questions.scoring import is_right
from emt_core.evaluation.questions.suites import own_question

CONDITIONS = ("image", "text_only", "shuffled")


def correct(sample: DemoSample, text: str) -> bool:
    """Whether `text` answers the sample, as `retain` judges the shipped questions."""
    return is_right(own_question(question_row(sample), Path()), text)


class Answerer:
    """A model folder with greedy decoding in batches."""

    def __init__(self, folder: str, dtype: str = "float32") -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True
        ).eval()

    def __call__(
        self, samples: Sequence[DemoSample], condition: str, batch: int = 100
    ) -> list[str]:
        """The answer to each sample's question under `condition` (one of CONDITIONS)."""
        import torch

        answers: list[str] = []
        for at in range(0, len(samples), batch):
            rows = range(at, min(at + batch, len(samples)))
            messages = []
            images = []
            for i in rows:
                content = [{"type": "text", "text": samples[i].question}]
                if condition != "text_only":
                    content.insert(0, {"type": "image"})
                    # Half a turn away: never the same image, and the same for every run.
                    source = i if condition == "image" else (i + len(samples) // 2) % len(samples)
                    images.append(samples[source].image)
                messages.append([{"role": "user", "content": content}])
            text = self.processor.apply_chat_template(messages, add_generation_prompt=True)
            inputs = self.processor(
                text=text,
                images=images or None,
                padding=True,
                return_tensors="pt",
                crop_to_patches=False,
            )
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
            with torch.inference_mode():
                # The library's protocol for `generate` asks for attributes that its own models
                # lack.
                out = self.model.generate(  # pyright: ignore[reportAttributeAccessIssue]
                    **inputs,
                    do_sample=False,
                    max_new_tokens=64 if samples[at].kind == "caption" else 16,
                )
            new = out[:, inputs["input_ids"].shape[1] :]
            answers += self.processor.batch_decode(new, skip_special_tokens=True)
        return answers


@dataclass(frozen=True, kw_only=True)
class Result:
    """One kind of question under the three conditions."""

    kind: str
    n: int
    hits: dict[str, int]

    @property
    def learned(self) -> bool:
        """The model's interval lies above both baselines' intervals."""
        low = wilson(self.hits["image"], self.n)[0]
        return all(low > wilson(self.hits[c], self.n)[1] for c in CONDITIONS[1:])

    def row(self) -> dict:
        cells = {}
        for condition in CONDITIONS:
            low, high = wilson(self.hits[condition], self.n)
            share = self.hits[condition] / self.n
            cells[condition] = {
                "share": round(share, 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        return {"kind": self.kind, "n": self.n, **cells, "learned": self.learned}


def probe_kind(folder: str, kind: str, n: int, seed: int, dtype: str = "float32") -> Result:
    """Ask `n` held-out questions of one kind under the three conditions."""
    answerer = Answerer(folder, dtype)
    samples = held_out(kind, n, seed)
    hits = {
        c: sum(correct(s, a) for s, a in zip(samples, answerer(samples, c), strict=True))
        for c in CONDITIONS
    }
    return Result(kind=kind, n=len(samples), hits=hits)


def probe(
    folder: str,
    n: int,
    seed: int,
    kinds: Sequence[str] = KINDS,
    dtype: str = "float32",
    processes: int = 1,
) -> list[Result]:
    """`probe_kind` for every kind, in processes of one thread each (answers do not depend on their
    number)."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.starmap(
            probe_kind, [(folder, kind, n, seed, dtype) for kind in kinds], chunksize=1
        )


HEADER = (
    "| kind | n | with its image | text only | another image | intervals apart |\n"
    "|---|---|---|---|---|---|"
)


def markdown_row(result: Result) -> str:
    """One line of the table under HEADER; shares in per cent with their 95 % intervals."""
    cells = []
    for condition in CONDITIONS:
        low, high = wilson(result.hits[condition], result.n)
        cells.append(
            f"{100 * result.hits[condition] / result.n:.1f} ({100 * low:.1f}-{100 * high:.1f})"
        )
    learned = "yes" if result.learned else "no"
    return f"| {result.kind} | {result.n} | {' | '.join(cells)} | {learned} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--n", type=int, default=300, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--json", default=None, help="file for the figures, e.g. assets/tiny_vlm/probe.json"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    results = probe(args.model, args.n, args.seed, args.kinds, args.dtype, args.processes)
    print("\n".join([HEADER, *map(markdown_row, results)]))
    if args.json:
        record = {
            "seed": args.seed,
            "n": args.n,
            "dtype": args.dtype,
            "point_tolerance": POINT_TOLERANCE,
            "seconds": round(time.perf_counter() - started, 1),
            "machine": f"{platform.machine()}, python {platform.python_version()}",
            "results": [r.row() for r in results],
        }
        Path(args.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
