"""A story as one HTML file that works offline, prints, and follows the reader's theme.

Scripts are plotly.js and page.js, allowed by their hashes alone; the policy forbids every
connection. All text is escaped; figures are JSON in data blocks, which browsers do not execute.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from emt_core import __version__
from emt_core.explore.figures.palette import INK
from emt_core.explore.reading import Reading
from emt_core.explore.report.content import (
    Figure,
    Gallery,
    Item,
    Numbers,
    Picture,
    RenderedBlock,
    Table,
)
from emt_core.explore.report.story import Story
from emt_core.flow import STAGES
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.progress import duration

HERE = Path(__file__).parent
FIGURE_HEIGHT = 340
PAPER = "EmbodiedMidtrain, arXiv 2604.20012"


def render(
    story: Story, blocks: Sequence[RenderedBlock], reading: Reading, *, made: float | None = None
) -> str:
    """The file's text, without blocks that wait for a stage. made: seconds since the epoch."""
    shown = [block for block in blocks if block.content is not None]
    figures: list[str] = []
    sections = "\n".join(
        _section(number, block, figures) for number, block in enumerate(shown, start=1)
    )
    links = "".join(
        f'<a href="#s{n}">{_text(block.heading)}</a>' for n, block in enumerate(shown, start=1)
    )
    when = time.strftime(
        "%d %B %Y, %H:%M UTC", time.gmtime(made if made is not None else time.time())
    )
    scripts = (_plotly(), _own_script()) if figures else ()
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{_text(story.title)}</title>",
            f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{_text(story.title)}</h1>",
            f'<p class="facts">Recipe {_text(reading.recipe)} · {when}</p>',
            _paragraphs(story.intro),
            f"<nav>{links}</nav></header>",
            f"<main>{sections}</main>",
            _provenance(shown, reading),
            *figures,
            *(f"<script>{script}</script>" for script in scripts),
            "</body>",
            "</html>",
        )
    )


def _policy(scripts: Iterable[str]) -> str:
    """The content security policy: no requests, frames or forms; scripts by hash."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    allowed = hashes or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=1)
def _plotly() -> str:
    """plotly.js of the installed package."""
    from plotly.offline import get_plotlyjs

    return _embeddable(get_plotlyjs())


@lru_cache(maxsize=1)
def _own_script() -> str:
    return _embeddable((HERE / "page.js").read_text(encoding="utf-8"))


def _embeddable(script: str) -> str:
    """A script's text, safe inside an element, with line ends as the parser leaves them."""
    if re.search(r"</script|<!--", script, re.IGNORECASE):
        script = re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE).replace(
            "<!--", "<\\!--"
        )
    return script.replace("\r\n", "\n").replace("\r", "\n")


def _section(number: int, block: RenderedBlock, figures: list[str]) -> str:
    content = block.content
    assert content is not None
    parts = [f'<section id="s{number}"><h2>{_text(block.heading)}</h2>', _paragraphs(block.caption)]
    if content.sentences:
        parts.append(f'<p class="measured">{_text(" ".join(content.sentences))}</p>')
    parts += [_item(item, figures) for item in content.items]
    return "\n".join([*parts, "</section>"])


def _item(item: Item, figures: list[str]) -> str:
    if isinstance(item, Figure):
        name = f"f{len(figures)}"
        data = figure_json(item.figure)
        figures.append(f'<script type="application/json" id="{name}">{data}</script>')
        layout: Any = item.figure.layout
        height = int(layout.height or FIGURE_HEIGHT)
        return (
            f"<h3>{_text(item.title)}</h3>"
            f'<div class="figure" role="img" aria-label="{_text(item.title)}" data-figure="{name}" '
            f'style="height:{height}px"></div>'
        )
    if isinstance(item, Numbers):
        cells = (
            f'<div title="{_text(why)}"><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>'
            for label, value, why in item.values
        )
        return f'<dl class="numbers">{"".join(cells)}</dl>'
    if isinstance(item, Table):
        return f"<h3>{_text(item.title)}</h3>{_table(item.columns, item.rows, item.text_columns)}"
    return _gallery(item)


