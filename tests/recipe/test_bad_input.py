"""Every kind of bad input the user can hand us ends in one clear message: exit code 2, no
traceback, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_world import picture, small_world, turns, write_robot

from emt_core.cli.__main__ import main
from emt_core.workspace.artifact import Workspace


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=40, episodes=12)


@pytest.fixture
def world(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "world"))


def missing_file(world: Path) -> None:
    (world / "web" / "web.json").unlink()


def cut_json(world: Path) -> None:
    path = world / "web" / "web.json"
    path.write_text(path.read_text()[:-200])


def empty_source(world: Path) -> None:
    (world / "web" / "web.json").write_text("[]")


def no_survivors(world: Path) -> None:
    shutil.rmtree(world / "web" / "images")
    (world / "web" / "images").mkdir()
    rows = [
        {"id": "a", "image": f"{n}.png", "conversations": turns(("What is this?", "A cup."))}
        for n in range(5)
    ]
    (world / "web" / "web.json").write_text(json.dumps(rows))


def no_robot_folder(world: Path) -> None:
    shutil.rmtree(world / "arm")


def one_episode(world: Path) -> None:
    shutil.rmtree(world / "arm")
    write_robot(world / "arm", episodes=1, seed=0)


def broken_video(world: Path) -> None:
    for path in (world / "arm").rglob("*.mp4"):
        path.write_bytes(b"not a video")


def broken_parquet(world: Path) -> None:
    for path in (world / "arm").glob("meta/episodes/**/*.parquet"):
        path.write_bytes(path.read_bytes()[:-40])


def broken_archive(world: Path) -> None:
    (world / "shards").mkdir()
    (world / "shards" / "000.tar").write_bytes(b"\x1f\x8b not a tar" * 50)
    add_source(world, "{name: shards, role: pool, format: webdataset, path: shards}")


def wrong_column(world: Path) -> None:
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture(np.random.default_rng(0), near=True)).save(buffer, "PNG")
    (world / "table").mkdir()
    pq.write_table(
        pa.table({"q": ["What?"], "a": ["That."], "img": [buffer.getvalue()]}),
        world / "table" / "0.parquet",
    )
    add_source(
        world,
        "{name: table, role: pool, format: parquet, path: table, question: questoin, answer: a, images: img}",
    )


def typo(world: Path) -> None:
    recipe = world / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("steps", "setps"))


def wrong_camera(world: Path) -> None:
    recipe = world / "recipe.yaml"
    recipe.write_text(
        recipe.read_text().replace("observation.images.front", "observation.images.wrist")
    )


def no_model(world: Path) -> None:
    recipe = world / "recipe.yaml"
    recipe.write_text(
        recipe.read_text().replace("{encoder: fake}", "{encoder: vlm, model: models/nowhere}")
    )


def no_robots_at_all(world: Path) -> None:
    recipe = world / "recipe.yaml"
    lines = [line for line in recipe.read_text().splitlines() if "role: robot" not in line]
    recipe.write_text("\n".join(lines))


def unknown_cap(world: Path) -> None:
    recipe = world / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("{k: 20}", "{k: 20, caps: {source: {nobody: 3}}}"))


def add_source(world: Path, entry: str) -> None:
    recipe = world / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("sources:\n", f"sources:\n  - {entry}\n"))


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (missing_file, ["web.json"]),
        (cut_json, ["web.json"]),
        (empty_source, ["web", "empty"]),
        (no_survivors, ["web", "missing_image"]),
        (no_robot_folder, ["arm"]),
        (one_episode, ["arm", "episode"]),
        (broken_video, ["arm"]),
        (broken_parquet, ["arm", ".parquet"]),
        (broken_archive, ["000.tar"]),
        (wrong_column, ["questoin", "q"]),
        (typo, ["setps", "steps"]),
        (wrong_camera, ["observation.images.wrist", "observation.images.front"]),
        (no_model, ["models/nowhere"]),
        (no_robots_at_all, ["robot"]),
        (unknown_cap, ["nobody", "web"]),
    ],
)
def test_bad_input_is_named_with_a_remedy(
    spoil: Callable[[Path], None],
    names: list[str],
    world: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    spoil(world)
    code = main(["run", str(world / "recipe.yaml"), "--workspace", str(tmp_path / "w")])
    said = capfd.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    message = said[said.index("error: ") :]
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
    for name in names:
        assert name in message
    assert "remedy:" in message or "where:" in message


def test_what_was_done_before_the_mistake_is_kept(world: Path, tmp_path: Path):
    assert (
        main(["run", str(world / "recipe.yaml"), "-w", str(tmp_path / "w"), "--until", "score"])
        == 0
    )
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "w").glob("*/*/manifest.json")}
    unknown_cap(world)
    assert main(["run", str(world / "recipe.yaml"), "-w", str(tmp_path / "w")]) == 2
    assert {p: p.stat().st_mtime_ns for p in before} == before
    recipe = world / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("nobody", "web"))
    assert main(["run", str(recipe), "-w", str(tmp_path / "w")]) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(Workspace.open(tmp_path / "w").artifacts("select")) == 1
