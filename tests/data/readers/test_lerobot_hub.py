"""LeRobot sets by their hub name: the real client against a hub on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub, forget, hub_for, use
from source_files import lerobot_folder, robot_frame

from emt_core.data.images.decode import check_image, open_image
from emt_core.data.readers import fingerprint, locate, read
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import HFSource, LeRobotSource

OLD = "a" * 40
NEW = "b" * 40
WRIST = "observation.images.wrist"
FRONT = "observation.images.front"
CAMERAS = {FRONT: (32, 48), WRIST: (32, 32)}


def source(**more) -> LeRobotSource:
    facts = {"format": "lerobot", "name": "arm", "role": "robot", "path": "org/arm"}
    return LeRobotSource(**{**facts, "camera": FRONT, "frames_per_episode": 2, **more})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with hub_for(tmp_path, monkeypatch) as served:
        yield served


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so to the client, which else tries a file for 25 seconds."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    forget()


def rows(config: LeRobotSource, base: Path) -> list[Sample]:
    found = list(read(config, locate(config, base)))
    assert all(isinstance(row, Sample) for row in found)
    return found  # pyright: ignore[reportReturnType]


def test_only_the_tables_and_the_files_of_the_episodes_are_fetched(hub, tmp_path):
    folder = lerobot_folder(tmp_path / "set", version="v2.1", episodes=4, cameras=CAMERAS)
    hub.publish("org/arm", NEW, folder, "main")
    config = source(episodes="1-2")
    root = locate(config, tmp_path)
    assert root == tmp_path / "cache/datasets--org--arm/snapshots" / NEW
    assert fingerprint(config, root)["facts"] == [NEW]
    assert set(hub.fetched) == {f"meta/{path.name}" for path in (folder / "meta").iterdir()}
    hub.asked.clear()
    samples = rows(config, tmp_path)
    assert sorted(hub.fetched) == [
        "data/chunk-000/episode_000001.parquet",
        "data/chunk-000/episode_000002.parquet",
        f"videos/chunk-000/{FRONT}/episode_000001.mp4",
        f"videos/chunk-000/{FRONT}/episode_000002.mp4",
    ]
    assert [(s.episode, s.frame) for s in samples] == [(1, 0), (1, 11), (2, 0), (2, 11)]
    for sample in samples:
        image = np.asarray(open_image(sample.images[0], root, 10_000), float)
        shown = robot_frame(sample.episode, sample.frame)[0, 0]
        assert np.abs(image.reshape(-1, 3).mean(0) - shown).max() < 6
    hub.asked.clear()
    assert len(rows(source(cameras=(FRONT, WRIST), camera=None), tmp_path)) == 16
    assert len(hub.fetched) == 2 * 2 + 4  # what is there is not fetched again


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, tmp_path, monkeypatch):
    hub.publish("org/arm", OLD, lerobot_folder(tmp_path / "old", episodes=2), "v3.0")
    hub.publish("org/arm", NEW, lerobot_folder(tmp_path / "new", episodes=3), "main")
    lengths = {name: len(rows(source(revision=name), tmp_path)) for name in (None, "v3.0", OLD)}
    assert lengths == {None: 6, "v3.0": 4, OLD: 4}
    for name, commit in ((None, NEW), ("main", NEW), ("v3.0", OLD), (OLD, OLD)):
        config = source(revision=name)
        assert fingerprint(config, locate(config, tmp_path))["facts"] == [commit]
    with pytest.raises(EmtError, match=r"org/arm' is no folder, and the Hub cannot be asked .*404"):
        locate(source(revision="v9"), tmp_path)
    with pytest.raises(EmtError, match="404"):
        locate(source(path="org/amr"), tmp_path)
    offline(monkeypatch)  # what the cache knows stays readable
    assert len(rows(source(revision=OLD), tmp_path)) == 4
    shutil.rmtree(tmp_path / "cache/datasets--org--arm/snapshots" / OLD / "videos")
    forget()
    with pytest.raises(
        EmtError, match=r"file-000.mp4 of 'org/arm' cannot be fetched[\s\S]*network"
    ):
        rows(source(revision=OLD), tmp_path)


def test_without_a_network_there_is_one_error_with_what_to_do(tmp_path, hub, monkeypatch):
    hub.publish("org/arm", NEW, lerobot_folder(tmp_path / "new"), "main")
    use("http://127.0.0.1:9", monkeypatch)
    for revision in (None, "main"):
        with pytest.raises(EmtError, match=r"Hub cannot be asked[\s\S]*without a network copy"):
            locate(source(revision=revision), tmp_path)
    offline(monkeypatch)
    with pytest.raises(EmtError, match=r"meta/\*.* cannot be fetched"):
        locate(source(revision=NEW), tmp_path)
    with pytest.raises(EmtError, match="there is no such file or folder"):
        locate(source(path="arm"), tmp_path)
    assert not hub.asked


def test_a_file_that_the_hub_lacks_costs_its_episode(hub, tmp_path):
    folder = lerobot_folder(tmp_path / "set", version="v2.1")
    (folder / f"videos/chunk-000/{FRONT}/episode_000001.mp4").unlink()
    (folder / "data/chunk-000/episode_000002.parquet").unlink()
    hub.publish("org/arm", NEW, folder, "main")
    root = locate(source(), tmp_path)
    found = list(read(source(), root))
    assert [r.reason for r in found if not isinstance(r, Sample)] == ["missing_file"] * 2
    problems = [check_image(r.images[0], root, 10_000) for r in found if isinstance(r, Sample)]
    assert [p and p[0] for p in problems] == [None] * 2 + ["missing_image"] * 2


def test_a_folder_goes_before_a_hub_name_and_has_no_revision(hub, tmp_path):
    lerobot_folder(tmp_path / "org/arm")
    assert len(rows(source(), tmp_path)) == 6
    assert fingerprint(source(), locate(source(), tmp_path))["facts"] == []
    with pytest.raises(EmtError, match="`revision` is for a set on the Hub"):
        locate(source(revision="main"), tmp_path)
    assert not hub.asked


def test_the_commit_of_an_hf_set_is_asked_for_in_the_same_way(hub, tmp_path, monkeypatch):
    hub.publish("org/qa", OLD, tmp_path, "v1")
    of = {"format": "hf", "name": "qa", "role": "pool", "path": "org/qa", "text": "t"}
    tagged = HFSource(**of, revision="v1")
    assert fingerprint(tagged, locate(tagged, tmp_path))["facts"] == [OLD]
    newest = HFSource(**of)
    with pytest.raises(
        EmtError, match=r"hub cannot be asked for 'org/qa': 404[\s\S]*pin `revision`"
    ):
        fingerprint(newest, locate(newest, tmp_path))