def figure_json(figure: go.Figure) -> str:
    """Data and layout as JSON for a script element; WebGL traces become SVG ones.

    WebGL compiles functions from text, which the policy forbids, and does not print. Plotly's
    template and the app's ink are dropped: page.js sets the colors of the reader's theme.
    """
    plain = json.loads(
        str(figure.to_json()), object_hook=lambda d: {k: v for k, v in d.items() if v != INK}
    )
    layout = {name: value for name, value in plain["layout"].items() if name != "template"}
    for trace in plain["data"]:
        trace["type"] = trace["type"].replace("scattergl", "scatter")
    shown = {"data": plain["data"], "layout": layout}
    text = json.dumps(shown, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    def cells(tag: str, values: Sequence[str], more: str = "") -> str:
        return "".join(
            f"<{tag}{more}{'' if place < text_columns else ' class=number'}>{_text(value)}</{tag}>"
            for place, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = cells("th", columns, ' scope="col"')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _gallery(gallery: Gallery) -> str:
    cards = "".join(_card(picture) for picture in gallery.pictures)
    return f'<h3>{_text(gallery.title)}</h3><div class="gallery">{cards}</div>'


def _card(picture: Picture) -> str:
    if picture.image is None:
        shown = '<div class="blank">text only</div>'
    else:
        shown = (
            f'<img alt="" src="data:image/webp;base64,{base64.b64encode(picture.image).decode()}">'
        )
    words = f'<span class="note">{_text(picture.note)}</span>{_text(picture.text) or "(no text)"}'
    return (
        f'<figure title="{_text(picture.sample)}">{shown}<figcaption>{words}</figcaption></figure>'
    )


def _provenance(shown: Sequence[RenderedBlock], reading: Reading) -> str:
    """The table of artifacts that the numbers come from, and the code's versions."""
    used = _with_ancestors(
        [a for block in shown if block.content for a in block.content.artifacts], reading
    )
    rows = [_origin(artifact) for artifact in used]
    versions: dict[str, None] = {}
    for artifact in used:
        found = artifact.manifest.get("versions", {})
        versions.update(
            dict.fromkeys(f"{name} {value}" for name, value in sorted(found.items()) if value)
        )
    columns = ("instance", "stage", "key", "finished (UTC)", "rows", "time")
    return "\n".join(
        (
            "<footer><h2>Where these numbers come from</h2>",
            _table(columns, rows, 4),
            f"<p>{_text('; '.join(versions))}</p>" if versions else "",
            "<p>Each key is the hash of the stage, its settings and all its parents. Written by "
            f"EmbodiedMidtrain {_text(__version__)} for recipe {_text(reading.recipe)}, after "
            f"{_text(PAPER)}.</p></footer>",
        )
    )


def _with_ancestors(shown: Sequence[Artifact], reading: Reading) -> list[Artifact]:
    """The artifacts with all their ancestors, each once, in the order of the flow."""
    found: dict[tuple[str, str], Artifact] = {}
    todo = list(shown)
    while todo:
        artifact = todo.pop()
        if (artifact.stage, artifact.key) in found:
            continue
        found[artifact.stage, artifact.key] = artifact
        for name, key in artifact.manifest.get("parents", {}).items():
            parent = reading.workspace.find(name.partition(".")[0], key)
            todo += [parent] if parent is not None else []
    order = {stage: place for place, stage in enumerate(STAGES)}
    return sorted(
        found.values(),
        key=lambda a: (order.get(a.stage, len(order)), a.manifest["finished"], a.key),
    )


def _origin(artifact: Artifact) -> tuple[str, ...]:
    manifest = artifact.manifest
    return (
        ", ".join(map(str, manifest.get("labels", ())))[:120],
        artifact.stage,
        artifact.key,
        time.strftime("%Y-%m-%d %H:%M", time.gmtime(manifest["finished"])),
        f"{artifact.rows:,}",
        duration(manifest["seconds"]),
    )


def _paragraphs(text: str) -> str:
    return "".join(
        f"<p>{_text(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip()
    )


def _text(value: object) -> str:
    """Escaped for element content and for quoted attributes; control characters dropped."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "", str(value)), quote=True)
