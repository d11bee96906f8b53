"""Trust: does the score mean what it seems to mean? Audits, stability, calibration, agreement, planted truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from emt_core.artifact import Artifact, read_json
from emt_core.explore.lineage import labels_of
from emt_core.figures import estimator, numbers, trust
from pages.parts import view as reading
from pages.parts.cards import gallery
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
    label = labels[-1]
    if len(labels) > 1:
        label = st.selectbox(
            "Report", labels[::-1], key="trust", bind="query-params", format_func=short_label, width=320
        )
    artifact = view.done[label]
    report = _report(str(artifact.path))
    st.markdown(f"About score **{escape(report['score'])}**, measured on {numbers.whole(artifact.rows)} pool samples.")
    _overview(report["sections"])
    for name in ORDER:
        if name in report["sections"]:
            _section(view, artifact, name, report["sections"][name])


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
        st.code("trust: {}                     # or: trust.learned: {compare: [knn, distance]}", language="yaml")
        if not view.workspace.read_only:
            st.code(f"emt run {view.recipe_file} --workspace {view.workspace.path} --until trust", language="bash")


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
    _numbers(section["numbers"])
    if name == "planted":
        st.plotly_chart(trust.planted_dots(section["measures"], section["styles"]), config=BARE, key="planted")
        st.caption(
            f"Near content is {numbers.share(section['base_rate'])} of {numbers.whole(section['rows'])} samples whose "
            "truth is known. A cross far right of the circles: the measure sees style before content."
        )
    elif name in ("modality", "style"):
        _audit(name, section)
    elif name == "stability":
        table = reading.parquet(str(artifact.path), "stability.parquet").to_pydict()
        st.plotly_chart(
            trust.stability_dots(table["kind"], table["name"], table["spearman"], table["overlap"]),
            config=BARE,
            key="stability",
        )
    elif name == "calibration" and section.get("reliability"):
        left, _ = st.columns(2, gap="large")
        left.plotly_chart(estimator.reliability(section["reliability"]), config=BARE, key="reliability")
    elif name == "agreement" and len(section["measures"]) > 1:
        _agreement(view, artifact, section)


def _numbers(found: list[dict[str, Any]]) -> None:
    """A card a number: the figure, its verdict, its sentence."""
    if not found:
        return
    with st.grid(min(len(found), 4), min_column_width=185, gap="small"):
        for number in found:
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.metric(number["label"], _written(number))
                st.markdown(VERDICT[number["verdict"]])
                st.caption(number["sentence"])


def _written(number: dict[str, Any]) -> str:
    value, form = number["value"], number["form"]
    if form == "share":
        return numbers.share(value)
    return numbers.whole(value) if form == "whole" else numbers.decimal(value)


def _audit(name: str, section: dict[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    variants = section["variants"]
    with left:
        st.markdown("**Robot against pool, an estimator of its own**")
        figure = trust.audit_bars(variants, "auroc", title="AUROC, cross-fitted", chance=0.5)
        st.plotly_chart(figure, config=BARE, key=f"{name}-auroc")
    with right:
        fixed = name == "style" and all("fixed_overlap" in facts for facts in variants.values())
        st.markdown("**Best share kept, the score's own estimator**" if fixed else "**Best share kept**")
        field = "fixed_overlap" if fixed else "overlap"
        figure = trust.audit_bars(variants, field, title="overlap with the unchanged samples' best share", chance=0.25)
        st.plotly_chart(figure, config=BARE, key=f"{name}-overlap")


def _agreement(view: View, artifact: Artifact, section: dict[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Rank correlation (Spearman)**")
        figure = trust.agreement_matrix(section["measures"], section["spearman"])
        st.plotly_chart(figure, config=BARE, key="spearman")
    with right:
        st.markdown(f"**Overlap of the best {numbers.whole(section['k'])}**")
        figure = trust.agreement_matrix(section["measures"], section["overlap"], low=0.0)
        st.plotly_chart(figure, config=BARE, key="overlap")
    table = reading.parquet(str(artifact.path), "disagreements.parquet").to_pandas()
    st.markdown("**Where they disagree most**")
    other = st.segmented_control(
        "Compared with",
        section["measures"][1:],
        default=section["measures"][1],
        required=True,
        key="compared",
        bind="query-params",
    )
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
