"""Estimator: training curves, ranking and calibration on held-out episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import estimator, scores
from emt_core.explore.figures.palette import ROLE
from emt_core.explore.tables.estimator import comparable, confusion, remarks
from emt_core.explore.tables.score_scale import LEARNED, PROBABILITY
from emt_core.explore.tables.scores import Scale, bin_edges, bins_for, distribution, to_scale
from emt_core.workspace.artifact import Artifact
from pages.parts import cached, glossary
from pages.parts.empty import needs
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice, metrics

MOST = 6
ICON = {
    "good": ":green[:material/check_circle:]",
    "look": ":blue[:material/info:]",
    "warn": ":orange[:material/warning:]",
}
COLUMNS = {
    "steps": "steps",
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "auroc": "AUROC",
    "average_precision": "avg. precision",
    "calibration_error": "ECE",
    "brier": "Brier score",
    "graded_share": "graded share",
}


def main() -> None:
    view = current()
    page_header(
        view,
        "Estimator",
        "How the classifier of robot data against pool was trained, and how far to trust it.",
        ("estimator",),
    )
    if not comparable(view.done):
        needs(
            view,
            "sources",
            "embed",
            "estimator",
            shows="This page shows how the proximity estimator was trained.",
        )
    runs = _chosen(view)
    if not runs:
        st.caption("Choose at least one estimator.")
        return
    if len(runs) == 1:
        _numbers(next(iter(runs.values())))
    else:
        _table(runs)
    _remarks(runs)
    colors = estimator.run_colors(list(runs))
    _training(runs, colors)
    curves = {label: cached.json_file(artifact, "curves.json") for label, artifact in runs.items()}
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("ROC", anchor=False, help=glossary.AUROC)
        chart(estimator.rocs(_part(curves, "roc"), colors))
    with right:
        st.subheader("Precision and recall", anchor=False, help=glossary.AP)
        chart(estimator.precision_recalls(_part(curves, "precision_recall"), colors))
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Calibration", anchor=False, help=glossary.ECE)
        chart(estimator.reliabilities(_part(curves, "calibration"), colors))
        errors = [
            f"{label} {numbers.decimal(a.metrics.get('calibration_error'))}"
            for label, a in runs.items()
        ]
        text = errors[0].split(" ")[-1] if len(errors) == 1 else ", ".join(errors)
        st.caption(f"Expected calibration error: {escape(text)}")
    with right:
        label = _separation(runs)
    left, right = st.columns(2, gap="large")
    with left:
        _confusion(runs[label])
    with right:
        _by_robot(runs)


def _chosen(view: View) -> dict[str, Artifact]:
    """Short label -> artifact. A single estimator is shown without asking."""
    known = comparable(view.done)
    behind = {
        artifact.key
        for artifact in (view.chain.estimator, view.chain.measure)
        if artifact is not None
    }
    mine = [label for label, artifact in known.items() if artifact.key in behind] or list(known)
    if len(known) == 1:
        picked = list(known)
    else:
        picked = st.multiselect(
            "Compare",
            list(known),
            default=mine[-1:],
            max_selections=MOST,
            key="compare",
            bind="query-params",
            format_func=short_label,
            help="Estimators of this recipe.",
        )
    shorts = [short_label(label) for label in picked]
    return {
        short if shorts.count(short) == 1 else label: known[label]
        for label, short in zip(picked, shorts, strict=True)
    }


def _numbers(artifact: Artifact) -> None:
    found = artifact.metrics
    metrics(
        ("Steps", numbers.whole(found.get("steps")), glossary.STOP),
        ("AUROC", numbers.decimal(found.get("auroc")), glossary.AUROC),
        ("Avg. precision", numbers.decimal(found.get("average_precision")), glossary.AP),
        ("Calibration", numbers.decimal(found.get("calibration_error")), glossary.ECE),
        ("Accuracy", numbers.share(found.get("test_accuracy")), glossary.TEST_ACCURACY),
        ("Graded", numbers.share(found.get("graded_share")), glossary.GRADED),
    )


def _table(runs: dict[str, Artifact]) -> None:
    rows = [
        {
            "estimator": label,
            **{words: artifact.metrics.get(name) for name, words in COLUMNS.items()},
        }
        for label, artifact in runs.items()
    ]
    st.dataframe(pd.DataFrame(rows).round(3), hide_index=True)


def _remarks(runs: dict[str, Artifact]) -> None:
    for label, artifact in runs.items():
        lines = [
            f"{ICON[remark.level]} {escape(remark.text)}"
            for remark in remarks(artifact.metrics, artifact.config)
        ]
        if len(runs) > 1:
            lines = [f"**{escape(label)}**", *lines[:1]]
        st.markdown("  \n".join(lines))


def _training(runs: dict[str, Artifact], colors: dict[str, str]) -> None:
    steps = {
        label: cached.parquet(artifact, "steps.parquet").to_pandas()
        for label, artifact in runs.items()
        if (artifact.data / "steps.parquet").exists()
    }
    if not steps:
        return
    st.subheader("Training", anchor=False, help=glossary.STOP)
    if len(runs) == 1:
        artifact, frame = next(iter(runs.values())), next(iter(steps.values()))
        figure = estimator.training(
            frame,
            stopped_at=artifact.metrics.get("steps"),
            target=artifact.config.get("stop_accuracy"),
        )
    else:
        figure = estimator.learning(steps, colors)
    chart(figure)


def _part(curves: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return {label: found[name] for label, found in curves.items() if name in found}


def _separation(runs: dict[str, Artifact]) -> str:
    """Draw the held-out scores of one estimator; returns its label."""
    st.subheader("Held-out robot frames and pool samples", anchor=False, help=glossary.HELD_OUT)
    first = next(iter(runs))
    label = first
    with st.container(horizontal=True):
        if len(runs) > 1:
            label = choice("Estimator", runs, key="separation", in_url=False)
        scale: Scale = choice("Score as", ["logit", "probability"], key="scale")  # type: ignore
    label = label if label in runs else first
    logit, robot = _held_out(runs[label])
    edges = bin_edges(logit, scale, bins_for(len(logit)))
    data = distribution(to_scale(logit, scale), robot, ("pool", "robot"), edges)
    chart(
        scores.histogram(
            data,
            ROLE,
            axis=PROBABILITY if scale == "probability" else LEARNED.title,
            cut=0.5 if scale == "probability" else 0.0,
            cut_label="threshold",
            labels={"robot": "robot data", "pool": "pool"},
            height=250,
        )
    )
    return label


def _held_out(artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """float32 logits and int16 labels (1: robot) of the test split, some ten thousand rows."""
    held = cached.parquet(artifact, "heldout.parquet")
    return held["logit"].to_numpy().astype(np.float32), held["label"].to_numpy().astype(np.int16)


def _confusion(artifact: Artifact) -> None:
    st.subheader("At threshold 0", anchor=False, help=glossary.CONFUSION)
    logit, robot = _held_out(artifact)
    chart(estimator.confusion(confusion(robot, logit)))


def _by_robot(runs: dict[str, Artifact]) -> None:
    """AUROC against the pool for each robot set."""
    rows = [
        {
            "robot set": robot,
            **({"estimator": label} if len(runs) > 1 else {}),
            "AUROC": round(value, 3),
        }
        for label, artifact in runs.items()
        for robot, value in (artifact.metrics.get("auroc_by_robot") or {}).items()
    ]
    if rows:
        st.subheader("By robot set", anchor=False, help=glossary.AUROC)
        st.dataframe(rows, hide_index=True)


main()
