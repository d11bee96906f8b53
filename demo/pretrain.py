"""Pre-train the tiny VLM from scratch on images that no simulator drew.

    python -m demo.pretrain --out assets/tiny_vlm --work <scratch folder> --seed 0 --minutes 70

Two processes with one thread each train on their own batches and average gradients: on a shared
machine one process with two threads stalled at every kernel whenever a third process ran (2.4 s a
step became 20 s). The state is written every few minutes and the same command goes on from there
after a kill. The cosine runs over training time, not steps, because the speed of a shared machine
is not known beforehand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from demo import tiny_vlm, tokenizer
from demo.gaze import GUIDED_LAYER, gaze_loss
from demo.general import general_samples
from demo.grounding_loss import GroundingLoss, align_embeddings
from demo.packing import Batch, Packer
from demo.phrasing import plural
from demo.pretrain_batches import Settings, batches
from demo.pretrain_data import draw_shard

if TYPE_CHECKING:
    from transformers import Qwen3Config

LOSS_WEIGHT = {"point": 3.0}
"""Four of a point's ten tokens are digits, the others are known after a hundred steps: without this
the digits, the last to be learned, weigh less than a caption's easy words."""


def make_tokenizer(seed: int):
    """The tokenizer, from a text sample of the general data plus every concept's singular and
    plural."""
    from demo.emoji import CONCEPTS

    texts = [
        t for s in general_samples(seed=10_000 + seed, images=6000) for t in (s.question, s.answer)
    ]
    texts += [f"the {name} the {plural(name)} a {name}" for name in CONCEPTS for _ in range(30)]
    return tokenizer.train(texts)


def to_pixels(images: np.ndarray, mean: float = 0.5, std: float = 0.25) -> torch.Tensor:
    """uint8 [b, h, w, 3] to the processor's float32 [b, 3, h, w]."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return pixels.div_(255).sub_(mean).div_(std)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the losses need from one pass; n answer tokens."""

    losses: torch.Tensor
    """[n] cross-entropy of each answer token."""
    weights: torch.Tensor
    """[n] as in `Packed.weights`."""
    visual: torch.Tensor
    """[batch, 49, width] projected visual tokens."""
    attention: torch.Tensor | None
    """[n, heads, 49]: how the guided layer looks at the visual tokens while predicting; None where
    the attention implementation keeps no probabilities."""


def visual_tokens(model, images: np.ndarray) -> torch.Tensor:
    """[batch, 49, width] projected visual tokens of `Batch.images`."""
    return model.model.get_image_features(to_pixels(images), return_dict=True).pooler_output


def answer_losses(model, batch: Batch, image_start: int) -> Answered:
    """One pass over the batch."""
    inner = model.model
    packed = batch.packed
    visual = visual_tokens(model, batch.images)
    text = inner.get_input_embeddings()(torch.from_numpy(packed.input_ids))
    # Every sequence has the same prefix, so the visual tokens' place is known.
    embeds = torch.cat(
        [text[:, :image_start], visual.to(text.dtype), text[:, image_start + visual.shape[1] :]],
        dim=1,
    )
    allowed = torch.from_numpy(packed.allowed)
    mask = torch.zeros(allowed.shape, dtype=embeds.dtype).masked_fill_(
        ~allowed, torch.finfo(embeds.dtype).min
    )
    seen = model.config._attn_implementation == "eager"
    out = inner.language_model(
        inputs_embeds=embeds,
        attention_mask=mask[:, None],
        position_ids=torch.from_numpy(packed.positions),
        use_cache=False,
        output_attentions=seen,
    )
    hidden = out.last_hidden_state
    targets = torch.from_numpy(packed.targets).reshape(-1)
    where = (targets >= 0).nonzero()[:, 0]
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[where])
    attention = None
    if seen:
        rows = where // hidden.shape[1]
        columns = where % hidden.shape[1]
        attention = out.attentions[GUIDED_LAYER][
            rows, :, columns, image_start : image_start + visual.shape[1]
        ]
    return Answered(
        losses=nn.functional.cross_entropy(logits.float(), targets[where], reduction="none"),
        weights=torch.from_numpy(packed.weights).reshape(-1)[where],
        visual=visual,
        attention=attention,
    )


