"""Probe: did mid-training help or break the model, before rollouts are paid for."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import probe as figures
from emt_core.explore.figures.results import arm_colors
from emt_core.explore.tables.probe import (
    FEWEST_MODELS,
    NAMES,
    Gain,
    ProbeRun,
    advice,
    agreement,
    gains,
    kept,
    newest_group,
)
from pages.parts import cached, glossary
from pages.parts.empty import first_steps, planned, run_up_to
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice

HOW = """probe: {}                          # the mid-trained model, in every arm
probe.origin: {start: backbone}    # the model before, which all are held against"""
VERDICTS = {"gained": "read better", "lost": "read worse", "open": "no difference seen"}
HEADS = {"linear": "Linear", "mlp": "Small MLP"}


def main() -> None:
    view = current()
    page_header(
        view,
        "Probe",
        "Did mid-training help or break the model? Asked of its frozen features, in minutes.",
        ("midtrain", "probe"),
    )
    if not view.recipe:
        first_steps(view)
        return
    runs = newest_group(view.done)
    if not runs:
        _empty(view)
        return
    found = gains(runs)
    _advice(view, runs, found)
    _gained(runs, found)
    _drift(runs)
    _kept(view, runs)
    _agreement(view, runs)


def _empty(view: View) -> None:
    with st.container(border=True):
        st.subheader("No model has been probed yet", anchor=False)
        st.markdown(
            "This page tells how well actions, positions and tasks can be read from the features "
            "of the model before and after mid-training, where mid-training moved it, and whether "
            "rollouts are worth their price. Probing is part of a recipe:"
        )
        st.code(HOW, language="yaml")
        if planned(view, "probe"):
            run_up_to(view, "probe")
        else:
            st.markdown("This recipe has no `probe` yet.")


def _advice(view: View, runs: list[ProbeRun], found: list[Gain]) -> None:
    """A sentence for each arm: are rollouts worth their price?"""
    st.subheader("Are rollouts worth their price?", anchor=False, help=glossary.PROBE_ADVICE)
    if not found:
        st.markdown(
            "Nothing to compare with: the model before mid-training was not asked the same. "
            "Add this to the recipe:"
        )
        st.code(HOW.splitlines()[1], language="yaml")
        if planned(view, "probe"):
            run_up_to(view, "probe")
        return
    for arm in dict.fromkeys(gain.arm for gain in found):
        st.markdown(f"**{escape(arm)}**: {advice(g for g in found if g.arm == arm)}")
    episodes = sum(gain.gain.episodes for gain in found[:1])
    st.caption(
        f"Held-out episodes: {numbers.whole(episodes)} of tasks that a probe learned from. "
        "Intervals are 95 %, over episodes; another mid-training may differ by more."
    )


def _gained(runs: list[ProbeRun], found: list[Gain]) -> None:
    st.subheader("What was gained", anchor=False, help=glossary.PROBES)
    head = choice("Probe", HEADS, key="probe-head", format_func=HEADS.__getitem__)
    if not found:
        _scores(runs, head)
        return
    mine = [gain for gain in found if gain.head == head]
    rows = [
        {
            "asked": _asked(gain.probe, gain.seen),
            "arm": gain.arm,
            "gain": gain.gain.score,
            "low": gain.gain.low,
            "high": gain.gain.high,
        }
        for gain in mine
    ]
    chart(figures.gained(rows, arm_colors(list(dict.fromkeys(gain.arm for gain in found)))))
    st.dataframe(pd.DataFrame([_row(gain) for gain in mine]), hide_index=True, width="stretch")


def _asked(probe: str, seen: bool) -> str:
    """`next actions`, `next actions, other tasks`."""
    return NAMES.get(probe, probe) + ("" if seen else ", other tasks")


def _row(gain: Gain) -> dict[str, str]:
    change = gain.gain
    return {
        "asked": _asked(gain.probe, gain.seen),
        "arm": gain.arm,
        "measure": "accuracy" if gain.probe == "task" else "R²",
        "before": numbers.decimal(gain.origin.score),
        "after": f"{gain.score.score:.3f} ({gain.score.low:.3f} to {gain.score.high:.3f})",
        "change": f"{change.score:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
        "verdict": VERDICTS[gain.verdict],
        "episodes": numbers.whole(change.episodes),
        "models": numbers.whole(gain.models),
    }


def _scores(runs: list[ProbeRun], head: str) -> None:
    """Scores alone, where there is no model to compare with."""
    rows = [
        {
            "model": run.label,
            "asked": _asked(row["probe"], row["seen"]),
            "score": numbers.decimal(row["score"]),
            "low": numbers.decimal(row["low"]),
            "high": numbers.decimal(row["high"]),
            "episodes": numbers.whole(row["episodes"]),
        }
        for run in runs
        for row in run.artifact.metrics["probes"]
        if row["head"] == head
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")


def _drift(runs: list[ProbeRun]) -> None:
    """Where mid-training moved the model, of one run."""
    moved = {run.label: run for run in runs if run.artifact.metrics.get("drift")}
    if not moved:
        return
    st.subheader("What was moved", anchor=False, help=glossary.DRIFT)
    labels = list(moved)
    label = labels[0] if len(labels) == 1 else st.selectbox("Model", labels, key="drift")
    rows = cached.json_file(moved[label].artifact, "results.json")["drift"]
    chart(figures.drift(rows))
    table = [
        {
            "part": figures.GROUPS[row["group"]],
            "shown": figures.KINDS[row["images"]][0],
            "likeness (CKA)": numbers.decimal(row["cka"]),
            "neighbors kept": f"{numbers.share(row['overlap'])} "
            f"({numbers.share(row['low'])} to {numbers.share(row['high'])})",
            "samples": numbers.whole(row["samples"]),
        }
        for row in rows
    ]
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(pd.DataFrame(table), hide_index=True, width="stretch")


def _kept(view: View, runs: list[ProbeRun]) -> None:
    """Questions that the model answered before and after (`retain`), by arm."""
    st.subheader("What was kept, what was lost", anchor=False, help=glossary.RETAINED)
    found = kept(view.done, runs)
    if not found:
        st.caption("No question set was asked of these models: `retain` does, after `midtrain`.")
        return
    rows = [
        {
            "arm": one.arm,
            "questions": f"{one.suite} ({one.change.cases:,})",
            "before": numbers.share(one.before),
            "after": numbers.share(one.after),
            "change, points": f"{100 * one.change.difference:+.1f} "
            f"({100 * one.change.low:+.1f} to {100 * one.change.high:+.1f})",
        }
        for one in found
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")


def _agreement(view: View, runs: list[ProbeRun]) -> None:
    """Whether the probe has ranked models as rollouts did, over the whole workspace."""
    st.subheader("Does the probe foretell rollouts here?", anchor=False, help=glossary.AGREEMENT)
    found = agreement(view.workspace, runs[0].asked)
    if math.isnan(found.correlation):
        why = (
            f"{found.models} of the probed models have been rolled out, and it takes "
            f"{FEWEST_MODELS} to tell"
            if found.models < FEWEST_MODELS
            else "the models do not differ"
        )
        st.markdown(f"Not enough runs: {why}.")
        return
    st.markdown(
        f"Over {found.models} models that were rolled out, the rank correlation of the action "
        f"probe with success is **{found.correlation:+.2f}** ({found.low:+.2f} to "
        f"{found.high:+.2f})."
    )


main()
