"""Blocks on scores, selection and samples (method sections 4, 6 and 7)."""

from __future__ import annotations

import numpy as np

from emt_core.data.images.thumbnails import thumbnail
from emt_core.explore import numbers
from emt_core.explore.figures.palette import ROLE
from emt_core.explore.figures.scores import histogram, violins
from emt_core.explore.figures.select import before_after
from emt_core.explore.reading import SIDE_COLORS, SIDES, Reading, rank_order
from emt_core.explore.report.content import Content, Figure, Gallery, Item, Numbers, Picture, Table
from emt_core.explore.tables.estimator import trivial_fit
from emt_core.explore.tables.map import spread_sample
from emt_core.explore.tables.measured import DIVERSITY, MMD, of_selection
from emt_core.explore.tables.score_scale import ScoreScale
from emt_core.explore.tables.scores import bin_edges, bins_for, distribution, superiority
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json

NEAREST, FARTHEST = 12, 6
PICTURE_PIXELS = 224
TEXT_CHARS = 220
SEED = 0


def scores(reading: Reading) -> Content:
    """Scores by role and by source, and spatial against text-heavy."""
    logit, pool = reading.logits, reading.is_pool
    scale = reading.score_scale
    edges = bin_edges(
        logit, "logit" if scale.is_logit else "score", bins_for(int(pool.sum())), apart=~pool
    )
    cut = _cut(reading, edges)
    by_role = distribution(logit, (~pool).astype(np.int16), ("pool", "robot"), edges)
    by_source = distribution(logit, reading.codes, reading.source_names, edges).by_median()
    sentences, items = [], []
    estimator = reading.chain.estimator
    if estimator is not None:
        sentences.append(_estimator_words(estimator))
        if trivial := trivial_fit(estimator.metrics, estimator.config):
            sentences.append(trivial)
    elif reading.chain.measure is not None:
        sentences += _measure_words(reading.need("score"), scale)
    in_pool = by_source.pick(
        [n for n in by_source.names if n in {s.name for s in reading.index.of_role("pool")}]
    )
    if len(in_pool.names) > 1:
        first, last = (numbers.logit(float(in_pool.quantiles[place, 2])) for place in (0, -1))
        sentences.append(
            f"Of the pool's sources, {in_pool.names[0]} scores highest (median {first}) and "
            f"{in_pool.names[-1]} lowest ({last})."
        )
    items.append(
        Figure(
            title="Scores of pool and robot data",
            figure=histogram(
                by_role,
                ROLE,
                axis=scale.title,
                cut=cut,
                labels={"robot": "robot data", "pool": "pool"},
            ),
        )
    )
    by_name = violins(by_source, reading.source_colors, axis=scale.title, cut=cut)
    items.append(Figure(title="Scores by source", figure=by_name))
    if reading.chain.category is not None:
        sides = distribution(logit, reading.sides, SIDES, edges, pool)
        if sides.totals.all():
            chance = superiority(sides.counts[0], sides.counts[1])
            sentences.append(
                "A spatial or grounding sample scores above a text-heavy one "
                f"{numbers.share(chance)} of the time (50 % would mean no difference)."
            )
            two = histogram(sides, SIDE_COLORS, axis=scale.title, cut=cut)
            items.append(Figure(title="Scores, spatial against text-heavy", figure=two))
    used = (
        reading.need("score"),
        *(a for a in (estimator, reading.chain.category) if a is not None),
    )
    return Content(sentences=tuple(sentences), items=tuple(items), artifacts=used)


def _estimator_words(estimator: Artifact) -> str:
    found = estimator.metrics
    words = (
        "A linear estimator on frozen features separated held-out robot frames from held-out pool "
        "samples with an AUROC of " + numbers.decimal(found.get("auroc"))
    )
    if found.get("steps"):
        words += f" after {numbers.counted(int(found['steps']), 'step')}"
    if found.get("calibration_error") is not None:
        words += (
            f"; its expected calibration error is {numbers.decimal(found['calibration_error'])}"
        )
    return words + "."


def _measure_words(score: Artifact, scale: ScoreScale) -> list[str]:
    """What the scores mean, and their AUROC where that says something."""
    words = [scale.help]
    found = score.metrics.get("heldout") if scale.compared else None
    if found:
        words.append(
            "It separated held-out robot frames from held-out pool samples with an AUROC of "
            f"{numbers.decimal(found['auroc'])}."
        )
    return words


def _cut(reading: Reading, edges: np.ndarray) -> float | None:
    """The selection's lowest score, clipped to the axis."""
    select = reading.chain.select
    cut = None if select is None else select.metrics.get("cut_logit")
    return None if cut is None else float(np.clip(cut, edges[0], edges[-1]))


