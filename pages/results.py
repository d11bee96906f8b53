"""Results: success by task, over checkpoints, arm against arm, and beside the paper."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from emt_core.evaluation.comparison.arms import (
    FEWEST_SEEDS,
    Arm,
    Difference,
    arms_of,
    by_task,
    differences,
    dynamics,
    reference_of,
)
from emt_core.evaluation.comparison.runs import Run, comparable, runs_of
from emt_core.explore import numbers
from emt_core.explore.figures import results as figures
from pages.parts import glossary
from pages.parts.empty import first_steps, planned, run_up_to
from pages.parts.plain import escape
from pages.parts.results.how_sure import how_sure
from pages.parts.results.paper import paper_section
from pages.parts.results.rollouts import rollouts
from pages.parts.runs import page_header
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice, metrics

MOST_ARMS = 10
HOW = """evaluate.metaworld:
  benchmark: {name: metaworld}
  checkpoints: all      # one curve over fine-tuning
  episodes: 50          # unseen layouts a task"""


def main() -> None:
    view = current()
    page_header(
        view,
        "Results",
        "Closed-loop success on layouts that training never saw.",
        ("finetune", "evaluate"),
    )
    runs = runs_of(view.done)
    if not runs:
        _empty(view)
        paper_section(None, [])
        return
    arms = _chosen_arms(_comparable(runs))
    colors = figures.arm_colors([arm.name for arm in arms])
    _summary(arms)
    how_sure(view.workspace, arms)
    _tasks(arms, colors)
    _dynamics(arms, colors)
    _comparison(arms, colors)
    rollouts([run for arm in arms for run in arm.runs])
    paper_section(arms[0].runs[0].benchmark, arms)


def _comparable(runs: list[Run]) -> list[Run]:
    """The runs of the benchmark (and instance of `evaluate`) that the reader chose."""
    groups = comparable(runs)
    names = list(groups)
    if len(names) == 1:
        return runs
    if st.session_state.get("benchmark") not in (None, *names):
        st.session_state.pop("benchmark")
    return groups[choice("Benchmark", names, key="benchmark", format_func=_plain)]


def _plain(name: str) -> str:
    """The name, escaped only if it is odd: links hold options as shown, so `libero_10` stays."""
    return name if name.replace("_", "").replace(" ", "").isalnum() else escape(name)


def _chosen_arms(runs: list[Run]) -> list[Arm]:
    """The arms that the reader picked (default: all), at most as many as there are colors."""
    names = list(dict.fromkeys(run.arm for run in runs))
    if len(names) > 1:
        kept = [name for name in st.session_state.get("arms", names[:MOST_ARMS]) if name in names]
        st.session_state["arms"] = kept or names[:MOST_ARMS]
        picked = st.multiselect(
            "Arms",
            names,
            key="arms",
            max_selections=MOST_ARMS,
            help="Arms of an experiment, or instances of `evaluate`.",
        )
        names = [name for name in names if name in picked] or names[:MOST_ARMS]
    return arms_of([run for run in runs if run.arm in names])


def _summary(arms: list[Arm]) -> None:
    """The best arm's success, the episodes, and the rule that chose the checkpoint."""
    best = max(arms, key=lambda arm: -1.0 if arm.rate is None else arm.rate)
    results = best.runs[0].results
    faults = sum(sum(run.chosen.get("faults", {}).values()) for arm in arms for run in arm.runs)
    title = "Mean success" if len(arms) == 1 else f"Best: {escape(best.name)}"
    shown = [
        (title, numbers.share(best.rate), glossary.SUCCESS),
        ("95 % interval", _interval(best.low, best.high), glossary.WILSON),
    ]
    if best.average_length is not None:
        length = f"{best.average_length:.2f} of {len(best.runs[0].chosen['reached'])}"
        shown.append(("Average length", length, glossary.AVERAGE_LENGTH))
    step = f"step {results['chosen']:,}" if results["chosen"] >= 0 else "one policy"
    episodes = numbers.whole(sum(arm.episodes for arm in arms))
    metrics(
        *shown,
        ("Episodes", episodes, glossary.LAYOUTS),
        ("Checkpoint", step, f"Rule: {results['rule_text']}. ({results['rule']})"),
        ("Simulator faults", numbers.whole(faults), glossary.FAULTS),
        width=150,
    )


def _tasks(arms: list[Arm], colors: dict[str, str]) -> None:
    rows = by_task(arms)
    st.subheader("Success by task", anchor=False, help=glossary.WILSON)
    chart(figures.by_task(rows, colors), key="by-task")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(
            [
                {
                    **({"arm": row["arm"]} if len(arms) > 1 else {}),
                    "task": row["task"],
                    "episodes": row["n"],
                    "solved": row["successes"],
                    "success": numbers.share(row["rate"]),
                    "95 % interval": _interval(row["low"], row["high"]),
                    "failures": _kinds(row["failures"]),
                    "simulator faults": _kinds(row["faults"]),
                }
                for row in rows
            ],
            hide_index=True,
        )


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {glossary.FAILURES.get(kind, kind)}" for kind, n in counts.items())


def _dynamics(arms: list[Arm], colors: dict[str, str]) -> None:
    rows = dynamics(arms)
    if len({row["checkpoint"] for row in rows}) < 2:
        return
    st.subheader("Success over fine-tuning", anchor=False, help=glossary.DYNAMICS)
    chart(figures.dynamics(rows, colors), key="dynamics")


