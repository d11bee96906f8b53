"""What the numbers of a score are: their name on an axis, and what they mean in one sentence, measure by measure.

Every score is higher for nearer samples, but only the classifiers' are log odds; the others are distances, word weights
or whatever a file said, and 0 means something else in each.
"""

from __future__ import annotations

from dataclasses import dataclass

from emt_core.workspace.artifact import Artifact

PROBABILITY = "probability of robot data, σ(logit)"


@dataclass(frozen=True, kw_only=True)
class ScoreScale:
    name: str
    """What the number is, in a word or three: stands in brackets behind `score` and `threshold`."""

    help: str
    """What it is, which way is nearer, and what 0 means where it means anything."""

    is_logit: bool = False
    """Log odds of robot against pool: they have a probability."""

    compared: bool = True
    """Whether telling held-out robot frames from the pool says something. Perplexities are taken of answers, and a
    robot frame's is the action text that the model was tuned on; CLIP judges how well image and text match."""

    @property
    def title(self) -> str:
        """Of an axis or a colour bar."""
        return f"score ({self.name})"


LEARNED = ScoreScale(
    name="logit",
    help=(
        "Proximity score: the logit f(φ(x)) of a linear classifier that tells robot data from the pool. "
        "It rises with the density ratio p_VLA / p_VLM, so ranking by it ranks by nearness to robot data. "
        "0 means even odds. (§ Proximity estimator)"
    ),
    is_logit=True,
)
OF_KIND = {
    "mlp": ScoreScale(
        name="logit",
        help=(
            "The logit of a small neural network that tells robot data from the pool. Higher is nearer to robot data; "
            "0 means even odds."
        ),
        is_logit=True,
    ),
    "distance": ScoreScale(
        name="− mean distance",
        help=(
            "Minus the mean L2 distance to the robot frames in the encoder's feature space. Higher, so closer to 0, is "
            "nearer to robot data."
        ),
    ),
    "knn": ScoreScale(
        name="− k-th distance",
        help=(
            "Minus the L2 distance to the k-th nearest robot frame in the encoder's feature space. Higher, so closer "
            "to 0, is nearer to robot data."
        ),
    ),
    "perplexity": ScoreScale(
        name="− log perplexity",
        help=(
            "Minus the mean loss (nats a token) of the answer under the VLM tuned on robot data. Higher, so closer to "
            "0, means the answer surprises that model less, which counts as nearer."
        ),
        compared=False,
    ),
    "delta_perplexity": ScoreScale(
        name="fall in perplexity",
        help=(
            "Perplexity of the answer under the VLM minus that under the VLM tuned on robot data. Higher is nearer; "
            "above 0, tuning on robot data made the answer less surprising. A few answers may lie very far out."
        ),
        compared=False,
    ),
    "dsir": ScoreScale(
        name="log importance weight",
        help=(
            "How much likelier the sample's words are in robot instructions than in the pool, as a logarithm: summed "
            "over words and word pairs, so that it falls with a text's length, or their mean where the recipe says per "
            "token. Higher is nearer to robot data."
        ),
    ),
    "clip": ScoreScale(
        name="CLIP cosine",
        help=(
            "Cosine between image and conversation in CLIP's space. Higher means that they match better: quality, not "
            "nearness to robot data."
        ),
        compared=False,
    ),
    "random": ScoreScale(
        name="random",
        help="A seeded random number from 0 to 1: it knows nothing of nearness and is what a measure has to beat.",
    ),
    "imported": ScoreScale(
        name="imported",
        help=(
            "A number from your own file or from the samples' meta, its sign turned where the recipe says that lower "
            "is nearer. Higher counts as nearer to robot data."
        ),
    ),
}
"""By `measure.kind`; the linear estimator's scores carry no kind."""


def score_scale(score: Artifact) -> ScoreScale:
    """Of a finished score; a kind that we have no words for is described by its name alone."""
    metrics = score.metrics
    kind = metrics.get("kind")
    if kind is None:
        return LEARNED
    return OF_KIND.get(kind) or ScoreScale(
        name=str(kind),
        help="Higher counts as nearer to robot data.",
        is_logit=bool(metrics.get("is_logit")),
    )
