"""Estimator: how it learned, how well it ranks and how far its probabilities hold, on episodes it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import estimator
from emt_core.explore.figures import estimator as estimators
from emt_core.explore.figures import scores as distributions
from emt_core.explore.figures.palette import ROLE
from emt_core.explore.tables.estimator import comparable, confusion, remarks
from emt_core.explore.tables.score_scale import LEARNED, PROBABILITY
from emt_core.explore.tables.scores import Scale, bin_edges, bins_for, distribution, to_scale
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json
from pages.parts import glossary
from pages.parts import view as reading
from pages.parts.choice import choice
from pages.parts.empty import needs
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current

BARE = {"displayModeBar": False}
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
        "What learned to tell robot data from the pool, and how far to trust it.",
        ("estimator",),
    )
    if not comparable(view.done):
        needs(
            view,
            "sources",
            "embed",
            "estimator",
            shows="This page shows how the proximity estimator learned.",
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
    colors = estimators.run_colors(list(runs))
    _training(runs, colors)
    curves = {label: _curves(str(artifact.path)) for label, artifact in runs.items()}
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("ROC", anchor=False, help=glossary.AUROC)
        st.plotly_chart(estimators.rocs(_part(curves, "roc"), colors), config=BARE)
    with right:
        st.subheader("Precision and recall", anchor=False, help=glossary.AP)
        st.plotly_chart(
            estimators.precision_recalls(_part(curves, "precision_recall"), colors), config=BARE
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Calibration", anchor=False, help=glossary.ECE)
        st.plotly_chart(estimators.reliabilities(_part(curves, "calibration"), colors), config=BARE)
        errors = [
            f"{label} {numbers.decimal(a.metrics.get('calibration_error'))}"
            for label, a in runs.items()
        ]
        said = errors[0].split(" ")[-1] if len(errors) == 1 else ", ".join(errors)
        st.caption(f"Expected calibration error: {escape(said)}")
    with right:
        label = _separation(runs)
    left, right = st.columns(2, gap="large")
    with left:
        _confusion(runs[label])
    with right:
        _by_robot(runs)


def _chosen(view: View) -> dict[str, Artifact]:
    """Short label -> artifact. One is shown without asking."""
    there = comparable(view.done)
    behind = {
        artifact.key
        for artifact in (view.chain.estimator, view.chain.measure)
        if artifact is not None
    }
    mine = [label for label, artifact in there.items() if artifact.key in behind] or list(there)
    if len(there) == 1:
        picked = list(there)
    else:
        picked = st.multiselect(
            "Compare",
            list(there),
            default=mine[-1:],
            max_selections=MOST,
            key="compare",
            bind="query-params",
            format_func=short_label,
            help="Estimators of this recipe, on the same axes.",
        )
    shorts = [short_label(label) for label in picked]
    return {
        short if shorts.count(short) == 1 else label: there[label]
        for label, short in zip(picked, shorts, strict=True)
    }


def _numbers(artifact: Artifact) -> None:
    metrics = artifact.metrics
    with st.grid(6, min_column_width=118, gap="small"):
        st.metric("Steps", numbers.whole(metrics.get("steps")), help=glossary.STOP, border=True)
        st.metric("AUROC", numbers.decimal(metrics.get("auroc")), help=glossary.AUROC, border=True)
        st.metric(
            "Avg. precision",
            numbers.decimal(metrics.get("average_precision")),
            help=glossary.AP,
            border=True,
        )
        st.metric(
            "Calibration",
            numbers.decimal(metrics.get("calibration_error")),
            help=glossary.ECE,
            border=True,
        )
        st.metric(
            "Accuracy",
            numbers.share(metrics.get("test_accuracy")),
            help=glossary.TEST_ACCURACY,
            border=True,
        )
        st.metric(
            "Graded", numbers.share(metrics.get("graded_share")), help=glossary.GRADED, border=True
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
        label: reading.parquet(str(artifact.path), "steps.parquet").to_pandas()
        for label, artifact in runs.items()
        if (artifact.data / "steps.parquet").exists()
    }
    if not steps:
        return
    st.subheader("How it learned", anchor=False, help=glossary.STOP)
    if len(runs) == 1:
        artifact, frame = next(iter(runs.values())), next(iter(steps.values()))
        figure = estimator.training(
            frame,
            stopped_at=artifact.metrics.get("steps"),
            target=artifact.config.get("stop_accuracy"),
        )
    else:
        figure = estimators.learning(steps, colors)
    st.plotly_chart(figure, config=BARE)


@st.cache_resource(max_entries=32, show_spinner=False)
def _curves(path: str) -> dict[str, Any]:
    return read_json(Path(path) / "data" / "curves.json")


def _part(curves: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return {label: found[name] for label, found in curves.items() if name in found}


def _separation(runs: dict[str, Artifact]) -> str:
    """Held-out scores of one estimator; returns its label."""
    st.subheader("Held-out robot frames and pool samples", anchor=False, help=glossary.HELD_OUT)
    first = next(iter(runs))
    label = first
    with st.container(horizontal=True):
        if len(runs) > 1:
            label = st.segmented_control(
                "Estimator", list(runs), default=first, required=True, key="separation"
            )
        scale: Scale = choice("Score as", ["logit", "probability"], key="scale")  # type: ignore[assignment]
    label = label if label in runs else first
    logit, robot = _held_out(str(runs[label].path))
    edges = bin_edges(logit, scale, bins_for(len(logit)))
    data = distribution(to_scale(logit, scale), robot, ("pool", "robot"), edges)
    st.plotly_chart(
        distributions.histogram(
            data,
            ROLE,
            axis=PROBABILITY if scale == "probability" else LEARNED.title,
            cut=0.5 if scale == "probability" else 0.0,
            cut_label="even odds",
            labels={"robot": "robot data", "pool": "pool"},
            height=250,
        ),
        config=BARE,
    )
    return label


def _held_out(path: str) -> tuple[np.ndarray, np.ndarray]:
    """float32 logits and int16 labels (1: robot) of the test split, at most some ten thousand rows."""
    held = reading.parquet(path, "heldout.parquet")
    return held["logit"].to_numpy().astype(np.float32), held["label"].to_numpy().astype(np.int16)


def _confusion(artifact: Artifact) -> None:
    st.subheader("At even odds (score 0)", anchor=False, help=glossary.CONFUSION)
    logit, robot = _held_out(str(artifact.path))
    st.plotly_chart(estimators.confusion(confusion(robot, logit).counts), config=BARE)


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