def selection(reading: Reading) -> Content:
    """The selection: size, composition, diversity, distance to robot data."""
    artifact = reading.need("select")
    found = artifact.metrics
    report = read_json(artifact.data / "report.json")
    chosen, eligible = found["selected"], found["eligible"]
    share = numbers.share(chosen / eligible) if eligible else numbers.MISSING
    lowest = found.get("cut_logit")
    down_to = "" if lowest is None else f", down to a score of {numbers.logit(lowest)}"
    sentences = [
        f"{numbers.counted(chosen, 'sample')} of {numbers.whole(eligible)} eligible ones are "
        f"selected ({share}){down_to}."
    ]
    before, after = (of_selection(found, when) for when in ("before", "after"))
    embodied = found["embodied_share"]
    if after["mmd2_to_robot"].value is not None:
        sentences.append(
            f"Squared MMD to the robot data goes from {before['mmd2_to_robot'].text} for the pool "
            f"to {after['mmd2_to_robot'].text} for the selection; diversity from "
            f"{before['diversity'].text} to {after['diversity'].text}."
        )
    if embodied.get("before") is not None and embodied.get("after") is not None:
        sentences.append(
            f"The share of embodied-oriented samples (spatial, grounding, robot) goes from "
            f"{numbers.share(embodied['before'])} to {numbers.share(embodied['after'])}."
        )
    values = (
        ("Selected", numbers.whole(chosen), f"Of {numbers.whole(eligible)} eligible pool samples."),
        ("Share of the pool", share, "Of the pool samples that may be selected."),
        (
            "Embodied",
            numbers.share(embodied.get("after")),
            "Share of spatial, grounding and robot questions.",
        ),
        ("Diversity", after["diversity"].text, DIVERSITY),
        ("MMD² to robot data", after["mmd2_to_robot"].text, MMD),
    )
    items: list[Item] = [Numbers(values=values)]
    for by, title, colors in (
        (
            "category",
            "By category",
            reading.category_colors if reading.chain.category is not None else {},
        ),
        ("source", "By source", reading.source_colors),
    ):
        before = report["composition"]["eligible"].get(by, {})
        after = report["composition"]["selected"].get(by, {})
        names = list(before)
        if not names:
            continue
        figure = before_after(
            names, [before[n] for n in names], [after.get(n, 0) for n in names], colors
        )
        items.append(
            Figure(
                title=f"{title}: share of the pool (pale) and of the selection (full)",
                figure=figure,
            )
        )
    others = _other_selections(reading, artifact)
    if others is not None:
        items.append(others)
    return Content(sentences=tuple(sentences), items=tuple(items), artifacts=(artifact,))


def _other_selections(reading: Reading, shown: Artifact) -> Table | None:
    """The selections of the same sources side by side, if there are several."""
    base = shown.manifest["parents"].get("sources")
    mine = {
        n: a
        for n, a in reading.of_stage("select").items()
        if a.manifest["parents"].get("sources") == base
    }
    if len(mine) < 2:
        return None
    rows = tuple(
        (
            label.partition(".")[2] or label,
            str(a.config.get("strategy", "")),
            numbers.whole(a.metrics["selected"]),
            numbers.share(a.metrics["embodied_share"]["after"]),
            *(one.text for one in of_selection(a.metrics, "after").values()),
        )
        for label, a in mine.items()
    )
    columns = ("selection", "strategy", "samples", "embodied", "diversity", "MMD² to robot data")
    return Table(title="Selections side by side", columns=columns, rows=rows, text_columns=2)


def examples(reading: Reading) -> Content:
    """Samples from the top of the selection and from the far end of the pool."""
    select, score = reading.need("select"), reading.need("score")
    order = rank_order(reading.logits, reading.is_pool)
    chosen = order[reading.selected[order]]
    top = chosen[: max(len(chosen) // 10, 4 * NEAREST)]
    left = order[~reading.selected[order]]
    last = left[-max(len(left) // 10, 4 * FARTHEST) :]
    near, far = _spread(reading, top, NEAREST), _spread(reading, last, FARTHEST)
    items = (
        Gallery(
            title="Selected: among the nearest to the robot data",
            pictures=_pictures(reading, near),
        ),
        Gallery(title="Rejected: among the farthest", pictures=_pictures(reading, far)),
    )
    groups = "categories" if reading.chain.category is not None else "sources"
    words = (
        "Drawn with a fixed seed from the highest tenth of the selection and the lowest tenth of "
        f"the rejected samples, spread over {groups}; not picked by hand."
    )
    return Content(
        sentences=(words,),
        items=tuple(item for item in items if item.pictures),
        artifacts=(select, score),
    )


def _spread(reading: Reading, rows: np.ndarray, size: int) -> np.ndarray:
    """About `size` rows spread over the groups, highest score first."""
    group = reading.categories.codes if reading.chain.category is not None else reading.codes
    drawn = spread_sample(np.sort(rows), group[np.sort(rows)], size, seed=SEED)
    drawn = np.random.default_rng(SEED).permutation(drawn)[:size]
    return drawn[np.argsort(-reading.logits[drawn], kind="stable")]


def _pictures(reading: Reading, rows: np.ndarray) -> tuple[Picture, ...]:
    pictures = []
    for row, sample in zip(rows.tolist(), reading.index.samples(rows), strict=True):
        image = None
        if sample.images:
            source = reading.index.source_of(row)
            embed = reading.chain.embed
            image = thumbnail(
                reading.workspace, source, sample.images[0], PICTURE_PIXELS, embed=embed, row=row
            )
        note = [numbers.logit(float(reading.logits[row]))]
        if reading.chain.category is not None:
            note.append(reading.categories.names[reading.categories.codes[row]])
        words = " ".join(turn.text.replace("<image>", " ") for turn in sample.turns[:2]).split()
        text = " ".join(words)
        text = text if len(text) <= TEXT_CHARS else text[: TEXT_CHARS - 1].rstrip() + "…"
        caption = " · ".join([*note, sample.source])
        pictures.append(Picture(image=image, note=caption, text=text, sample=sample.id))
    return tuple(pictures)
