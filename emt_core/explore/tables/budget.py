"""Training cost of a selection: tokens per pass, and GPU-hours at a measured throughput.

    tokens of a sample = min(images x tokens per image + characters / characters per token,
                             sequence length)
    GPU-hours          = tokens x passes / (tokens per second of one GPU) / 3600

Characters and images are counted exactly. Characters per token are measured with the backbone's
tokenizer on a seeded sample of conversations if it is a local folder, else assumed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emt_core.data.index import Index
from emt_core.selection import Composition, Preview

RULE_OF_THUMB = 4.0
"""Characters per token of English with a large vocabulary: an assumption, shown as such."""
SAMPLE_ROWS = 400
SEQUENCE_LENGTH = 1024
"""Mid-training's (method section 8); longer samples are truncated."""


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
    """tokens_per_second: of one GPU in training (forward, backward, optimizer)."""
    return tokens * passes / tokens_per_second / 3600


def costs_of_backbone(folder: Path, index: Index, *, seed: int = 0) -> Tokenizer:
    """Token costs from `tokenizer.json` and the configuration of a local model folder."""
    ratio, sampled = _text_costs(folder / "tokenizer.json", index, seed)
    tokens = _image_tokens(folder)
    return Tokenizer(characters_per_token=ratio, sampled=sampled, image_tokens=tokens)


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
    encoded = rules.encode_batch(texts, add_special_tokens=False)
    tokens = sum(len(one.ids) for one in encoded)
    characters = sum(map(len, texts))
    return (characters / tokens if tokens else None), len(rows)


def _image_tokens(folder: Path) -> int | None:
    """`image_seq_length`, of models with as many tokens for every image (InternVL untiled)."""
    for name in ("config.json", "processor_config.json"):
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        length = config.get("image_seq_length")
        if isinstance(length, int) and length > 0:
            return length
    return None
