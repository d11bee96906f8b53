"""The paper's numbers beside ours, always labeled as the paper's."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from emt_core.evaluation.comparison.arms import Arm
from emt_core.evaluation.comparison.paper import (
    PAPERS_OWN,
    QUOTED,
    SOURCE,
    figures_for,
    paper_results,
)
from emt_core.evaluation.comparison.references import BENCHMARKS, reference_rows, works
from emt_core.explore import numbers
from emt_core.explore.figures import results as figures
from pages.parts.widgets import chart

OURS = "measured here"
LABEL = ":gray-badge[:material/menu_book: reported in the paper, not measured here]"


def paper_section(benchmark: str | None, arms: Sequence[Arm]) -> None:
    """Our numbers beside the paper's where it has the benchmark; and the paper's tables."""
    st.subheader(
        "Results of the paper",
        anchor=False,
        help=f"{SOURCE}. Nothing in this section was measured here.",
    )
    reported = figures_for(benchmark) if benchmark else []
    if reported:
        _beside(arms, reported)
    else:
        st.markdown(LABEL)
        if benchmark:
            st.caption("The paper has no results for this benchmark.")
    main, ablation, scenes, since = st.tabs(
        ["Table 1: main results", "Table 2: ablation", "SimplerEnv by scene", "Other works"]
    )
    with main:
        _main()
    with ablation:
        _ablation()
    with scenes:
        _scenes()
    with since:
        _other_works(benchmark)
    st.caption(paper_results()["dynamics"])


def _beside(arms: Sequence[Arm], reported: list[dict]) -> None:
    unit = reported[0]["unit"]
    ours = [
        {
            "name": f"{arm.name} (here)",
            "value": 100 * value if unit == "%" else value,
            "from": f"{OURS}: {numbers.counted(arm.episodes, 'episode')}",
        }
        for arm in arms
        if (value := arm.rate if unit == "%" else arm.average_length) is not None
    ]
    papers = [
        {
            "name": row["model"],
            "value": row["value"],
            "from": f"{row['reported_by']} ({row['table']})",
        }
        for row in reported
        if row["reported_by"] == PAPERS_OWN
    ]
    chart(figures.beside_paper(ours, papers, unit), key="beside-paper")
    st.caption("Other backbones, data and compute: for orientation only.")
    st.markdown(LABEL)


def _main() -> None:
    st.dataframe(
        [
            {
                "model": row["model"],
                "size": row["size"],
                "CALVIN 1/2/3/4/5": " / ".join(
                    f"{share:.3f}" for share in row["calvin"]["reached"]
                ),
                "average length": f"{row['calvin']['average_length']:.3f}",
                "SimplerEnv, %": f"{row['simpler']:.1f}",
                "LIBERO-10, %": f"{row['libero']:.1f}",
                "samples seen": " / ".join(row["samples_seen"].values()),
                "reported by": QUOTED if row["quoted"] else PAPERS_OWN,
            }
            for row in paper_results()["main"]
        ],
        hide_index=True,
    )


def _ablation() -> None:
    st.caption("InternVL3.5-1B, mid-trained on what each measure selects.")
    st.dataframe(
        [
            {
                "selection": row["selection"],
                "CALVIN, average length": f"{row['calvin']:.3f}",
                "SimplerEnv, %": f"{row['simpler']:.1f}",
                "LIBERO-10, %": f"{row['libero']:.1f}",
            }
            for row in paper_results()["ablation"]
        ],
        hide_index=True,
    )


def _scenes() -> None:
    st.dataframe(
        [
            {
                "model": row["model"],
                **{f"{scene}, %": f"{row[scene]:.1f}" for scene in list(row)[1:]},
            }
            for row in paper_results()["simpler_scenes"]
        ],
        hide_index=True,
    )


def _other_works(benchmark: str | None) -> None:
    rows = reference_rows()
    names = list(dict.fromkeys(row["benchmark"] for row in rows))
    ours = BENCHMARKS.get(benchmark or "")
    chosen = st.selectbox(
        "Benchmark", names, index=names.index(ours) if ours else 0, key="reference-benchmark"
    )
    st.caption("Reported by these works, not measured here. Episodes solved, in percent.")
    st.dataframe(
        [
            {
                "solved, %": f"{row['value']:.1f}",
                "model": row["model"],
                "action head": row["head"],
                "data": row["data"],
                "work": row["work"],
                "date": row["date"],
                "link": row["link"],
            }
            for row in rows
            if row["benchmark"] == chosen
        ],
        column_config={"link": st.column_config.LinkColumn(display_text="open")},
        hide_index=True,
    )
    with st.expander("How each work measured"):
        for work in works():
            st.markdown(f"- [{work['work']}]({work['link']}) ({work['date']}): {work['protocol']}")
