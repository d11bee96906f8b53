"""What the scores of each measure mean: an axis title and a help text.

Higher always means nearer to robot data, but only classifiers give log odds; other measures give
distances, word weights or whatever a file had, and 0 means something else in each.
"""

from __future__ import annotations

from dataclasses import dataclass

from emt_core.workspace.artifact import Artifact

PROBABILITY = "probability of robot data, σ(logit)"


@dataclass(frozen=True, kw_only=True)
class ScoreScale:
    name: str
    """A few words, in brackets after `score` and `threshold`."""

    help: str
    """What it is, which way is nearer, and what 0 means."""

    is_logit: bool = False
    """Log odds of robot data against pool, so there is a probability."""

    compared: bool = True
    """Whether an AUROC on held-out robot frames means something. Not for perplexities (a robot
    frame's is that of the action text the model was tuned on), nor for CLIP (image-text match)."""

    @property
    def title(self) -> str:
        """Title of an axis or color bar."""
        return f"score ({self.name})"


LEARNED = ScoreScale(
    name="logit",
    help=(
        "Proximity score: the logit f(φ(x)) of a linear classifier of robot data against pool. It "
        "rises with the density ratio p_VLA / p_VLM. 0 means even odds. (§ Proximity estimator)"
    ),
    is_logit=True,
)
OF_KIND = {
    "mlp": ScoreScale(
        name="logit",
        help=(
            "The logit of a small neural network that classifies robot data against pool. Higher "
            "is nearer to robot data; 0 means even odds."
        ),
        is_logit=True,
    ),
    "distance": ScoreScale(
        name="− mean distance",
        help=(
            "Minus the mean L2 distance to the robot frames in the encoder's feature space. Higher "
            "(closer to 0) is nearer to robot data."
        ),
    ),
    "knn": ScoreScale(
        name="− k-th distance",
        help=(
            "Minus the L2 distance to the k-th nearest robot frame in the encoder's feature space. "
            "Higher (closer to 0) is nearer to robot data."
        ),
    ),
    "perplexity": ScoreScale(
        name="− log perplexity",
        help=(
            "Minus the mean loss (nats per token) of the answer under the VLM tuned on robot data. "
            "Higher (closer to 0): the answer surprises that model less, which counts as nearer."
        ),
        compared=False,
    ),
    "delta_perplexity": ScoreScale(
        name="fall in perplexity",
        help=(
            "Perplexity of the answer under the VLM minus that under the VLM tuned on robot "
            "data. Higher is nearer; above 0, tuning on robot data made the answer less "
            "surprising. There may be extreme outliers."
        ),
        compared=False,
    ),
    "gradient": ScoreScale(
        name="gradient cosine",
        help=(
            "Cosine between the VLM's gradient on the sample and on robot frames, with actions as "
            "text. Higher: training on it moves the VLM more as training on robot data would."
        ),
        compared=False,
    ),
    "dsir": ScoreScale(
        name="log importance weight",
        help=(
            "Log ratio of how likely the sample's words are in robot instructions and in the pool, "
            "summed over words and word pairs (so it falls with text length), or their mean if the "
            "recipe says per token. Higher is nearer to robot data."
        ),
    ),
    "clip": ScoreScale(
        name="CLIP cosine",
        help=(
            "Cosine between image and conversation in CLIP's space. Higher: they match better. "
            "This measures quality, not nearness to robot data."
        ),
        compared=False,
    ),
    "random": ScoreScale(
        name="random",
        help="A seeded random number from 0 to 1: the baseline that a measure has to beat.",
    ),
    "imported": ScoreScale(
        name="imported",
        help=(
            "A number from your own file or from the samples' meta (negated if the recipe says "
            "that lower is nearer). Higher counts as nearer to robot data."
        ),
    ),
}
"""By `measure.kind`; scores of the linear estimator have none."""


def score_scale(score: Artifact) -> ScoreScale:
    """The scale of a finished score; an unknown kind gets its name."""
    metrics = score.metrics
    kind = metrics.get("kind")
    if kind is None:
        return LEARNED
    return OF_KIND.get(kind) or ScoreScale(
        name=str(kind),
        help="Higher counts as nearer to robot data.",
        is_logit=bool(metrics.get("is_logit")),
    )
