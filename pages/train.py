"""Train: live curves of mid-training and fine-tuning, throughput, memory, files on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from emt_core.errors import EmtError
from emt_core.evaluation.comparison.runs import arm_and_seed
from emt_core.explore import numbers
from emt_core.explore.figures import curves
from emt_core.explore.tables.train import (
    GrowingSteps,
    TrainingRun,
    at_work,
    kept_states,
    smoothed,
    training_runs,
    with_rates,
)
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.recipe import load_recipe
from emt_core.workspace.progress import duration
from pages.parts import glossary
from pages.parts.empty import first_steps, planned, run_up_to
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.train.retained import retained_section
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice, metrics

LIVE_S = 2.0
MOST_RUNS = 8
UNSMOOTHED = ("learning_rate", "memory_mb", "validation_loss")
AXES = {"Steps": "step", "Samples": "samples", "Hours": "hours"}
AXIS_TITLES = {"step": "step", "samples": "samples seen", "hours": "hours of training"}
GRIPPER_LOSS = {
    "binary": "gripper loss (cross-entropy)",
    "continuous": "gripper loss (Huber)",
    None: "gripper loss",
}
KIND = {"midtrain": "mid-training", "finetune": "fine-tuning"}
HOW = """midtrain: {steps: 5000, batch: 256}     # on the recipe's selection
finetune: {data: [{name: arm, path: my_robot_data, camera: observation.images.front}]}"""


def main() -> None:
    view = current()
    page_header(
        view,
        "Train",
        "Mid-training of the VLM on the selection, then fine-tuning of the VLA on demonstrations.",
        ("midtrain", "finetune", "retain"),
    )
    if not view.recipe:
        first_steps(view)
        return
    runs = training_runs(view.workspace, view.done)
    if not runs:
        _empty(view)
        return
    chosen = _chosen(runs)
    live = any(at_work(run) for run in chosen)
    _controls()
    st.fragment(_curves, run_every=LIVE_S if live else None)(chosen, _gripper_loss(view, chosen))
    retained_section(view)


def _empty(view: View) -> None:
    with st.container(border=True):
        st.subheader("Nothing has been trained yet", anchor=False)
        st.markdown(
            "This page shows loss, learning rate, throughput and memory of every training run, "
            "live and afterwards, and what the VLM retains. Training is part of a recipe:"
        )
        st.code(HOW, language="yaml")
        stages = [stage for stage in KIND if planned(view, stage)]
        for stage in stages:
            run_up_to(view, stage)
        if not stages:
            st.markdown("This recipe has no `midtrain` and no `finetune` yet.")
            st.markdown("Check whether your model can be trained:")
            st.code("emt check-model NAME", language="bash")


def _name(run: TrainingRun, runs: list[TrainingRun]) -> str:
    """The run's label, with its key where several runs have the same label."""
    twins = [other for other in runs if other.label == run.label]
    return run.label if len(twins) == 1 else f"{run.label} {run.key[:6]}"


def _shown_first(runs: Mapping[str, TrainingRun]) -> list[str]:
    """The newest run of each arm in the newest run's recipe; without arms, three runs.

    runs: by name, newest first.
    """
    recipe = next(iter(runs.values())).recipe
    by_arm: dict[str, str] = {}
    for name, run in runs.items():
        arm, _ = arm_and_seed(run.label)
        if arm and run.recipe == recipe:
            by_arm.setdefault(arm, name)
    return list(by_arm.values())[:MOST_RUNS] if len(by_arm) > 1 else list(runs)[:3]


def _chosen(runs: list[TrainingRun]) -> list[TrainingRun]:
    """The runs to draw, of one stage: mid-training and fine-tuning have different losses."""
    by_name = {_name(run, runs): run for run in runs}
    stages = [stage for stage in KIND if any(run.stage == stage for run in runs)]
    stage = stages[0]
    if len(stages) > 1:
        stage = choice(
            "Stage",
            stages,
            default=runs[0].stage,
            key="training-stage",
            format_func=lambda name: KIND[name].capitalize(),
            label_visibility="collapsed",
        )
    names = [name for name, run in by_name.items() if run.stage == stage]
    if len(names) > 1:
        first = _shown_first({name: by_name[name] for name in names})
        kept = [name for name in st.session_state.get("runs", first) if name in names]
        st.session_state["runs"] = kept or first
        picked = st.multiselect(
            "Runs", names, key="runs", max_selections=MOST_RUNS, help="Newest first, up to eight."
        )
        names = picked or names[:1]
    return [by_name[name] for name in names]


def _controls() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        choice("X axis", AXES, key="over")
        st.slider(
            "Smoothing",
            0.0,
            0.99,
            0.6,
            0.01,
            key="smoothing",
            width=260,
            help=glossary.SMOOTHING,
            bind="query-params",
        )
        st.toggle("Logarithmic loss", key="log-loss", bind="query-params")


@st.cache_resource(max_entries=64, show_spinner=False)
def _steps(path: str) -> GrowingSteps:
    return GrowingSteps(Path(path))


