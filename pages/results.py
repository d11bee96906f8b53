"""Results: how often the robot succeeds, by task, over checkpoints, arm against arm, and beside the paper."""

from __future__ import annotations

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
from pages.parts.empty import first_steps
from pages.parts.plain import escape
from pages.parts.results.how_sure import how_sure
from pages.parts.results.paper import paper_section
from pages.parts.results.rollouts import rollouts
from pages.parts.runs import launch_problem, page_header, start
from pages.parts.view import View, current
from pages.parts.widgets import action, chart, choice

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
        "How often the robot solves its tasks in closed loop, on layouts that training never saw.",
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
    """Those of the benchmark that the reader chose; of one instance of `evaluate` where an experiment has several."""
    groups = comparable(runs)
    names = list(groups)
    if len(names) == 1:
        return runs
    if st.session_state.get("benchmark") not in (None, *names):
        st.session_state.pop("benchmark")
    return groups[choice("Benchmark", names, key="benchmark", format_func=_plain)]


def _plain(name: str) -> str:
    """A link holds an option as it is shown: `libero_10`, not `libero\\_10`. Only an odd name is escaped."""
    return name if name.replace("_", "").replace(" ", "").isalnum() else escape(name)


def _chosen_arms(runs: list[Run]) -> list[Arm]:
    """All arms, or those that the reader picks; never more than colours can tell apart."""
    names = list(dict.fromkeys(run.arm for run in runs))
    if len(names) > 1:
        kept = [name for name in st.session_state.get("arms", names[:MOST_ARMS]) if name in names]
        st.session_state["arms"] = kept or names[:MOST_ARMS]
        picked = st.multiselect(
            "Arms",
            names,
            key="arms",
            max_selections=MOST_ARMS,
            help="Which starts of the VLA are shown: arms of an experiment, or instances of `evaluate`.",
        )
        names = [name for name in names if name in picked] or names[:MOST_ARMS]
    return arms_of([run for run in runs if run.arm in names])


def _summary(arms: list[Arm]) -> None:
    """The best arm's figure first; what was played, and by which rule the checkpoint was chosen."""
    best = max(arms, key=lambda arm: arm.rate)
    results = best.runs[0].results
    failures: dict[str, int] = {}
    for arm in arms:
        for run in arm.runs:
            for kind, count in run.chosen["failures"].items():
                failures[kind] = failures.get(kind, 0) + count
    broken = sum(count for kind, count in failures.items() if kind != "step_cap")
    with st.grid(5, min_column_width=150, gap="small"):
        title = "Mean success" if len(arms) == 1 else f"Best: {escape(best.name)}"
        st.metric(title, numbers.share(best.rate), help=glossary.SUCCESS, border=True)
        st.metric(
            "95 % interval", _interval(best.low, best.high), help=glossary.WILSON, border=True
        )
        if best.average_length is not None:
            goals = len(best.runs[0].chosen["reached"])
            st.metric(
                "Average length",
                f"{best.average_length:.2f} of {goals}",
                help=glossary.AVERAGE_LENGTH,
                border=True,
            )
        st.metric(
            "Episodes",
            numbers.whole(sum(arm.episodes for arm in arms)),
            help=glossary.LAYOUTS,
            border=True,
        )
        step = results["chosen"]
        st.metric(
            "Checkpoint",
            f"step {step:,}" if step >= 0 else "one policy",
            help=f"Rule: {results['rule_text']}. ({results['rule']})",
            border=True,
        )
        st.metric("Simulator faults", numbers.whole(broken), help=glossary.FAULTS, border=True)


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
                    "failures": ", ".join(
                        f"{count} {_failure(kind)}" for kind, count in row["failures"].items()
                    ),
                }
                for row in rows
            ],
            hide_index=True,
        )


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
    found = _paired(
        "|".join(str(run.artifact.path) for arm in arms for run in arm.runs), reference, _arms=arms
    )
    tests = {difference.arm: difference for difference in found}
    seeds = any(len(arm.seeds) > 1 for arm in arms)
    st.dataframe(
        [_arm_row(arm, tests.get(arm.name), reference, seeds) for arm in arms], hide_index=True
    )
    if not found:
        st.caption(
            "No two arms played the same layouts, so they cannot be paired. Give them the same evaluation seed."
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
        for difference in found
    ]
    chart(figures.differences(rows, colors, reference), key="differences")
    st.markdown("\n".join(f"- {_said(difference)}" for difference in found))
    tests_used = " and ".join(sorted({difference.paired.test for difference in found}))
    st.caption(
        f"Paired over episodes with the same training seed, task and layout: {tests_used}; p adjusted by Holm for "
        f"{numbers.counted(len(found), 'comparison')}; drawn interval from a paired bootstrap. They say whether these "
        "trained policies differ. What another training run would give is in the interval over seeds: Student's t of "
        f"the differences seed by seed, from {FEWEST_SEEDS} seeds on."
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


def _said(difference: Difference) -> str:
    """What a comparison says in one sentence: of the way of training, of these runs, or nothing."""
    arm, reference, points = (
        escape(difference.arm),
        escape(difference.reference),
        100 * difference.paired.difference,
    )
    apart = f"**{arm}** is {abs(points):.1f} points {'above' if points >= 0 else 'below'} **{reference}**"
    over = difference.seed_interval
    if difference.shown_by == "seeds" and over is not None:
        return f"{apart}, and the seeds agree: {_points(*over)}."
    these = "more than" if difference.shown_by == "runs" else "no more than"
    chance = f"{apart} in these runs, {these} chance explains between layouts"
    if over is None:
        return f"{chance}. What another training run would give needs {FEWEST_SEEDS} seeds."
    return f"{chance}; seeds differ by more ({_points(*over)}), so no difference between the arms is shown."


def _points(low: float, high: float) -> str:
    return f"{100 * low:+.0f} to {100 * high:+.0f} points"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _failure(kind: str) -> str:
    return glossary.FAILURES.get(kind, kind)


def _empty(view: View) -> None:
    """What this page will show, and how to get there from where the recipe stands."""
    if not view.recipe:
        first_steps(view)
        return
    with st.container(border=True):
        st.subheader("Nothing was evaluated yet", anchor=False)
        st.markdown(
            "Here stand success rates with their intervals, curves over fine-tuning checkpoints, arms compared on the "
            "same layouts, and videos of every kind of failure. For this, a policy has to be fine-tuned "
            "(**finetune**) and let loose in a simulator (**evaluate**)."
        )
        planned = _planned(view)
        if view.workspace.read_only:
            pass
        elif planned:
            st.code(
                f"emt run {view.recipe_file} --workspace {view.workspace.path} --until evaluate",
                language="bash",
            )
            action(
                "Run up to evaluate",
                start,
                view,
                "evaluate",
                icon="play_arrow",
                type="primary",
                key="run-missing",
            )
        else:
            st.markdown(
                "This recipe has no `evaluate` yet. Behind a `finetune` stage, add for example:"
            )
            st.code(HOW, language="yaml")
            st.markdown("Whether a simulator works on this machine, its own controller shows:")
            st.code("emt check-benchmark metaworld", language="bash")
        launch_problem()


def _planned(view: View) -> bool:
    from emt_core.recipe.recipe import load_recipe

    return view.recipe_file is not None and any(
        i.stage == "evaluate" for i in load_recipe(view.recipe_file).instances
    )


main()
