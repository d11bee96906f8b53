"""Rows that share a picture or an episode: one group, one side of every split, one fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import Made, make_workspace, pool, robot, run_stage
from tiny_index import write_sources

from emt_core.data.features import feature_table
from emt_core.data.index import Index
from emt_core.data.sample import ImageRef, Sample, Turn
from emt_core.errors import EmtError
from emt_core.proximity.groups import groups_of
from emt_core.proximity.split import TEST, TEXT_ONLY, TRAIN, VALIDATION, split_rows
from emt_core.proximity.trust.stability import folds_of_rows
from emt_core.recipe.proximity import EstimatorConfig
from emt_core.recipe.trust import TrustConfig
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.table import Table

SHARES = {"validation": 0.2, "test": 0.2, "seed": 0}


def row(source: str, number: int, *pictures: ImageRef | str, episode: int = -1) -> Sample:
    refs = [ImageRef(kind="file", path=p) if isinstance(p, str) else p for p in pictures]
    return Sample(
        source=source,
        row=number,
        role="pool" if episode < 0 else "robot",
        turns=(Turn(role="user", text="what?"),),
        images=tuple(refs),
        episode=episode,
    )


def index_of(folder: Path, sources: dict[str, tuple[Path, list[Sample]]]) -> Index:
    return Index(write_sources(Workspace.open(folder / "ws", create=True), sources))


def test_pictures_tie_rows_and_ties_carry_over(tmp_path: Path):
    web = [
        row("web", 0, "a.png"),
        row("web", 1, "b.png"),
        row("web", 2, "c.png", "b.png"),
        row("web", 3),
        row("web", 4),
        row("web", 5, "c.png"),
        row("web", 6, "./d.png"),
    ]
    index = index_of(tmp_path, {"web": (tmp_path, web)})
    assert groups_of(index).tolist() == [0, 1, 1, 3, 4, 1, 6]


def test_a_picture_is_its_folder_file_member_row_and_place(tmp_path: Path):
    """Each differs from the first row in one part of the address; the last one is the first."""
    refs = [
        ImageRef(kind="parquet", path="x.parquet", member="image", index=3, position=0),
        ImageRef(kind="parquet", path="y.parquet", member="image", index=3, position=0),
        ImageRef(kind="parquet", path="x.parquet", member="wrist", index=3, position=0),
        ImageRef(kind="parquet", path="x.parquet", member="image", index=4, position=0),
        ImageRef(kind="parquet", path="x.parquet", member="image", index=3, position=1),
        ImageRef(kind="video", path="x.parquet", member="image", index=3, time=0.5),
        ImageRef(kind="video", path="x.parquet", member="image", index=3, time=0.6),
    ]
    here = [row("here", number, ref) for number, ref in enumerate(refs)]
    elsewhere = [row("elsewhere", 0, refs[0])]
    again = [row("again", 0, refs[0])]
    index = index_of(
        tmp_path,
        {
            "here": (tmp_path / "one", here),
            "elsewhere": (tmp_path / "other", elsewhere),
            "again": (tmp_path / "one", again),
        },
    )
    assert groups_of(index).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_an_episode_is_one_group_and_pool_rows_follow_the_frame_that_they_show(tmp_path: Path):
    arm = [row("arm", n, f"{n}.png", episode=n // 3) for n in range(60)]
    web = [row("web", n, f"{n}.png") for n in range(0, 60, 2)]
    alone = [row("alone", n, f"alone{n}.png") for n in range(40)]
    index = index_of(
        tmp_path,
        {"web": (tmp_path, web), "arm": (tmp_path, arm), "alone": (tmp_path, alone)},
    )
    groups = groups_of(index)
    frames = groups[30:90].reshape(20, 3)
    assert (frames == frames[:, :1]).all() and len(np.unique(frames)) == 20
    shown = np.arange(0, 60, 2)
    np.testing.assert_array_equal(groups[:30], groups[30 + shown])

    part = split_rows(index, np.ones(index.rows, bool), **SHARES)
    np.testing.assert_array_equal(part[:30], part[30 + shown])
    assert np.bincount(part[90:], minlength=3).min() > 0


def test_a_file_has_one_name_by_any_root(tmp_path: Path):
    sources = {
        "a": (tmp_path / "images", [row("a", 0, "coco/1.png")]),
        "b": (tmp_path / "images" / "coco", [row("b", 0, "1.png")]),
        "c": (tmp_path / "x" / ".." / "images", [row("c", 0, "coco/1.png"), row("c", 1, "1.png")]),
    }
    assert groups_of(index_of(tmp_path, sources)).tolist() == [0, 0, 0, 3]


def test_an_episode_seen_by_two_cameras_is_one_group(tmp_path: Path):
    def seen_by(camera: str) -> list[Sample]:
        refs = [ImageRef(kind="video", path=f"{camera}.mp4", time=n / 10) for n in range(40)]
        return [row(camera, n, ref, episode=n // 4) for n, ref in enumerate(refs)]

    folder = tmp_path / "set"
    web = [row("web", n, f"{n}.png") for n in range(40)]
    index = index_of(
        tmp_path,
        {
            "web": (tmp_path, web),
            "front": (folder, seen_by("front")),
            "wrist": (folder, seen_by("wrist")),
            "other": (tmp_path / "other", seen_by("other")),
        },
    )
    path = index.artifact.data / "sources.json"
    facts = read_json(path)
    write_json(
        path, [s | {"format": "lerobot" if s["role"] == "robot" else "llava"} for s in facts]
    )
    groups = groups_of(Index(index.artifact))
    assert (groups[40:80] == groups[80:120]).all() and not set(groups[120:]) & set(groups[:120])
    part = split_rows(Index(index.artifact), np.ones(160, bool), **SHARES)
    assert (part[40:80] == part[80:120]).all()


@pytest.mark.parametrize("seed", range(12))
def test_a_picture_that_most_rows_have_is_never_what_is_tested_on(tmp_path: Path, seed: int):
    web = [row("web", n, "blank.png" if n < 70 else f"{n}.png") for n in range(100)]
    arm = [row("arm", n, f"arm{n}.png", episode=n // 2) for n in range(20)]
    index = index_of(tmp_path, {"web": (tmp_path, web), "arm": (tmp_path, arm)})
    part = split_rows(index, np.ones(120, bool), validation=0.2, test=0.2, seed=seed)
    assert (part[:70] == TRAIN).all()
    assert np.bincount(part[70:100]).tolist() == [18, 6, 6]


def test_no_picture_is_on_two_sides_of_a_split_or_in_two_folds(tmp_path: Path):
    made = make_workspace(
        tmp_path, [pool("web", 800, rows_per_picture=8), robot("arm", 160)], dim=8
    )
    part = split_rows(made.index, made.features.ok(), **SHARES)
    of_picture = part[:800].reshape(100, 8)
    assert (of_picture == of_picture[:, :1]).all()
    assert np.bincount(of_picture[:, 0]).tolist() == [60, 20, 20]
    fold = folds_of_rows(groups_of(made.index), TrustConfig())[:800].reshape(100, 8)
    assert (fold == fold[:, :1]).all() and len(np.unique(fold)) == 5


def same_distribution(folder: Path, rows_per_picture: int) -> Made:
    """Nothing tells robot from pool, but rows of one picture have nearly one feature."""
    pictures = 250
    rows = 8
    dim = 512
    sources = [
        pool("web", pictures * rows, rows_per_picture=rows_per_picture),
        robot("arm", 2000, frames_per_episode=1),
    ]
    made = make_workspace(folder, sources, dim=dim)
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.repeat(rng.normal(size=(pictures, dim)), rows, axis=0)
            + 0.15 * rng.normal(size=(pictures * rows, dim)),
            rng.normal(size=(2000, dim)),
        ]
    )
    replace_features(made, x)
    return made


def replace_features(made: Made, x: np.ndarray) -> None:
    import shutil

    table = Table(made.artifacts["embed"].data / "features.lance")
    shutil.rmtree(table.path)
    table.append(feature_table(x.astype(np.float16), [""] * len(x)))


def test_memory_of_a_picture_does_not_look_like_skill(tmp_path: Path):
    """With one distribution the held-out AUROC is a half; split by rows it was far above."""
    aurocs = {}
    for name, rows_per_picture in {"shared": 8, "as if apart": 1}.items():
        made = same_distribution(tmp_path / name, rows_per_picture)
        found = [
            run_stage(made, "estimator", EstimatorConfig(steps=150, seed=seed)).metrics["auroc"]
            for seed in range(4)
        ]
        aurocs[name] = np.mean(found)
    assert aurocs["shared"] == pytest.approx(0.5, abs=0.04)
    assert aurocs["as if apart"] > 0.7


def test_rows_without_a_picture_train_only_if_asked(tmp_path: Path):
    made = make_workspace(tmp_path, [pool("web", 400, text_only=0.7), robot("arm", 160)], dim=8)
    rng = np.random.default_rng(1)
    replace_features(made, rng.normal(size=(560, 8)))  # a VLM has a vector for text alone too
    ok = made.features.ok()
    text_only = made.index.table.column("n_images") == 0
    part = split_rows(made.index, ok, **SHARES)
    assert ok.all() and 0.6 < text_only[:400].mean() < 0.8
    assert ((part == TEXT_ONLY) == text_only).all()
    asked = split_rows(made.index, ok, **SHARES, include_text_only=True)
    assert set(asked[text_only]) == {TRAIN, VALIDATION, TEST}
    metrics = run_stage(made, "estimator", EstimatorConfig(steps=5)).metrics
    assert metrics["rows_text_only"] == text_only.sum()
    in_parts = sum(part["pool"] for part in metrics["rows_by_part"].values())
    assert in_parts == 400 - text_only.sum()


def test_a_pool_of_two_pictures_cannot_be_split(tmp_path: Path):
    made = make_workspace(tmp_path, [pool("web", 80, rows_per_picture=40), robot("arm", 80)])
    with pytest.raises(EmtError, match=r"80 pool samples may train .* in 2 groups that share"):
        split_rows(made.index, made.features.ok(), **SHARES)
