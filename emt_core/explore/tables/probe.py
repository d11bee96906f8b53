"""What mid-training gained and lost, by the probes of a recipe or a workspace; pure reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pyarrow import parquet

from emt_core.evaluation.comparison.runs import arm_and_seed
from emt_core.evaluation.probe_scores import Score, difference_of, score_of
from emt_core.evaluation.proportion import Paired, paired
from emt_core.proximity.metrics.rank_agreement import spearman
from emt_core.workspace.artifact import Artifact, Workspace

FEWEST_MODELS = 5
"""Rolled-out models below which no correlation is told: with four, chance alone gives a perfect
ranking once in twelve."""

NAMES = {
    "action": "next actions",
    "hand": "hand position",
    "objects": "object positions",
    "task": "which task it is",
}
Key = tuple[str, str, bool]
"""(probe, head, whether of tasks that it learned from)."""


@dataclass(frozen=True)
class ProbeRun:
    """One probed model: `probe@lora/0` is arm lora, seed 0."""

    label: str
    artifact: Artifact

    @property
    def origin(self) -> bool:
        return self.artifact.config["start"] == "backbone"

    @property
    def arm(self) -> str:
        arm, _ = arm_and_seed(self.label)
        return arm or self.label.partition(".")[2] or "mid-trained"

    @property
    def asked(self) -> str:
        return self.artifact.metrics["asked"]

    @property
    def model(self) -> tuple[str, float]:
        """(key of its mid-training, "" for the origin; how far from the origin)."""
        return _model_of(self.artifact)

    def errors(self) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
        """(error, base) float64 [episodes] by probe, episodes in the same order for all models."""
        table = parquet.read_table(self.artifact.data / "episodes.parquet").to_pandas()
        found = {}
        for key, rows in table.groupby(["probe", "head", "seen"], sort=False):
            mean = rows.groupby(["set", "episode"])[["error", "base"]].mean().sort_index()
            found[key] = (mean["error"].to_numpy(), mean["base"].to_numpy())
        return found


def _model_of(artifact: Artifact) -> tuple[str, float]:
    key = artifact.manifest["parents"].get("midtrain", "")
    return key, float(artifact.config.get("interpolate", 1.0)) if key else 1.0


def newest_group(done: Mapping[str, Artifact]) -> list[ProbeRun]:
    """The probes that were asked the same as the one that finished last; a model once."""
    runs = [ProbeRun(label, made) for label, made in done.items() if made.stage == "probe"]
    if not runs:
        return []
    last = max(runs, key=lambda run: run.artifact.manifest["finished"])
    found: dict[tuple[str, str], ProbeRun] = {}
    for run in runs:
        if run.asked == last.asked:
            found.setdefault((run.artifact.key, "" if run.origin else run.arm), run)
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class Gain:
    """One probe of one arm beside the origin."""

    arm: str
    probe: str
    head: str
    seen: bool
    score: Score
    origin: Score
    gain: Score
    models: int
    """Mid-trainings of the arm; their errors are averaged."""

    @property
    def verdict(self) -> Literal["gained", "lost", "open"]:
        if self.gain.low > 0:
            return "gained"
        return "lost" if self.gain.high < 0 else "open"


def gains(runs: Sequence[ProbeRun]) -> list[Gain]:
    """Every arm against the origin, on the same episodes; none where the origin was not probed."""
    origin = next((run.errors() for run in runs if run.origin), None)
    if origin is None:
        return []
    arms: dict[str, list[ProbeRun]] = {}
    for run in runs:
        if not run.origin:
            arms.setdefault(run.arm, []).append(run)
    found = []
    for arm, mine in arms.items():
        errors = [run.errors() for run in mine]
        for key, (before, base) in origin.items():
            of_models = [one[key][0] for one in errors if key in one]
            if not of_models or any(len(one) != len(before) for one in of_models):
                continue
            after = np.mean(of_models, axis=0)
            found.append(
                Gain(
                    arm=arm,
                    probe=key[0],
                    head=key[1],
                    seen=key[2],
                    score=score_of(after, base),
                    origin=score_of(before, base),
                    gain=difference_of(after, before, base),
                    models=len(of_models),
                )
            )
    return found


def advice(found: Iterable[Gain]) -> str:
    """One sentence on whether rollouts of the arm are worth their price. found: of one arm.

    Actions decide, as the linear probe reads them: a policy's head has to do the same.
    """
    linear = [gain for gain in found if gain.head == "linear"]
    action = {gain.verdict for gain in linear if gain.probe == "action"}
    lost = [gain.probe for gain in linear if gain.verdict == "lost"]
    if "lost" in action and "gained" not in action:
        return (
            "Rollouts are hardly worth their price: actions are read worse from its features than "
            "from those of the model before."
        )
    if "gained" in action and not lost:
        return (
            "Rollouts are worth their price: actions are read better than before, and nothing "
            "that was asked is read worse."
        )
    if "gained" in action:
        names = ", ".join(dict.fromkeys(NAMES[name] for name in lost))
        return f"Rollouts can decide: actions are read better than before, but worse is {names}."
    widest = max((gain.gain.high - gain.gain.low for gain in linear), default=float("nan"))
    return (
        "The probe does not tell: it sees no difference in actions. A difference below about "
        f"{widest / 2:.2f} of R² would escape it; only rollouts, or more episodes, can tell."
    )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a question set says of one arm, after minus before on the same questions."""

    arm: str
    suite: str
    before: float
    after: float
    change: Paired


