"""What a selection costs to train on: tokens a pass, and GPU-hours at a throughput that somebody measured.

    tokens of a sample = min(images x tokens an image + characters / characters a token, sequence length)
    GPU-hours          = tokens x passes / (tokens a second and GPU) / 3600        (independent of the number of GPUs)

Characters and images are counted exactly, over every row. Characters a token are measured with the backbone's own
tokenizer on a seeded sample of conversations where it is a folder of this machine, and an assumption otherwise: the
caller says which. A throughput is never assumed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emt_core.data.index import Index
from emt_core.selection import Composition, Preview

RULE_OF_THUMB = 4.0
"""Characters a token of English under a large vocabulary: an assumption, used and named where there is no tokenizer."""
SAMPLE_ROWS = 400
SEQUENCE_LENGTH = 1024
"""Mid-training's (method section 8): longer samples are cut there."""


@dataclass(frozen=True, kw_only=True)
class TokenCosts:
    characters_per_token: float
    image_tokens: int
    sequence_length: int = SEQUENCE_LENGTH


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """What a backbone's folder says about costs; None where it does not."""

    characters_per_token: float | None
    sampled: int
    """Conversations that the figure was measured on."""
    image_tokens: int | None


class TokenBudget:
    """Tokens of any cut in microseconds: running sums of every (source, category) cell in rank order.

    Greedy selection takes the first rows of each cell (a limit that is used up stays used up), so the counts of a
    Composition say exactly which rows are meant. 8 bytes a row.
    """

    def __init__(
        self, preview: Preview, characters: np.ndarray, images: np.ndarray, costs: TokenCosts
    ) -> None:
        """characters, images: integer [index rows]."""
        rows, bounds = preview.by_cell
        tokens = (
            images[rows] * np.float64(costs.image_tokens)
            + characters[rows] / costs.characters_per_token
        )
        tokens = np.minimum(tokens, costs.sequence_length)
        self._sums = np.concatenate([[0.0], np.cumsum(tokens)])
        self._starts = bounds[:-1]

    def tokens(self, made: Composition) -> float:
        """Tokens of one pass over what this composition takes."""
        counts = made.counts.reshape(-1)
        return float((self._sums[self._starts + counts] - self._sums[self._starts]).sum())


def gpu_hours(tokens: float, passes: float, tokens_per_second: float) -> float:
    """tokens_per_second: of one GPU, training included (forward, backward, optimizer)."""
    return tokens * passes / tokens_per_second / 3600


def costs_of_backbone(folder: Path, index: Index, *, seed: int = 0) -> Tokenizer:
    """Measured with `tokenizer.json` and the configuration of a local model folder; loads no torch, no model."""
    ratio, sampled = _text_costs(folder / "tokenizer.json", index, seed)
    return Tokenizer(
        characters_per_token=ratio, sampled=sampled, image_tokens=_image_tokens(folder)
    )


def _text_costs(path: Path, index: Index, seed: int) -> tuple[float | None, int]:
    pool = [source for source in index.of_role("pool") if source.rows]
    if not path.is_file() or not pool:
        return None, 0
    from tokenizers import Tokenizer as Rules

    rules = Rules.from_file(str(path))
    rng = np.random.default_rng(seed)
    places = np.concatenate([np.arange(source.start, source.stop) for source in pool])
    rows = np.sort(rng.choice(places, min(SAMPLE_ROWS, len(places)), replace=False))
    texts = ["\n".join(turn.text for turn in sample.turns) for sample in index.samples(rows)]
    tokens = sum(
        len(encoded.ids) for encoded in rules.encode_batch(texts, add_special_tokens=False)
    )
    characters = sum(map(len, texts))
    return (characters / tokens if tokens else None), len(rows)


def _image_tokens(folder: Path) -> int | None:
    """`image_seq_length` where the model has one number of tokens for every image (InternVL without tiling)."""
    for name in ("config.json", "processor_config.json"):
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("image_seq_length")
        except (OSError, ValueError):
            continue
        if isinstance(found, int) and found > 0:
            return found
    return None
