"""Export a selection in a trainer's format, as a job."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.run import jobs
from emt_core.selection.export import FORMATS, exporter_class
from emt_core.workspace.lineage import labels_of
from pages.parts.job_card import watch
from pages.parts.plain import show_problem
from pages.parts.sidebar import short_label
from pages.parts.view import View

MODES = {
    "copy": "copied next to the data",
    "link": "linked (symbolic links)",
    "embed": "inside the data files",
}


@st.fragment
def export(view: View) -> None:
    labels = labels_of(view.done, "select")[::-1]
    if not labels or view.workspace.read_only:
        return
    st.subheader("Export", anchor=False)
    with st.container(border=True):
        columns = st.columns(3, gap="medium")
        newest = labels.index(view.select) if view.select in labels else 0
        label = columns[0].selectbox(
            "Selection", labels, newest, format_func=short_label, key="export_selection"
        )
        kind = columns[1].selectbox("Format", FORMATS, format_func=_title, key="export_format")
        modes = exporter_class(kind).modes
        images = columns[2].selectbox(
            "Images", modes, format_func=MODES.get, key=f"export_images_{kind}"
        )
        folder_at, over_at, button_at = st.columns([6, 2, 2], vertical_alignment="bottom")
        proposed = view.workspace.path / "exports" / f"{short_label(label)}-{kind}"
        folder = folder_at.text_input(
            "Folder on the server",
            str(proposed),
            key=f"export_folder_{label}_{kind}",
            help="Must be new or empty. A provenance file next to the data names the selection.",
        )
        over = over_at.toggle(
            "Replace", key="export_over", help="Replace an earlier export in this folder."
        )
        count = view.done[label].metrics["selected"]
        pressed = button_at.button(
            "Export",
            type="primary",
            icon=":material/outbox:",
            width="stretch",
            help=f"Writes {numbers.counted(count, 'sample')}, as a job.",
        )
        if pressed:
            _launch(view, label, kind, images, folder.strip(), over)


def _launch(view: View, label: str, kind: str, images: str, folder: str, over: bool) -> None:
    try:
        if not folder or not Path(folder).expanduser().is_absolute():
            raise EmtError("the export folder has to be an absolute path", where=folder or "folder")
        options = {
            "--workspace": str(view.workspace.path),
            "--out": folder,
            "--format": kind,
            "--selection": view.done[label].key,
            "--images": images,
        }
        command = ["export", *chain.from_iterable(options.items())]
        if over:
            command.append("--overwrite")
        title = f"Export {short_label(label)} as {_title(kind)}"
        watch(jobs.launch_command(view.workspace, command, title=title))
    except EmtError as error:
        show_problem(error)
        return
    st.rerun()  # the job is shown at the top of the page, outside of the fragment


def _title(format_: str) -> str:
    return exporter_class(format_).title