def _comparison(arms: list[Arm], colors: dict[str, str]) -> None:
    if len(arms) < 2:
        return
    left, right = st.columns([5, 2], vertical_alignment="bottom")
    left.subheader("Arms against each other", anchor=False, help=glossary.PAIRED)
    names = [arm.name for arm in arms]
    if st.session_state.get("reference") not in (None, *names):
        st.session_state.pop("reference")
    reference = right.selectbox(
        "Compared with",
        names,
        index=names.index(reference_of(names)),
        key="reference",
        bind="query-params",
    )
    artifacts = "|".join(str(run.artifact.path) for arm in arms for run in arm.runs)
    compared = _paired(artifacts, reference, _arms=arms)
    tests = {difference.arm: difference for difference in compared}
    seeds = any(len(arm.seeds) > 1 for arm in arms)
    st.dataframe(
        [_arm_row(arm, tests.get(arm.name), reference, seeds) for arm in arms], hide_index=True
    )
    if not compared:
        st.caption(
            "The arms played different layouts, so they cannot be paired. Use the same evaluation "
            "seed for all arms."
        )
        return
    rows = [
        {
            "arm": difference.arm,
            "difference": difference.paired.difference,
            "low": difference.paired.low,
            "high": difference.paired.high,
            "p": difference.p_adjusted,
        }
        for difference in compared
    ]
    chart(figures.differences(rows, colors, reference), key="differences")
    st.markdown("\n".join(f"- {_sentence(difference)}" for difference in compared))
    tests_used = " and ".join(sorted({difference.paired.test for difference in compared}))
    st.caption(
        "Paired over episodes with the same training seed, task and layout: "
        f"{tests_used}; p adjusted by Holm for {numbers.counted(len(compared), 'comparison')}; "
        "drawn interval from a paired bootstrap. These test whether the trained policies differ. "
        "Variation between training runs is in the interval over seeds: Student's t of the "
        f"differences per seed, from {FEWEST_SEEDS} seeds on."
    )


@st.cache_data(max_entries=32, show_spinner="Pairing episodes")
def _paired(artifacts: str, reference: str, *, _arms: list[Arm]) -> list[Difference]:
    return differences(_arms, reference)


def _arm_row(arm: Arm, test, reference: str, seeds: bool) -> dict[str, str | int]:
    row: dict[str, str | int] = {
        "arm": arm.name,
        "success": numbers.share(arm.rate),
        "95 % interval": _interval(arm.low, arm.high),
        "episodes": arm.episodes,
    }
    if arm.average_length is not None:
        row["average length"] = f"{arm.average_length:.2f}"
    if seeds:
        row["by seed"] = ", ".join(
            f"{seed or '-'}: {numbers.share(rate)}" for seed, rate in arm.seeds
        )
    over_seeds = ("95 % over seeds",) if seeds else ()
    row |= dict.fromkeys(
        (f"minus {reference}", *over_seeds, "better / worse", "p"), numbers.MISSING
    )
    if test is not None:
        pair = test.paired
        row[f"minus {reference}"] = f"{100 * pair.difference:+.1f} points"
        if seeds:
            row["95 % over seeds"] = (
                _points(*test.seed_interval)
                if test.seed_interval
                else f"needs {FEWEST_SEEDS} seeds"
            )
        row["better / worse"] = f"{pair.better} / {pair.worse} of {pair.cases}"
        row["p"] = f"{test.p_adjusted:.2g}"
    elif arm.name != reference:
        row[f"minus {reference}"] = "no common episodes"
    return row


def _sentence(difference: Difference) -> str:
    """A comparison in one sentence."""
    points = 100 * difference.paired.difference
    side = "above" if points >= 0 else "below"
    arm, reference = escape(difference.arm), escape(difference.reference)
    apart = f"**{arm}** is {abs(points):.1f} points {side} **{reference}**"
    over = difference.seed_interval
    if difference.shown_by == "seeds" and over is not None:
        return f"{apart}, and the seeds agree: {_points(*over)}."
    these = "more than" if difference.shown_by == "runs" else "no more than"
    chance = f"{apart} in these runs, {these} chance explains between layouts"
    if over is None:
        return f"{chance}. At least {FEWEST_SEEDS} seeds are needed to compare the arms."
    return f"{chance}; seeds vary more ({_points(*over)}), so the arms are not shown to differ."


def _points(low: float, high: float) -> str:
    return f"{100 * low:+.0f} to {100 * high:+.0f} points"


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return numbers.MISSING
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _empty(view: View) -> None:
    """What this page will show, and how to get there."""
    if not view.recipe:
        first_steps(view)
        return
    with st.container(border=True):
        st.subheader("Nothing has been evaluated yet", anchor=False)
        st.markdown(
            "This page shows success rates with their intervals, curves over fine-tuning "
            "checkpoints, arms compared on the same layouts, and videos of every kind of failure. "
            "For this, a policy has to be fine-tuned (**finetune**) and run in a simulator "
            "(**evaluate**)."
        )
        if planned(view, "evaluate"):
            run_up_to(view, "evaluate")
        elif not view.workspace.read_only:
            st.markdown("This recipe has no `evaluate` yet. After a `finetune` stage, add:")
            st.code(HOW, language="yaml")
            st.markdown("To test the simulator with its built-in controller:")
            st.code("emt check-benchmark metaworld", language="bash")


main()
