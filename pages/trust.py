"""Trust: does the score mean what it seems to mean? Audits, stability, calibration, agreement, planted truth."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import estimator, trust
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import labels_of
from pages.parts import view as reading
from pages.parts.cards import gallery
from pages.parts.choice import choice
from pages.parts.empty import needs
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current

BARE = {"displayModeBar": False}
VERDICT = {
    "good": ":green[:material/check_circle:] **good**",
    "look": ":orange[:material/visibility:] **worth a look**",
    "bad": ":red[:material/warning:] **not good**",
    "unknown": ":gray[:material/info:] for you to judge",
}
ORDER = ("planted", "modality", "style", "stability", "calibration", "agreement")


def main() -> None:
    view = current()
    page_header(
        view,
        "Trust",
        "Does the score mean what it seems to mean? Every number says what is good, and what to do when it is not.",
        ("trust", "score"),
    )
    labels = labels_of(view.done, "trust")
    if not labels:
        _empty(view)
        return
    score = view.chain.score
    mine = [
        label
        for label in labels
        if score and view.done[label].manifest["parents"].get("score") == score.key
    ]
    shown = mine or labels
    label = shown[-1]
    if len(shown) > 1:
        label = st.selectbox(
            "Report",
            shown[::-1],
            key="trust",
            bind="query-params",
            format_func=short_label,
            width=320,
        )
    artifact = view.done[label]
    report = _report(str(artifact.path))
    st.markdown(
        f"About score **{escape(report['score'])}**, measured on {numbers.whole(artifact.rows)} pool samples."
    )
    if not mine and view.score:
        with st.container(border=True):
            st.markdown(
                f":material/info: The score chosen on the left, **{escape(short_label(view.score))}**, has no report "
                "of its own: what follows is about another one. For a report, add it to the recipe and run it again."
            )
            st.code(f"trust.{_name(view.score)}: {{}}", language="yaml")
    _overview(report["sections"])
    for name in ORDER:
        if name in report["sections"]:
            _section(view, artifact, name, report["sections"][name])


def _name(label: str) -> str:
    """The instance's name as a recipe has it: `score.knn@a` -> `knn`; the unnamed one is any report's parent."""
    return label.partition("@")[0].partition(".")[2] or "mine"


@st.cache_data(max_entries=8, show_spinner=False)
def _report(path: str) -> dict[str, Any]:
    from pathlib import Path

    return read_json(Path(path) / "data" / "trust.json")


def _empty(view: View) -> None:
    needs(view, "sources", "embed", "score", shows="Here a score is put to the test.")
    with st.container(border=True):
        st.subheader("The recipe has no trust report yet", anchor=False)
        st.markdown(
            "Add one line to the recipe and run it again. `compare` names further scores of the recipe, for the "
            "agreement between measures; without it the score is audited alone."
        )
        st.code(
            "trust: {}                     # or: trust.learned: {compare: [knn, distance]}",
            language="yaml",
        )
        if not view.workspace.read_only:
            st.code(
                f"emt run {view.recipe_file} --workspace {view.workspace.path} --until trust",
                language="bash",
            )


def _overview(sections: dict[str, Any]) -> None:
    """How many figures are good, worth a look, and not good."""
    verdicts = [number["verdict"] for section in sections.values() for number in section["numbers"]]
    with st.grid(3, min_column_width=160, gap="small"):
        for verdict, label in (("good", "Good"), ("look", "Worth a look"), ("bad", "Not good")):
            st.metric(label, str(verdicts.count(verdict)), border=True)


def _section(view: View, artifact: Artifact, name: str, section: dict[str, Any]) -> None:
    st.subheader(section["title"], anchor=False)
    st.caption(section["question"])
    if "skipped" in section:
        with st.container(border=True):
            st.markdown(section["skipped"])
        return
    for note in section.get("notes", ()):
        st.markdown(f":material/info: {escape(note)}")
    _numbers(section["numbers"])
    if name == "planted":
        _planted(section)
    elif name in ("modality", "style"):
        _audit(name, section)
    elif name == "stability" and section["numbers"]:
        _stability(artifact)
    elif name == "calibration" and section.get("reliability"):
        left, right = st.columns(2, gap="large", vertical_alignment="center")
        left.plotly_chart(
            estimator.reliability(section["reliability"]), config=BARE, key="reliability"
        )
        right.caption(
            "On the dashed line, what the estimator says is what comes true. A curve steeper than the line: it claims "
            "too little (an early stop does that), and the order is unharmed; a flatter one: it claims too much, so "
            "stop earlier."
        )
    elif name == "agreement" and len(section["measures"]) > 1:
        _agreement(view, artifact, section)


def _planted(section: dict[str, Any]) -> None:
    st.plotly_chart(
        trust.planted_dots(section["measures"], section["styles"]), config=BARE, key="planted"
    )
    st.caption(
        f"Near content is {numbers.share(section['base_rate'])} of {numbers.whole(section['rows'])} samples whose "
        "truth is known. A cross far right of the circles: the measure sees style before content."
    )
    percent = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        pd.DataFrame(trust.planted_rows(section["measures"])),
        hide_index=True,
        height="content",
        column_config={
            "AUROC": st.column_config.NumberColumn(
                format="%.3f",
                help="0.5 is chance, 1 perfect: how surely a near sample ranks above a far one.",
            ),
            "precision": percent,
            "near in all": percent,
            "samples": st.column_config.NumberColumn(format="localized"),
        },
    )
    st.caption(
        "Precision: share of near content among the best of those samples. Good is far above `near in all`, which is "
        "what chance gives, in every row of a measure; where it holds for all samples and not within a style, the "
        "measure tells styles apart, so prefer one that holds in both or set quotas by source."
    )


def _stability(artifact: Artifact) -> None:
    table = reading.parquet(str(artifact.path), "stability.parquet").to_pydict()
    figure = trust.stability_dots(table["kind"], table["name"], table["spearman"], table["overlap"])
    st.plotly_chart(figure, config=BARE, key="stability")
    st.caption(
        "A row is one repetition. Full circle: rank correlation of the whole pool sample; open circle: share of the "
        "best that stay. Both near 1 is good; a row far left names what your selection hangs on."
    )
    out = artifact.data / "out_of_fold.parquet"
    if out.exists():
        with st.expander("Select by out-of-fold scores"):
            st.markdown(
                "Each sample scored by an estimator that had not met it. To rank by these scores, add to the recipe:"
            )
            st.code(
                f"measure.out_of_fold: {{kind: imported, path: {json.dumps(str(out))}}}\nscore.out_of_fold: {{}}\n"
                "select.out_of_fold: {fraction: 0.25}",
                language="yaml",
            )


def _numbers(found: list[dict[str, Any]]) -> None:
    """A card a number: the figure, its verdict, its sentence."""
    if not found:
        return
    with st.grid(min(len(found), 4), min_column_width=185, gap="small"):
        for number in found:
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(
                    f":small[{escape(number['label'])}]"
                )  # above the metric, where it wraps; a metric's own is cut off
                st.metric(number["label"], _written(number), label_visibility="collapsed")
                st.markdown(VERDICT[number["verdict"]])
                st.caption(number["sentence"])


def _written(number: dict[str, Any]) -> str:
    value, form = number["value"], number["form"]
    if form == "share":
        return numbers.share(value)
    return numbers.whole(value) if form == "whole" else numbers.decimal(value)


def _audit(name: str, section: dict[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    variants, share = section["variants"], section["top_share"]
    with left:
        st.markdown("**Robot against pool, fitted anew each time**")
        figure = trust.audit_bars(variants, "auroc", title="AUROC, cross-fitted", chance=0.5)
        st.plotly_chart(figure, config=BARE, key=f"{name}-auroc")
        st.caption(AUROC_OF[name])
    with right:
        fixed = name == "style" and all("fixed_overlap" in facts for facts in variants.values())
        st.markdown(
            "**Best share kept, by the score as it is**" if fixed else "**Best share kept**"
        )
        field = "fixed_overlap" if fixed else "overlap"
        figure = trust.audit_bars(
            variants, field, title="overlap with the unchanged samples' best share", chance=share
        )
        st.plotly_chart(figure, config=BARE, key=f"{name}-overlap")
        st.caption(
            f"How much of the best {numbers.share(share, 0)} would be selected just the same; the dashed line is what "
            "chance gives. " + KEPT[name]
        )
    if name == "modality" and len(section["between"]["names"]) > 1:
        left, right = st.columns(2, gap="large", vertical_alignment="center")
        with left:
            st.markdown("**Rank correlation between them**")
            figure = trust.agreement_matrix(
                section["between"]["names"], section["between"]["spearman"]
            )
            st.plotly_chart(figure, config=BARE, key="between")
        right.caption(
            "1: both order the pool alike; 0: they have nothing in common. The part that goes with `image and text` "
            "decides the score; if that is not the part you mean, leave it out of the features or pool the last token."
        )


AUROC_OF = {
    "modality": "The dashed line is chance. A part that alone reaches what both reach together gives robots away by "
    "itself: if that is the wording, leave the text out on both sides (pool_text, robot_text: none).",
    "style": "The dashed line is chance. Bars alike are good: robots differ from the pool in more than style. A bar "
    "that drops names the style that told them apart: bring all images to it before you embed.",
}
KEPT = {
    "modality": "A part near 1 makes the selection alone; a part near chance plays no role.",
    "style": "Near 1 is good; a short bar names the style that the cut hangs on: bring all images to it before you "
    "embed.",
}


def _agreement(view: View, artifact: Artifact, section: dict[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Rank correlation (Spearman)**")
        figure = trust.agreement_matrix(section["measures"], section["spearman"])
        st.plotly_chart(figure, config=BARE, key="spearman")
        st.caption(
            "1: both order the pool alike, 0: they have nothing in common. A measure that goes with none of the "
            "others sees something of its own: look at its samples below."
        )
    with right:
        st.markdown(f"**Overlap of the best {numbers.whole(section['k'])}**")
        figure = trust.agreement_matrix(section["measures"], section["overlap"], low=0.0)
        st.plotly_chart(figure, config=BARE, key="overlap")
        st.caption(
            f"Share of one measure's selection that the other would make as well; chance gives "
            f"{numbers.share(section['chance'], 0)}. High: the choice of measure matters little; near chance: compare "
            "the two selections by eye before you choose, or judge them by planted truth above."
        )
    table = reading.parquet(str(artifact.path), "disagreements.parquet").to_pandas()
    st.markdown("**Where they disagree most**")
    other = choice("Compared with", section["measures"][1:], key="compared")
    mine = table[table["measure"] == other]
    for higher, words in ((True, "ranked higher here"), (False, "ranked higher there")):
        part = mine[mine["higher"] == higher]
        if not len(part):
            continue
        st.caption(f"{words}: place from the bottom, here and there")
        notes = [
            f":gray[here] **{numbers.share(a, 0)}** :gray[there] **{numbers.share(b, 0)}**"
            for a, b in zip(part["percentile"], part["other_percentile"], strict=True)
        ]
        gallery(view, np.asarray(part["row"]), notes=notes, width=150)


main()
