"""Trust: audits, stability, calibration, agreement and planted truth of a score."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import estimator, trust
from emt_core.explore.figures.palette import ROBOT
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import labels_of
from pages.parts import cached
from pages.parts.cards import gallery
from pages.parts.empty import command_up_to, needs, planned, run_up_to
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice, metrics

VERDICT = {
    "good": ":green[:material/check_circle:] **good**",
    "look": ":orange[:material/visibility:] **worth a look**",
    "bad": ":red[:material/warning:] **not good**",
    "unknown": ":gray[:material/info:] for you to judge",
}
ORDER = ("planted", "modality", "style", "stability", "calibration", "agreement")
"""Sections in the order of the page; any other follows them."""


def main() -> None:
    view = current()
    page_header(
        view,
        "Trust",
        "Does the score mean what it seems to mean? Every number says what is good and what to do "
        "when it is not.",
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
    report = cached.json_file(artifact, "trust.json")
    sampled = f"{numbers.whole(artifact.rows)} pool samples"
    st.markdown(f"Score **{escape(report['score'])}**, measured on {sampled}.")
    if not mine and view.score:
        with st.container(border=True):
            st.markdown(
                f":material/info: The score in the sidebar, **{escape(short_label(view.score))}**, "
                "has no report; this one is about another score. For a report, add this to the "
                "recipe and run it:"
            )
            st.code(f"trust.{_name(view.score)}: {{}}", language="yaml")
    _overview(report["sections"])
    sections = report["sections"]
    for name in (*ORDER, *(other for other in sections if other not in ORDER)):
        if name in sections:
            _section(view, artifact, name, sections[name])


def _name(label: str) -> str:
    """The instance's name in a recipe: `score.knn@a` -> `knn`; `mine` for an unnamed one."""
    return label.partition("@")[0].partition(".")[2] or "mine"


def _empty(view: View) -> None:
    needs(view, "sources", "embed", "score", shows="This page tests a score.")
    with st.container(border=True):
        st.subheader("The recipe has no trust report yet", anchor=False)
        st.markdown(
            "Add one line to the recipe and run it. `compare` names other scores of the recipe to "
            "compare with."
        )
        st.code(
            "trust: {}                     # or: trust.learned: {compare: [knn, distance]}",
            language="yaml",
        )
        if planned(view, "trust"):
            run_up_to(view, "trust")
        elif not view.workspace.read_only:
            st.code(command_up_to(view, "trust"), language="bash")


def _overview(sections: dict[str, Any]) -> None:
    """How many numbers are good, worth a look, and not good."""
    verdicts = [number["verdict"] for section in sections.values() for number in section["numbers"]]
    names = {"good": "Good", "look": "Worth a look", "bad": "Not good"}
    metrics(*((name, str(verdicts.count(key))) for key, name in names.items()), width=160)


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
        with left:
            curves = {"estimator": section["reliability"]}
            chart(estimator.reliabilities(curves, {"estimator": ROBOT}), key="reliability")
        right.caption(
            "On the dashed line, predicted probabilities are correct. Steeper than the line: "
            "under-confident (early stopping does that; the ranking is unaffected). Flatter: "
            "over-confident, so stop earlier."
        )
    elif name == "agreement" and len(section["measures"]) > 1:
        _agreement(view, artifact, section)


def _planted(section: dict[str, Any]) -> None:
    chart(trust.planted_dots(section["measures"], section["styles"]), key="planted")
    st.caption(
        f"{numbers.share(section['base_rate'])} of {numbers.whole(section['rows'])} samples with "
        "known truth have relevant content. A cross far right of the circles: the measure sees "
        "style before content."
    )
    percent = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        pd.DataFrame(trust.planted_rows(section["measures"])),
        hide_index=True,
        height="content",
        column_config={
            "AUROC": st.column_config.NumberColumn(
                format="%.3f",
                help="Chance that a relevant sample ranks above another one; 0.5 is random.",
            ),
            "precision": percent,
            "share in the pool": percent,
            "samples": st.column_config.NumberColumn(format="localized"),
        },
    )
    st.caption(
        "Precision: share of relevant content among the top samples. Good is far above the share "
        "in the pool (chance) in every row. If it holds for all samples but not within one style, "
        "the measure separates styles: prefer one that holds in both, or set quotas by source."
    )