def save_model(model, tok, out: Path) -> None:
    """bfloat16 weights, config, processor and tokenizer: a folder that AutoModel and AutoProcessor
    load."""
    tiny_vlm.processor(tok).save_pretrained(out)
    copy = tiny_vlm.fresh_model(tok, 0)
    copy.load_state_dict(model.state_dict())
    # The library's own decorator hides that `to` is a method.
    copy.to(torch.bfloat16).save_pretrained(out)  # pyright: ignore[reportArgumentType]


def make_optimizers(both: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and the
    auxiliary head."""
    hidden = []
    rest = []
    plain = []
    for name, p in both.named_parameters():
        if p.ndim == 2 and "embed" not in name and not name.startswith("aid"):
            hidden.append(p)
        else:
            (rest if p.ndim >= 2 else plain).append(p)
    decay = settings.weight_decay
    return [
        torch.optim.Muon(
            hidden, lr=settings.peak_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [{"params": rest, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.peak_lr,
            betas=(0.9, 0.98),
            fused=True,
        ),
    ]


def train(rank: int, settings: Settings) -> None:
    """One process of the run (rank 0 logs, checkpoints and saves)."""
    work = Path(settings.work)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{work.resolve()}/rendezvous",
        rank=rank,
        world_size=settings.processes,
    )
    tok = tokenizer.load(work / "tokenizer")
    packer = Packer(tok)
    model = tiny_vlm.fresh_model(tok, settings.seed)
    # Plain matmuls: on this CPU the fused attention's backward alone took 40 % of a step.
    model.set_attn_implementation("eager")
    aid = GroundingLoss(cast("Qwen3Config", model.config.text_config).hidden_size)
    both = nn.ModuleDict({"model": model, "aid": aid})
    vision = [
        *model.model.vision_tower.parameters(),
        *model.model.multi_modal_projector.parameters(),
        *aid.parameters(),
    ]
    everything = list(both.parameters())
    optimizers = make_optimizers(both, settings)
    step = 0
    elapsed = 0.0
    visit = 0
    joint_steps = 0
    state = work / "state.pt"
    if state.exists():
        kept = torch.load(state, weights_only=True)
        both.load_state_dict(kept["model"])
        for optimizer, saved in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = kept["step"]
        elapsed = kept["elapsed"]
        visit = kept["visit"] + 1
        joint_steps = kept["joint_steps"]
    budget = 60.0 * settings.minutes
    saved_at = elapsed
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    log = (work / "log.jsonl").open("a") if rank == 0 else None
    tick = time.perf_counter()
    for visit, batch in batches(work / "data", packer, settings, rank, visit):  # noqa: B020
        joint = elapsed >= settings.vision_share * budget
        if joint and joint_steps == 0:
            align_embeddings(cast("nn.Embedding", model.get_input_embeddings()), aid, tok)
        rate = settings.peak_lr * min(
            1.0, ((joint_steps if joint else step) + 1) / settings.warmup_steps
        )
        rate *= 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, elapsed / budget)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        parameters = everything if joint else vision
        with torch.autocast("cpu", torch.bfloat16):
            if joint:
                answered = answer_losses(model, batch, packer.image_start)
                losses = answered.losses
                weights = answered.weights * torch.tensor(
                    [LOSS_WEIGHT.get(k, 1.0) for k in batch.kinds]
                )
                grounding = aid(answered.visual, batch.cells)
                looking = gaze_loss(answered.attention, batch)
                loss = (losses * weights).sum() / weights.sum() + settings.grounding * grounding
                loss = loss + settings.gaze * looking
            else:
                visual = visual_tokens(model, batch.images)
                losses = None
                grounding = aid(visual, batch.cells)
                looking = None
                loss = settings.grounding * grounding
        loss.backward()
        gradients = [
            cast("torch.Tensor", p.grad) for p in parameters
        ]  # the loss reaches every one of them
        # One flat buffer; its last entry carries rank 0's clock, so that all processes follow one
        # schedule.
        now = time.perf_counter()
        clock = torch.tensor([elapsed + now - tick if rank == 0 else 0.0])
        tick = now
        flat = torch.cat([*(g.reshape(-1) for g in gradients), clock])
        dist.all_reduce(flat)
        elapsed = float(flat[-1])
        at = 0
        for g in gradients:
            g.copy_(flat[at : at + g.numel()].view_as(g))
            at += g.numel()
        torch._foreach_div_(gradients, float(settings.processes))  # pyright: ignore[reportPrivateImportUsage]
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step = step + 1
        joint_steps = joint_steps + joint
        if rank == 0:
            assert log is not None
            _account(sums, losses, batch.kinds, grounding=grounding, gaze=looking)
            if step % 25 == 0:
                means = {k: round(total / n, 4) for k, (total, n) in sorted(sums.items())}
                log.write(
                    json.dumps(
                        {
                            "step": step,
                            "minutes": round(elapsed / 60, 2),
                            "lr": round(rate, 6),
                            **means,
                        }
                    )
                    + "\n"
                )
                log.flush()
                sums.clear()
            if elapsed - saved_at > settings.checkpoint_seconds or elapsed >= budget:
                saved_at = elapsed
                kept = {
                    "model": both.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                }
                kept |= {
                    "step": step,
                    "elapsed": elapsed,
                    "visit": visit,
                    "joint_steps": joint_steps,
                }
                torch.save(kept, state.with_suffix(".tmp"))
                state.with_suffix(".tmp").replace(state)
                save_model(model, tok, Path(settings.out))
        if elapsed >= budget:
            break
    dist.destroy_process_group()


def _account(
    sums: dict[str, list[float]],
    losses: torch.Tensor | None,
    kinds: list[str],
    **aids: torch.Tensor | None,
) -> None:
    if losses is not None:
        for kind, value in zip(kinds, losses.detach().tolist(), strict=True):
            sums[kind][0] += value
            sums[kind][1] += 1
    for name, value in aids.items():
        if value is not None:
            sums[name][0] += float(value.detach())
            sums[name][1] += 1


def run(settings: Settings) -> None:
    """Draw what is missing, then train to the end of the budget; safe to repeat after a kill."""
    work = Path(settings.work)
    (work / "data").mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    # Large tensors from the heap instead of fresh pages at each allocation: a tenth of a step's
    # time.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
    missing = [n for n in range(settings.shards) if not (work / "data" / f"shard-{n:05d}").is_dir()]
    with mp.get_context("spawn").Pool(settings.processes) as pool:
        pool.starmap(draw_shard, [(work / "data", n, settings.seed) for n in missing], chunksize=1)
    if not (work / "tokenizer").is_dir():
        make_tokenizer(settings.seed).save_pretrained(work / "tokenizer")
    (work / "rendezvous").unlink(missing_ok=True)
    mp.spawn(train, args=(settings,), nprocs=settings.processes)  # pyright: ignore[reportPrivateImportUsage]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="model folder to write, e.g. assets/tiny_vlm")
    parser.add_argument("--work", required=True, help="scratch folder (shards: 6 GB)")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--minutes", type=float, default=Settings.minutes, help="training time")
    parser.add_argument(
        "--shards", type=int, default=Settings.shards, help="shards of 4,000 images to draw"
    )
    parser.add_argument(
        "--batch", type=int, default=Settings.batch, help="images a step and process"
    )
    parser.add_argument("--peak-lr", type=float, default=Settings.peak_lr)
    run(Settings(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