def kept(done: Mapping[str, Artifact], runs: Sequence[ProbeRun]) -> list[Kept]:
    """Of every `retain` that asked a model which is among the runs."""
    arms = {run.model: run.arm for run in reversed(runs) if not run.origin}
    found = []
    seen = set()
    for artifact in done.values():
        if artifact.stage != "retain" or artifact.key in seen or _model_of(artifact) not in arms:
            continue
        seen.add(artifact.key)
        columns = ["suite", "origin_correct", "midtrained_correct"]
        table = parquet.read_table(artifact.data / "answers.parquet", columns=columns).to_pandas()
        for suite, rows in table.groupby("suite", sort=False):
            after = rows["midtrained_correct"].to_numpy(float)
            before = rows["origin_correct"].to_numpy(float)
            found.append(
                Kept(
                    arm=arms[_model_of(artifact)],
                    suite=str(suite),
                    before=float(before.mean()),
                    after=float(after.mean()),
                    change=paired(after, before),
                )
            )
    return found


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether probes rank models as rollouts do."""

    models: int
    correlation: float
    low: float
    high: float
    """95 % interval: a bootstrap over models. NaN with too few models."""


def agreement(workspace: Workspace, asked: str, probe: str = "action") -> Agreement:
    """Spearman's correlation of the linear probe's score (tasks it learned from) with success, over
    all models of the workspace that were asked the same and rolled out.

    Success of a model is the mean over its evaluations.
    """
    score = {}
    for artifact in workspace.artifacts("probe"):
        if artifact.metrics["asked"] == asked:
            for row in artifact.metrics["probes"]:
                if (row["probe"], row["head"], row["seen"]) == (probe, "linear", True):
                    score[_model_of(artifact)] = row["score"]
    rates = _rates(workspace)
    both = [model for model in score if model in rates]
    scores = np.array([score[model] for model in both])
    success = np.array([np.mean(rates[model]) for model in both])
    nothing = float("nan")
    if len(both) < FEWEST_MODELS:
        return Agreement(models=len(both), correlation=nothing, low=nothing, high=nothing)
    draws = np.random.default_rng(0).integers(0, len(both), (2_000, len(both)))
    drawn = [spearman(scores[draw], success[draw]) for draw in draws]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    found = spearman(scores, success)
    return Agreement(models=len(both), correlation=found, low=float(low), high=float(high))


def _rates(workspace: Workspace) -> dict[tuple[str, float], list[float]]:
    """Model that a fine-tuning started from -> success of its evaluations."""
    found: dict[tuple[str, float], list[float]] = {}
    for evaluation in workspace.artifacts("evaluate"):
        key = evaluation.manifest["parents"].get("finetune")
        finetune = workspace.find("finetune", key) if key else None
        success: Any = evaluation.metrics.get("success")
        if finetune is not None and success is not None:
            found.setdefault(_model_of(finetune), []).append(float(success))
    return found