def _stability(artifact: Artifact) -> None:
    table = cached.parquet(artifact, "stability.parquet").to_pydict()
    figure = trust.stability_dots(table["kind"], table["name"], table["spearman"], table["overlap"])
    chart(figure, key="stability")
    st.caption(
        "One row per repetition. Full circle: rank correlation; open circle: overlap of the top "
        "share. Both near 1 is good; a row far left shows what your selection depends on."
    )
    out = artifact.data / "out_of_fold.parquet"
    if out.exists():
        with st.expander("Select by out-of-fold scores"):
            st.markdown(
                "Each sample scored by an estimator that was not trained on it. To rank by these "
                "scores, add to the recipe:"
            )
            st.code(
                f"measure.out_of_fold: {{kind: imported, path: {json.dumps(str(out))}}}\n"
                "score.out_of_fold: {}\nselect.out_of_fold: {fraction: 0.25}",
                language="yaml",
            )


def _numbers(measured: list[dict[str, Any]]) -> None:
    """A card per number: its value, its verdict, its sentence."""
    if not measured:
        return
    with st.grid(min(len(measured), 4), min_column_width=185, gap="small"):
        for number in measured:
            with st.container(border=True, height="stretch", gap="xsmall"):
                # A label above the metric wraps; the metric's own label would be cut off.
                st.markdown(f":small[{escape(number['label'])}]")
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
        st.markdown("**Robot against pool, refitted each time**")
        figure = trust.audit_bars(variants, "auroc", title="AUROC, cross-fitted", chance=0.5)
        chart(figure, key=f"{name}-auroc")
        st.caption(AUROC_OF[name])
    with right:
        fixed = name == "style" and all("fixed_overlap" in facts for facts in variants.values())
        top = f"Top-{numbers.share(share, 0)} overlap"
        st.markdown(f"**{top}, unchanged score**" if fixed else f"**{top}**")
        field = "fixed_overlap" if fixed else "overlap"
        figure = trust.audit_bars(
            variants, field, title="overlap with the selection from unchanged samples", chance=share
        )
        chart(figure, key=f"{name}-overlap")
        st.caption(
            f"Share of the top {numbers.share(share, 0)} that stays selected; dashed line: chance. "
            + OVERLAP_OF[name]
        )
    if name == "modality" and len(section["between"]["names"]) > 1:
        left, right = st.columns(2, gap="large", vertical_alignment="center")
        with left:
            st.markdown("**Rank correlation between them**")
            figure = trust.agreement_matrix(
                section["between"]["names"], section["between"]["spearman"]
            )
            chart(figure, key="between")
        right.caption(
            "1: same ranking; 0: unrelated. The part that correlates with `image and text` decides "
            "the score; if that is not the part you mean, leave it out of the features or pool "
            "the last token."
        )


AUROC_OF = {
    "modality": "Dashed line: chance. A part that reaches alone what both reach together "
    "identifies robot data by itself: if that is the wording, leave the text out on both sides "
    "(pool_text, robot_text: none).",
    "style": "Dashed line: chance. Equal bars are good: robot data differ from the pool in more "
    "than style. A lower bar shows the style that separated them: convert all images to that style "
    "before you embed.",
}
OVERLAP_OF = {
    "modality": "A part near 1 makes the selection alone; a part near chance has no effect.",
    "style": "Near 1 is good; a short bar shows the style that the cut depends on: convert all "
    "images to that style before you embed.",
}


def _agreement(view: View, artifact: Artifact, section: dict[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Rank correlation (Spearman)**")
        figure = trust.agreement_matrix(section["measures"], section["spearman"])
        chart(figure, key="spearman")
        st.caption(
            "1: same ranking; 0: unrelated. A measure that correlates with no other sees something "
            "else: look at its samples below."
        )
    with right:
        st.markdown(f"**Overlap of the top {numbers.whole(section['k'])}**")
        figure = trust.agreement_matrix(section["measures"], section["overlap"], low=0.0)
        chart(figure, key="overlap")
        st.caption(
            "Share of one measure's selection that the other selects too (chance: "
            f"{numbers.share(section['chance'], 0)}). High: the choice of measure matters little. "
            "Near chance: compare the two selections by eye, or by planted truth above."
        )
    table = cached.parquet(artifact, "disagreements.parquet").to_pandas()
    st.markdown("**Where they disagree most**")
    other = choice("Compared with", section["measures"][1:], key="compared")
    mine = table[table["measure"] == other]
    for higher, words in ((True, "this score"), (False, "the other")):
        part = mine[mine["higher"] == higher]
        if not len(part):
            continue
        st.caption(f"ranked higher by {words} (percentile: this score / the other)")
        notes = [
            f"**{numbers.share(a, 0)}** :gray[/] **{numbers.share(b, 0)}**"
            for a, b in zip(part["percentile"], part["other_percentile"], strict=True)
        ]
        gallery(view, np.asarray(part["row"]), notes=notes, width=150)


main()
