"""What all figures share. Ground, grid and font come from the page's theme; data colours come from palette.py."""

from __future__ import annotations

import plotly.graph_objects as go

from emt_core.explore.figures.palette import INK, MARK


def plain(
    figure: go.Figure, *, height: int, x: str = "", y: str = "", legend: bool = True
) -> go.Figure:
    """Margins, axis titles and a legend above the plot."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 34 if legend else 12, "b": 8},
        showlegend=legend,
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.02,
            "xanchor": "left",
            "x": 0,
            "title": None,
            "itemsizing": "constant",
        },
        hoverlabel={"align": "left"},
        font={"color": INK},
    )
    words = {
        "automargin": True,
        "zeroline": False,
        "tickfont": {"color": INK},
        "title_font": {"color": INK},
    }
    figure.update_xaxes(title_text=x, **words)
    figure.update_yaxes(title_text=y, **words)
    return figure


def mark_x(figure: go.Figure, at: float, text: str, **place: object) -> None:
    """A labelled vertical line (the cut, the stop)."""
    figure.add_vline(
        x=at,
        line={"color": MARK, "width": 1.5, "dash": "dash"},
        annotation={"text": text, "font": {"color": MARK, "size": 12}},
        annotation_position="top right",
        **place,  # type: ignore[arg-type]
    )
