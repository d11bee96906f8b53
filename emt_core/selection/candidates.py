"""What selection knows of every index row, and which rows may be selected at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from emt_core.errors import EmtError

ROBOT = "robot"
TEXT_ONLY = "text_only"
NO_SCORE = "no_score"
EXCLUDED = "excluded"


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """One entry a row of the index, in its order. Names stand once; rows hold codes into them."""

    source: np.ndarray
    """Integer [n]: place in `sources`."""
    sources: tuple[str, ...]
    pool: np.ndarray
    """bool [len(sources)]: pool sources; all others are robot data and never selected."""
    category: np.ndarray | None = None
    """Integer [n]: place in `categories`; None where the recipe names no categories."""
    categories: tuple[str, ...] = ()
    logit: np.ndarray | None = None
    """float32 [n], NaN without a score; None where nothing is ranked by score."""
    spread: np.ndarray | None = None
    """float32 [n]: standard deviation of each score over the estimator's seeds, NaN without a
    score; None where it is not asked for."""
    status: np.ndarray | None = None
    """Integer [n]: place in `statuses`; None: every row has a vector."""
    statuses: tuple[str, ...] = ("",)
    text_only: np.ndarray | None = None
    """bool [n]: rows without an image; None: there are none."""
    excluded: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows never taken."""
    cell: np.ndarray | None = None
    """int32 [n]: cell of the feature space, -1 without a vector; None where a selection is not
    spread over cells."""
    duplicate: np.ndarray | None = None
    """bool [n]: rows nearly equal to a better one of their cell; None: not asked."""

    def __post_init__(self) -> None:
        n = len(self.source)
        lengths = {
            name: len(value)
            for name in ("category", "logit", "spread", "status", "text_only")
            if (value := getattr(self, name)) is not None and len(value) != n
        }
        if lengths:
            raise ValueError(f"{n} rows of `source`, but {lengths}")
        if self.logit is not None and self.logit.dtype != np.float32:
            raise TypeError(f"logits are float32, got {self.logit.dtype}")

    @property
    def rows(self) -> int:
        return len(self.source)

    @property
    def pool_sources(self) -> list[str]:
        return [name for name, pool in zip(self.sources, self.pool, strict=True) if pool]

    @property
    def has_vector(self) -> np.ndarray:
        """bool [n]."""
        if self.status is None:
            return np.ones(self.rows, bool)
        return self.status == self.statuses.index("")

    def not_eligible(self, *, include_text_only: bool) -> tuple[np.ndarray, list[str]]:
        """int8 [n] codes into the returned reasons; code 0 ("") may be selected.

        Where the recipe embeds, a candidate has a vector whatever the strategy, so that a random
        draw is a fair baseline of a ranked one. Where several reasons hold the first counts: robot,
        text_only, the embed status, no score, excluded.
        """
        masks = {ROBOT: ~np.asarray(self.pool, bool)[self.source]}
        if self.text_only is not None and not include_text_only:
            masks[TEXT_ONLY] = self.text_only
        if self.status is not None:
            for place, name in enumerate(self.statuses):
                if name:
                    masks[name] = masks.get(name, False) | (self.status == place)
        if self.logit is not None:
            masks[NO_SCORE] = ~np.isfinite(self.logit)
        if len(self.excluded):
            masks[EXCLUDED] = np.zeros(self.rows, bool)
            masks[EXCLUDED][self.excluded] = True
        reasons = ["", *masks]
        code = np.zeros(self.rows, np.int8)
        for reason, mask in reversed(masks.items()):  # what is written last is the first that holds
            np.putmask(code, mask, np.int8(reasons.index(reason)))
        return code, reasons


def could_be_selected(code: np.ndarray, reasons: Sequence[str] | np.ndarray) -> np.ndarray:
    """bool [rows]: selected rows, and those that only a cut, cap, quota or draw kept out.

    code: int [rows], a place in `reasons`. These rows are what every share is a share of.
    """
    kept_out_by = "below_cut not_drawn source_cap category_cap quota cluster_cap near_duplicate"
    return np.isin(reasons, ["", *kept_out_by.split()])[code]


def named_codes(
    names: Iterable[str], known: tuple[str, ...], allowed: list[str], what: str
) -> list[int]:
    """Places in `known` of the names that a cap or quota uses.

    Raises EmtError that lists what may be named.
    """
    unknown = sorted(set(names) - set(allowed))
    if unknown:
        raise EmtError(
            f"{what} names {', '.join(map(repr, unknown))}, which the pool does not have",
            where="select",
            remedy=f"known: {', '.join(allowed)}",
        )
    return [known.index(name) for name in names]
