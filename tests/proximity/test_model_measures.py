"""Perplexity, delta perplexity and the CLIP score: against one sample at a time, and resumed like
uninterrupted."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from measure_inputs import measure_inputs
from PIL import Image
from pyarrow import parquet
from small_world import picture, small_world, write_robot
from tiny_models import CLIP_CONFIG, save_clip, save_internvl, save_qwen3_vl

from emt_core.data.images.decode import open_images
from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_processor
from emt_core.proximity.base import Inputs, OnModel, measure_of
from emt_core.proximity.perplexity import perplexity
from emt_core.proximity.perplexity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.perplexity.perplexity import delta
from emt_core.proximity.perplexity.tuning import RobotFrames
from emt_core.proximity.vlm import load_for_loss
from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import MeasureConfig, measure_config
from emt_core.recipe.recipe import build_recipe, load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.workspace.artifact import Workspace


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    base = tmp_path_factory.mktemp("models")
    small_world(base / "world", pool_rows=24, episodes=4)
    save_internvl(base / "vlm")
    plan = make_plan(load_recipe(base / "world" / "recipe.yaml"))
    made = run_plan(plan, Workspace.open(base / "ws", create=True), until="embed", quiet=True)
    return measure_inputs(made, base)


CONFIG_OF: dict[str, Any] = {
    "model": "vlm",
    "steps": 6,
    "batch": 4,
    "action_bins": 16,
    "learning_rate": 1e-3,
}


@pytest.fixture(scope="module")
def fitted(inputs) -> Path:
    out = inputs.base / "fitted"
    out.mkdir()
    facts = measure_of("perplexity").fit(
        measure_config(kind="perplexity", **CONFIG_OF), inputs, out
    )
    assert facts["steps"] == 6 and facts["loss_last"] < facts["loss_first"]
    return out


def all_scores(config: MeasureConfig, inputs: Inputs, fitted: Path, start: int = 0) -> np.ndarray:
    scores_of = cast(OnModel, measure_of(config.kind)).scorer(config, inputs, fitted)
    parts = list(scores_of(start, inputs.index.rows))
    assert not parts or parts[0][0] == start
    return np.concatenate([part for _, part in parts])


def plain_loss(vlm, preparer: ConversationPreparer, sample, root) -> float:
    """One sample alone, all logits, a loop over its labels."""
    import torch

    images = open_images(sample.images, root, 10**8)
    assert not any(isinstance(image, Exception) for image in images)
    item = preparer.prepare(sample, images)  # pyright: ignore[reportArgumentType]
    ids = torch.from_numpy(item.tokens["input_ids"])[None]
    vision = {name: torch.from_numpy(value) for name, value in item.vision.items()}
    with torch.no_grad():
        logits = (
            vlm(input_ids=ids, attention_mask=torch.ones_like(ids), **vision).logits[0].double()
        )
    losses = [
        -float(torch.log_softmax(logits[place - 1], -1)[label])
        for place, label in enumerate(item.labels)
        if label >= 0 and place > 0
    ]
    return sum(losses) / len(losses)


def test_perplexities_are_those_of_each_sample_alone(inputs, fitted):
    config = measure_config(kind="perplexity", **CONFIG_OF)
    found = all_scores(config, inputs, fitted)
    differ = all_scores(measure_config(kind="delta_perplexity", **CONFIG_OF), inputs, fitted)
    preparer = ConversationPreparer(load_processor(fitted / "tuned"), cutoff=config.cutoff)
    tuned, origin = (
        load_for_loss(str(f), None, "cpu") for f in (fitted / "tuned", inputs.base / "vlm")
    )
    source = inputs.index.sources[0]
    for row in (0, 1, 5, 7, 9):  # plain, far, text only, three images, twenty turns
        sample = inputs.index.samples([row])[0]
        nats = [plain_loss(vlm, preparer, sample, source.root) for vlm in (tuned, origin)]
        assert found[row] == pytest.approx(-nats[0], rel=1e-4)
        assert differ[row] == pytest.approx(
            math.exp(nats[1]) - math.exp(nats[0]), rel=1e-3, abs=1e-3 * math.exp(nats[1])
        )
    assert np.isfinite(found).all() and len(found) == inputs.index.rows


def test_large_images_are_scaled_down_where_the_vlm_keeps_their_size(
    inputs, fitted, tmp_path, monkeypatch
):
    """Without a bound an image of 1,600 x 800 would take 5,000 tokens of 256 pixels."""
    folder = save_qwen3_vl(tmp_path / "tuned")
    (tmp_path / "actions.json").write_bytes((fitted / "actions.json").read_bytes())
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["size"]["longest_edge"] = 4096 * 4096
    file.write_text(json.dumps(settings))
    config = measure_config(kind="perplexity", **CONFIG_OF | {"cutoff": 8192})
    processor = load_processor(folder)
    sample = inputs.index.samples([0])[0]
    images = [Image.new("RGB", (1600, 800))]
    items = [RobotFrames(config, inputs, processor).preparer.prepare(sample, images)]

    def windows(_inputs, prepare, *_, **_settings):
        items.append(prepare(inputs.index.sources[0], sample, images))
        return iter(())

    monkeypatch.setattr(perplexity, "score_windows", windows)
    assert list(perplexity.scorer(config, inputs, tmp_path)(0, inputs.index.rows)) == []
    assert len(items) == 2
    for item in items:
        tokens = (item.tokens["input_ids"] == processor.image_token_id).sum()
        assert 0.9 * 768 * 768 < 256 * tokens <= 768 * 768


def test_tuning_makes_robot_actions_likelier(inputs, fitted):
    differ = all_scores(measure_config(kind="delta_perplexity", **CONFIG_OF), inputs, fitted)
    robots = ~inputs.index.is_pool()
    assert (differ[robots] > 0).all()


def test_a_resumed_pass_gives_the_same_numbers(inputs, fitted):
    config = measure_config(kind="perplexity", **CONFIG_OF)
    whole = all_scores(config, inputs, fitted)
    window = 4 * inputs.runtime.batch
    assert (all_scores(config, inputs, fitted, start=window) == whole[window:]).all()
    larger = all_scores(config, replace(inputs, runtime=Runtime(workers=0, batch=8)), fitted)
    assert larger == pytest.approx(whole, rel=1e-4)


def test_actions_as_text_are_bins_between_the_quantiles(inputs):
    source = inputs.index.of_role("robot")[0]
    actions, rows = Actions(inputs.index), np.arange(source.start, source.stop)
    edges = bin_edges(actions, source, rows, 8)
    samples = inputs.index.samples(rows)
    found = np.array([actions.of(sample) for sample in samples])
    low, high = np.quantile(found, 0.01, axis=0), np.quantile(found, 0.99, axis=0)
    for action in found:
        bins = [
            int(np.clip((a - lo) / (hi - lo) * 8, 0, 7))
            for a, lo, hi in zip(action, low, high, strict=True)
        ]
        assert spoken(action, edges) == " ".join(map(str, bins))
    answered = with_answer(samples[0], "1 2 3")
    assert [turn.role for turn in answered.turns] == ["user", "assistant"]
    from emt_core.data.readers.lerobot import robot_set
    from emt_core.recipe.sources import LeRobotSource

    config = next(
        s
        for s in load_recipe(inputs.base / "world" / "recipe.yaml").instances[0].config.sources
        if s.name == source.name
    )
    assert isinstance(config, LeRobotSource)
    robot = robot_set(config, source.root)
    recorded = robot.open(robot.find(samples[5].episode)).values("action")
    assert found[5] == pytest.approx(recorded[samples[5].frame])


def test_without_a_vlm_it_says_what_to_name(inputs, tmp_path):
    config = measure_config(kind="perplexity", steps=1)
    with pytest.raises(EmtError, match=r"not made by a VLM[\s\S]*name a VLM"):
        measure_of("perplexity").fit(config, inputs, tmp_path)


def test_delta_stays_finite_where_perplexity_would_not():
    found = delta(np.array([1.0, 900.0]), np.array([900.0, 1.0])).astype(np.float32)
    assert np.isfinite(found).all() and found[0] < 0 < found[1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "model")


def test_clip_score_is_the_cosine_of_images_and_words(inputs, clip, tmp_path):
    import open_clip
    import torch

    config = measure_config(kind="clip", model=str(clip), max_images=2)
    measure_of("clip").fit(config, inputs, tmp_path)
    missing: dict[int, str] = {}
    found = all_scores(config, replace(inputs, no_score=missing.__setitem__), tmp_path)
    assert (
        np.isnan(found[5])
        and np.isfinite(np.delete(found, 5)).all()
        and missing == {5: "text_only"}
    )
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip}")
    root = inputs.index.sources[0].root
    for row, files in (
        (0, ["0000.png"]),
        (7, ["0001.png", "0002.png"]),
    ):  # row 7 has a third, beyond max_images
        sample = inputs.index.samples([row])[0]
        said_text = " ".join(turn.text.replace("<image>", " ").strip() for turn in sample.turns)
        with torch.no_grad():
            seen = torch.zeros(1, CLIP_CONFIG["embed_dim"])
            for name in files:
                vector = model.eval().encode_image(
                    transform(Image.open(root / name).convert("RGB"))[None]
                )
                seen += vector / vector.norm() / len(files)
            said = model.encode_text(tokenizer([said_text]))
            cosine = float((seen * said).sum() / seen.norm() / said.norm())
        assert found[row] == pytest.approx(cosine, abs=1e-5)
    later = all_scores(config, inputs, tmp_path, start=8)
    wide = all_scores(measure_config(kind="clip", model=str(clip)), inputs, tmp_path, start=0)
    assert wide[7] != pytest.approx(found[7], abs=1e-6)  # the third image counts
    assert np.array_equal(later, found[8:], equal_nan=True)


def starved(work, most: int, seen: list[int]):
    """The same work on a device that holds `most` samples."""

    def run(*args):
        items = args[1] if len(args) > 1 else args[0]
        seen.append(len(items))
        if len(items) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return work(*args)

    return run


def test_where_memory_runs_out_batches_are_halved_and_scores_agree_to_rounding(
    inputs, fitted, clip, monkeypatch
):
    from emt_core.models.encoders.clip import ClipEncoder
    from emt_core.proximity.perplexity import perplexity

    roomy = replace(inputs, runtime=Runtime(workers=0, batch=8))
    configs = [
        measure_config(kind="perplexity", **CONFIG_OF),
        measure_config(kind="clip", model=str(clip)),
    ]
    whole = [all_scores(config, roomy, fitted) for config in configs]
    seen: list[int] = []
    monkeypatch.setattr(perplexity, "mean_losses", starved(perplexity.mean_losses, 3, seen))
    monkeypatch.setattr(ClipEncoder, "encode", starved(ClipEncoder.encode, 3, seen))
    for config, want in zip(configs, whole, strict=True):
        seen.clear()
        assert all_scores(config, roomy, fitted) == pytest.approx(
            want, rel=1e-4, abs=1e-6, nan_ok=True
        )
        assert (
            seen[0] >= 7 and max(seen[2:]) <= 3 and len(seen) > 20
        )  # halved for the rest of the run
    monkeypatch.setattr(perplexity, "mean_losses", starved(perplexity.mean_losses, 0, seen))
    with pytest.raises(EmtError, match="out of memory with a single sample"):
        all_scores(configs[0], roomy, fitted)


def test_rows_of_a_stream_are_scored_as_with_random_access(fitted, clip, tmp_path):
    """The same rows as a table and as a stream; one image cut short, one row without words of the
    assistant."""
    rng = np.random.default_rng(0)
    cells = []
    for _ in range(20):
        encoded = io.BytesIO()
        Image.fromarray(picture(rng, near=True)).save(encoded, "PNG")
        cells.append({"bytes": encoded.getvalue(), "path": None})
    cells[3]["bytes"] = cells[3]["bytes"][:-60]
    (tmp_path / "rows").mkdir()
    columns = {
        "image": cells,
        "question": [f"Row {row}?" for row in range(20)],
        "answer": ["yes, it is"] * 20,
    }
    parquet.write_table(pa.table(columns), tmp_path / "rows" / "part.parquet")
    write_robot(tmp_path / "arm", episodes=3, seed=0)
    read = {
        "role": "pool",
        "path": "rows",
        "images": "image",
        "question": "question",
        "answer": "answer",
    }
    arm = {
        "name": "arm",
        "role": "robot",
        "format": "lerobot",
        "path": "arm",
        "camera": "observation.images.front",
    }
    workspace = Workspace.open(tmp_path / "ws", create=True)
    found, missing = {}, {}
    for form, more in {"parquet": {}, "hf": {"streaming": True}}.items():
        recipe = build_recipe(
            {
                "name": form,
                "base": str(tmp_path),
                "runtime": {"workers": 0, "batch": 2},
                "sources": [
                    {"name": "web", "format": form} | read | more,
                    arm | {"frames_per_episode": 2},
                ],
                "embed": {"encoder": "fake"},
            }
        )
        made = run_plan(make_plan(recipe), workspace, quiet=True)
        for kind, settings in (("perplexity", CONFIG_OF), ("clip", {"model": str(clip)})):
            reasons: dict[int, str] = {}
            given = measure_inputs(made, tmp_path, no_score=reasons.__setitem__)
            found[form, kind] = all_scores(
                measure_config(**{"kind": kind} | settings), given, fitted
            )
            missing[form, kind] = reasons
            later = all_scores(measure_config(**{"kind": kind} | settings), given, fitted, start=8)
            assert np.array_equal(later, found[form, kind][8:], equal_nan=True)
    for kind in ("perplexity", "clip"):
        assert np.array_equal(found["hf", kind], found["parquet", kind], equal_nan=True)
        assert np.flatnonzero(np.isnan(found["hf", kind])).tolist() == [3]
        assert missing["hf", kind] == missing["parquet", kind] == {3: "undecodable_image"}
