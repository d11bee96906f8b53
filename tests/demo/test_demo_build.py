"""The demo's data: composition, formats, the shipped counts, and (with off-screen GL) the
simulator's ground truth."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from places import ROOT

from demo import general
from demo.build import build_pool
from demo.drawing import fonts_available
from demo.pool import PLANS, POOL_SEED, compose
from demo.sample import DemoSample
from emt_core.errors import EmtError
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

ASSETS = ROOT / "assets" / "demo"
PLAIN = [plan for plan in PLANS if plan.style == "plain"]
needs_fonts = pytest.mark.skipif(not fonts_available(), reason="build-time fonts are not installed")


def gl_works() -> bool:
    from emt_core.evaluation.recording.mujoco_scene import use_headless_gl

    use_headless_gl()
    try:
        import mujoco

        renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8)
        renderer.close()
    except Exception:  # whatever a missing driver or package raises
        return False
    return True


needs_gl = pytest.mark.skipif("not gl_works()", reason="no off-screen GL (libegl1 or libosmesa6)")


def stand_in(family: str, index: int) -> list[DemoSample]:
    """Instant samples of every kind a simulator family yields: the composer is under test, not the
    renderer."""
    if family not in ("tabletop", "metaworld"):
        return general.draw(family, POOL_SEED, index)
    rng = np.random.default_rng([index, len(family)])
    image = Image.fromarray(rng.integers(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8))
    kinds = (
        "point",
        "spatial",
        "robot",
        "affordance",
        "caption",
        "count",
        "colour",
        "read",
        "point",
        "robot",
    )
    return [
        DemoSample(
            image=image,
            image_key=f"{family}-{index}",
            question=f"question {n} of {index}?",
            answer=str(n),
            kind=kind,
            style="sim",
        )
        for n, kind in enumerate(kinds)
    ]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@needs_fonts
def test_building_twice_gives_the_same_bytes(tmp_path):
    first = build_pool(tmp_path / "a", PLAIN, scale=0.1)
    assert build_pool(tmp_path / "b", PLAIN, scale=0.1) == first
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    with pytest.raises(EmtError, match="exists"):
        build_pool(tmp_path / "a", PLAIN, scale=0.1)


@needs_fonts
def test_every_format_holds_what_was_composed(tmp_path):
    counts = build_pool(tmp_path, PLANS, scale=0.1, draw=stand_in)
    pool = tmp_path / "pool"
    assert not (tmp_path / ".pool.partial").exists()

    things = json.loads((pool / "things/things.json").read_text())
    assert len(things) == counts["things"]["rows"]
    assert any("image" not in row for row in things)
    assert any(isinstance(row.get("image"), list) for row in things)
    for row in things:
        paths = [row["image"]] if isinstance(row.get("image"), str) else row.get("image", [])
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(paths)
        assert all(Image.open(pool / "things" / path).size == (112, 112) for path in paths)
        assert [turn["from"] for turn in row["conversations"][:2]] == ["human", "gpt"]
        assert {"style", "content", "kind"} <= set(row)
    scenes = json.loads((pool / "scenes/scenes.json").read_text())
    assert len({row["id"] for row in scenes}) < len(scenes)

    lines = (pool / "robot_qa/robot_qa.jsonl").read_text().splitlines()
    assert Counter(json.loads(line)["style"] for line in lines) == {
        "sim": counts["robot_qa"]["rows"]
    }

    info = json.loads((pool / "sharegpt/dataset_info.json").read_text())
    for name, entry in info.items():
        rows = json.loads((pool / "sharegpt" / entry["file_name"]).read_text())
        assert len(rows) == counts[name]["rows"]
        tags = entry.get("tags", {"role_tag": "from", "content_tag": "value"})
        for row in rows:
            turns = row[entry["columns"]["messages"]]
            text = "".join(turn[tags["content_tag"]] for turn in turns)
            assert text.count("<image>") == len(row["images"])
            assert all((pool / "sharegpt" / path).is_file() for path in row["images"])

    from datasets import load_from_disk

    charts = load_from_disk(str(pool / "charts"))
    assert len(charts) == counts["charts"]["rows"]
    assert charts[0]["image"].size == (112, 112)
    assert charts[0]["conversations"][0]["from"] == "human"

    keys = []
    for path in sorted((pool / "sim_points").glob("*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                keys.append(name)
                if name.endswith(".json"):
                    assert json.loads(tar.extractfile(name).read())["conversations"]
    assert len(keys) == len(set(keys)) == 2 * counts["sim_points"]["rows"]

    table = pq.read_table(pool / "sim_relations/sim_relations.parquet")
    assert table.num_rows == counts["sim_relations"]["rows"]
    first = table.slice(0, 1).to_pylist()[0]
    assert Image.open(io.BytesIO(first["image"]["bytes"])).size == (112, 112)
    assert "<image>" not in first["question"]


@needs_fonts
def test_sources_never_share_an_image_and_quotas_are_met():
    seen: dict[str, str] = {}
    for number, plan in enumerate(PLANS):
        rows = compose(plan, number, scale=0.1, draw=stand_in)
        kinds = Counter(row.kind for row in rows)
        for kind, quota in plan.quotas.items():
            assert kinds[kind] >= round(quota * 0.1), (plan.name, kind)
        for row in rows:
            for key, _ in row.images:
                assert seen.setdefault(key, plan.name) == plan.name


def test_a_family_that_never_yields_a_kind_is_an_error():
    with pytest.raises(EmtError, match="too few questions"):
        compose(PLANS[4], 4, scale=0.01, draw=lambda family, index: [])


def test_the_plan_crosses_style_and_content():
    cells: Counter[tuple[str, str]] = Counter()
    for plan in PLANS:
        for kind, count in plan.quotas.items():
            embodied = kind in ("point", "spatial", "robot", "affordance")
            cells[plan.style, "embodied" if embodied else "general"] += count
    total = sum(cells.values())
    assert cells["sim", "general"] >= 0.12 * total
    assert cells["plain", "embodied"] >= 0.12 * total


class TestShipped:
    """What lies in assets/demo."""

    pytestmark = pytest.mark.skipif(
        not (ASSETS / "pool").exists(), reason="assets/demo is not built"
    )

    def test_counts_and_cells(self):
        counts = json.loads((ASSETS / "pool/counts.json").read_text())
        assert set(counts) == {plan.name for plan in PLANS}
        cells: Counter[tuple[str, str]] = Counter()
        for source in counts.values():
            for content, n in source["content"].items():
                cells[source["style"], content] += n
        total = sum(cells.values())
        assert 4000 <= total <= 6000
        assert cells["sim", "general"] >= 0.12 * total
        assert cells["plain", "embodied"] >= 0.12 * total

    def test_points_are_fractions_with_two_decimals(self):
        rows = [
            json.loads(line)
            for line in (ASSETS / "pool/sharegpt/affordances.json").read_text()[2:-2].split(",\n")
        ]
        for row in rows:
            if row["kind"] == "affordance":
                match = re.fullmatch(r"\((\d\.\d\d), (\d\.\d\d)\)", row["messages"][1]["content"])
                assert match, row
                assert all(0 <= float(v) <= 1 for v in match.groups())

    def test_robot_sets(self):
        from emt_core.evaluation.recording.tasks import DEMONSTRATION_SEEDS, ROBOT_SETS

        for robot_set in ROBOT_SETS:
            root = ASSETS / "robots" / robot_set.name
            info = json.loads((root / "meta/info.json").read_text())
            assert info["codebase_version"] == robot_set.version
            assert (
                info["total_episodes"] == robot_set.episodes_per_task * len(robot_set.tasks) >= 40
            )
            if robot_set.version == "v3.0":
                episodes = pq.read_table(
                    root / "meta/episodes/chunk-000/file-000.parquet"
                ).to_pylist()
            else:
                episodes = [
                    json.loads(line)
                    for line in (root / "meta/episodes.jsonl").read_text().splitlines()
                ]
            seeds = [episode["seed"] for episode in episodes]
            assert len(set(seeds)) == len(seeds)
            assert all(seed in DEMONSTRATION_SEEDS for seed in seeds)
            said = {task for episode in episodes for task in episode["tasks"]}
            assert said == {words for task in robot_set.tasks for words in task.instructions}


@needs_gl
def test_projection_agrees_with_segmentation():
    import mujoco

    from emt_core.evaluation.recording.mujoco_scene import (
        CameraPose,
        SceneRenderer,
        point_camera,
        project,
    )

    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><camera name='c'/><geom name='ball' type='sphere' size='.03' pos='.2 .1 .15'/>"
        "</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    camera = point_camera(
        model, "c", CameraPose(position=(0.9, -0.4, 0.8), target=(0.1, 0.0, 0.1), fovy=45.0)
    )
    mujoco.mj_forward(model, data)
    with SceneRenderer(model, size=224) as renderer:
        ys, xs = np.nonzero(renderer.geoms(data, camera) == 0)
    x, y, depth = project((0.2, 0.1, 0.15), data, model, camera)[0]
    assert abs(x * 224 - (xs.mean() + 0.5)) < 0.7
    assert abs(y * 224 - (ys.mean() + 0.5)) < 0.7
    assert 0.9 < depth < 1.2
    with pytest.raises(EmtError, match="no camera"):
        point_camera(model, "nobody", CameraPose(position=(1, 0, 1), target=(0, 0, 0), fovy=45.0))


@needs_gl
def test_tabletop_answers_lie_on_what_they_name():
    pytest.importorskip("gymnasium_robotics")
    if not fonts_available():
        pytest.skip("build-time fonts are not installed")
    from demo.sim_questions import questions
    from demo.tabletop import tabletop_views

    checked: Counter[str] = Counter()
    for index in range(6):
        rng = np.random.default_rng([31, index])
        for view in tabletop_views(rng):
            masks = dict(zip((t.name for t in view.things), view.masks, strict=True))
            for sample in questions(rng, view, "k"):
                if sample.kind == "count":
                    of = sample.meta["of"]
                    if of != "objects":
                        assert sample.answer == str(sum(t.noun == of for t in view.things))
                target = sample.meta.get("target")
                if target and target != "gripper":
                    x, y = eval_point(sample.answer)
                    # Two decimals are about a pixel: the rounded point is on the object or next to
                    # it.
                    near = masks[target][max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                    assert near.any(), (sample.question, sample.answer)
                if sample.meta.get("form") in ("vacant", "vacant_side"):
                    x, y = eval_point(sample.answer)
                    assert view.free[y, x]
                checked[sample.kind] += 1
    assert checked["point"] > 5
    assert checked["affordance"] > 5


def eval_point(answer: str) -> tuple[int, int]:
    """Pixel of a "(x, y)" answer."""
    x, y = (float(v) for v in answer.strip("()").split(","))
    return min(int(x * IMAGE_SIZE), IMAGE_SIZE - 1), min(int(y * IMAGE_SIZE), IMAGE_SIZE - 1)


@needs_gl
def test_an_expert_episode_records_and_the_seed_decides_it():
    pytest.importorskip("metaworld")
    from emt_core.evaluation.recording.demonstrations import record_episode
    from emt_core.evaluation.recording.tasks import EVALUATION_SEED_START, ROBOT_SETS

    robot_set = ROBOT_SETS[1]
    task = robot_set.tasks[1]
    episode = record_episode(task, robot_set, 2001)
    assert episode.success
    assert episode.frames.shape == (len(episode.state), IMAGE_SIZE, IMAGE_SIZE, 3)
    assert np.abs(episode.action).max() <= 1
    again = record_episode(task, robot_set, 2001)
    np.testing.assert_array_equal(episode.action, again.action)
    np.testing.assert_array_equal(episode.frames, again.frames)
    with pytest.raises(EmtError, match="reserved for evaluation"):
        record_episode(task, robot_set, EVALUATION_SEED_START)
