"""A step of mid-training against the bare forward and backward pass on the same micro-batches; and
what logits at supervised positions save.

    OMP_NUM_THREADS=1 python speed/training_step.py [--steps 12] [--batch 16] [--write]

Tiny VLM, demo pool. "Bare" runs forward, backward and AdamW over micro-batches that lie ready in
memory; "whole" is Session.train: look-up in the index, decoding, tokenising, collating, loss,
clipping, log and rejects. Bare and whole steps take turns, so that a busy machine slows both.
`--write` keeps the table in speed/results/training_step.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "training_step.md"


def demo_sources(folder: Path) -> Any:
    """The demo's sources artifact."""
    from emt_core.recipe.recipe import load_recipe
    from emt_core.run.plan import make_plan
    from emt_core.run.runner import run_plan
    from emt_core.workspace.artifact import Workspace

    plan = make_plan(load_recipe(ROOT / "recipes" / "demo.yaml"))
    return run_plan(plan, Workspace.open(folder / "ws", create=True), until="sources", quiet=True)[
        "sources"
    ]


def measure(steps: int, batch: int, workers: int, folder: Path, sources: Any) -> dict[str, float]:
    """Median seconds a step: bare, whole."""
    import torch

    from emt_core.data.index import Index
    from emt_core.models.vlm.load import load_processor, load_vlm
    from emt_core.recipe.midtrain import MidtrainConfig
    from emt_core.training.devices import close_accelerator, open_accelerator
    from emt_core.training.midtrain.batches import Feed, Selection
    from emt_core.training.midtrain.conversations import ConversationPreparer
    from emt_core.training.midtrain.loss import SupervisedLoss
    from emt_core.training.midtrain.micro_batch import Plan
    from emt_core.training.midtrain.session import Session
    from emt_core.training.optimizer import build_optimizer
    from emt_core.training.schedule import set_rate

    tiny = str(ROOT / "assets" / "tiny_vlm")
    config = MidtrainConfig(model=tiny, steps=steps, batch=batch)
    rows = np.flatnonzero(Index(sources).is_pool())
    selection = Selection(
        sources, rows, ConversationPreparer(load_processor(tiny), cutoff=1024), max_images=4
    )
    plan = Plan(batch=batch, micro=batch)
    ready = list(Feed(selection, seed=0, workers=0).steps(1, steps + 1, plan))

    module = SupervisedLoss(load_vlm(tiny).train())
    optimizer = build_optimizer(module)
    set_rate(optimizer, 1e-5)

    def bare(step: int) -> float:
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for micro in ready[step - 1]:
            (module(micro.inputs, micro.labels) / micro.supervised).backward()
        optimizer.step()
        return time.perf_counter() - begun

    accelerator = open_accelerator("cpu", "float32")
    out = folder / f"run-{workers}"
    out.mkdir()
    session = Session(load_vlm(tiny), config, accelerator, out)
    times: dict[str, list[float]] = {"bare": [], "whole": []}
    last = [time.perf_counter()]

    def on_step(result: Any) -> None:
        times["whole"].append(time.perf_counter() - last[0])
        times["bare"].append(bare(result.step))
        last[0] = time.perf_counter()

    torch.manual_seed(0)
    session.train(
        Feed(selection, seed=0, workers=workers).steps,
        plan,
        out,
        on_step=on_step,
        say=lambda _: None,
    )
    close_accelerator()
    ratios = [whole / one for whole, one in zip(times["whole"][2:], times["bare"][2:], strict=True)]
    return {
        "bare": statistics.median(times["bare"][2:]),
        "whole": statistics.median(times["whole"][2:]),
        "ratio": statistics.median(ratios),
    }


def logits_kept(
    vocabulary: int = 151_936, tokens: int = 1024, answer: int = 100, samples: int = 4
) -> dict[str, float]:
    """MiB that autograd keeps and seconds: logits at all positions against logits at the supervised
    ones."""
    import torch
    from torch import nn
    from torch.nn import functional

    from emt_core.training.midtrain.loss import SupervisedLoss
    from emt_core.training.midtrain.micro_batch import IGNORE

    class Head(nn.Module):
        """A decoder that is nothing but its last hidden state."""

        def __init__(self) -> None:
            super().__init__()
            self.model = self._decode
            self.head = nn.Linear(64, vocabulary, bias=False)

        def _decode(self, hidden: torch.Tensor, use_cache: bool) -> Any:
            from types import SimpleNamespace

            return SimpleNamespace(last_hidden_state=hidden)

        def get_output_embeddings(self) -> nn.Linear:
            return self.head

    head = Head()
    hidden = torch.randn(samples, tokens, 64, requires_grad=True)
    labels = torch.full((samples, tokens), IGNORE)
    labels[:, -answer:] = torch.randint(0, vocabulary, (samples, answer))

    def everywhere() -> torch.Tensor:
        logits = head.head(hidden[:, :-1]).float()
        return functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
        )

    found = {}
    weights = {p.data_ptr() for p in head.parameters()}
    for name, compute in (
        ("all", everywhere),
        ("supervised", lambda: SupervisedLoss(head)({"hidden": hidden}, labels)),
    ):
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            if tensor.data_ptr() not in weights:
                saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        begun = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = compute()
        loss.backward()
        found |= {
            f"{name}_mib": sum(saved.values()) / 2**20,
            f"{name}_s": time.perf_counter() - begun,
        }
        found[f"{name}_loss"] = loss.item()
    assert abs(found["all_loss"] - found["supervised_loss"]) < 1e-3 * found["all_loss"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    import torch

    lines = [
        "| workers | bare step (s) | whole step (s) | loader and bookkeeping |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        sources = demo_sources(Path(name))
        for workers in args.workers:
            got = measure(args.steps, args.batch, workers, Path(name), sources)
            lines.append(
                f"| {workers} | {got['bare']:.3f} | {got['whole']:.3f} | {got['ratio'] - 1:+.1%} |"
            )
    kept = logits_kept()
    lines += [
        "",
        "| logits | kept for the backward pass (MiB) | forward and backward (s) |",
        "|---|---|---|",
        f"| every position | {kept['all_mib']:,.0f} | {kept['all_s']:.2f} |",
        f"| supervised positions | {kept['supervised_mib']:,.0f} | {kept['supervised_s']:.2f} |",
    ]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    facts = f"{cores}, {torch.get_num_threads()} torch threads, load {load}"
    text = "\n".join(
        [
            "# A training step, and logits at supervised positions",
            "",
            f"`python speed/training_step.py --steps {args.steps} --batch {args.batch}` on "
            f"{facts};",
            "medians over steps, bare and whole steps taking turns. Logits: vocabulary 151,936, 4 "
            "x 1,024 tokens of",
            "which 100 each are answers, hidden width 64.",
            "",
            *lines,
            "",
        ]
    )
    print(text)
    if args.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