def _gripper_loss(view: View, chosen: list[TrainingRun]) -> str:
    """The name of the gripper's loss in these runs; running ones have the recipe's setting."""
    configs = [run.artifact.config for run in chosen if run.artifact and run.stage == "finetune"]
    kinds = {config.get("action", {}).get("gripper_kind") for config in configs}
    if view.recipe_file is not None and any(
        run.building and run.stage == "finetune" for run in chosen
    ):
        try:
            instances = load_recipe(view.recipe_file).instances
        except EmtError:
            return GRIPPER_LOSS[None]
        kinds |= {
            i.config.action.gripper_kind for i in instances if isinstance(i.config, FinetuneConfig)
        }
    return GRIPPER_LOSS[kinds.pop() if len(kinds) == 1 else None]


def _curves(chosen: list[TrainingRun], gripper_loss: str) -> None:
    """All figures; redrawn every two seconds while one of the runs trains."""
    frames = {}
    for run in chosen:
        frame = with_rates(_steps(str(run.steps_file)).read())
        if len(frame):
            frames[_name(run, chosen)] = frame.assign(hours=frame["seconds"] / 3600)
    if not frames:
        st.caption("Waiting for the first step.")
        return
    colors = curves.run_colors(list(frames))
    first = chosen[0]
    frame = frames.get(_name(first, chosen), next(iter(frames.values())))
    _summary(first, frame, several=len(chosen) > 1)
    logarithmic = bool(st.session_state.get("log-loss"))
    _figure(frames, colors, "loss", "loss", logarithmic=logarithmic, height=380)
    titles = {
        "validation_loss": "loss on held-out samples",
        "loss_arm": "arm loss (Huber)",
        "loss_gripper": gripper_loss,
        "learning_rate": "learning rate",
        "grad_norm": "gradient norm",
        "samples_per_second": "samples per second",
        "tokens_per_second": "tokens per second",
        "data_wait": "share of time waiting for data",
        "memory_mb": "memory, MB",
    }
    shown = [
        (name, title)
        for name, title in titles.items()
        if any(name in frame for frame in frames.values())
    ]
    cells = [place for _ in range(0, len(shown) + 1, 2) for place in st.columns(2, gap="large")]
    for place, (name, title) in zip(cells, shown, strict=False):
        with place:
            st.subheader(title[0].upper() + title[1:], anchor=False)
            _figure(frames, colors, name, smooth=name not in UNSMOOTHED)
    with cells[len(shown)]:
        _kept(chosen)


def _summary(run: TrainingRun, frame: pd.DataFrame, *, several: bool) -> None:
    last = frame.iloc[-1]
    step = int(last["step"])
    total = run.total
    if several:
        st.caption(f"Numbers of {escape(run.label)}, the first of these runs.")
    rate = frame["samples_per_second"].iloc[-1] if "samples_per_second" in frame else float("nan")
    level = smoothed(frame["loss"].to_numpy(float), 0.9)[-1]
    spent = float(last["seconds"])
    time = ("Training time", duration(spent))
    if run.building and total and step:
        time = ("Time left", duration(spent / step * (total - step)))
    metrics(
        ("Step", f"{step:,} / {total:,}" if total and step < total else f"{step:,}"),
        ("Loss", numbers.decimal(float(level)), glossary.LOSS),
        ("Samples seen", numbers.short(float(last["samples"]))),
        ("Samples per second", numbers.decimal(float(rate), 1)),
        time,
        width=150,
    )
    still = run.artifact.metrics.get("action", {}).get("still") if run.artifact else None
    if still:
        names = escape(", ".join(still))
        st.caption(f":orange[:material/warning: {glossary.STILL.format(names=names)}]")
    if run.building and not at_work(run):
        words = "Interrupted. Resuming continues from the last checkpoint."
        st.caption(f":orange[:material/pause_circle:] {words}")


def _figure(
    frames: dict[str, pd.DataFrame],
    colors: dict[str, str],
    name: str,
    title: str = "",
    *,
    logarithmic: bool = False,
    smooth: bool = True,
    height: int = 240,
) -> None:
    """Draw one quantity of all runs. title: of the y axis; a figure without one has no legend."""
    axis = AXES[st.session_state.get("over") or "Steps"]
    weight = float(st.session_state.get("smoothing", 0.6)) if smooth else 0.0
    lines = []
    for label, frame in frames.items():
        if name in frame:
            measured = frame.dropna(subset=[name]) if name == "validation_loss" else frame
            y = measured[name].to_numpy(float)
            x = measured[axis].to_numpy(float)
            shown = smoothed(y, weight)
            lines.append(curves.Line(name=label, color=colors[label], x=x, y=y, shown=shown))
    figure = curves.curve(
        lines,
        x=AXIS_TITLES[axis],
        y=title,
        logarithmic=logarithmic,
        height=height,
        legend=bool(title) and len(lines) > 1,
        ticks=".1e" if name == "learning_rate" else "",
    )
    chart(figure, key=f"curve-{name}")


def _kept(chosen: list[TrainingRun]) -> None:
    rows = [
        {
            "run": _name(run, chosen),
            "kept": kept.kind,
            "step": kept.step,
            "size": f"{kept.bytes / 2**20:,.1f} MB",
            "written": pd.Timestamp(kept.at, unit="s").floor("s"),
        }
        for run in chosen
        for kept in kept_states(run)
    ]
    st.subheader("On disk", anchor=False, help=glossary.CHECKPOINTS)
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
    else:
        st.caption("No checkpoint yet.")


main()
