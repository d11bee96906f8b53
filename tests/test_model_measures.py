"""Perplexity, delta perplexity and the CLIP score: against one sample at a time, and resumed like uninterrupted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from encoders.test_clip import CONFIG
from encoders.tiny_models import save_internvl
from small_world import small_world

from emt_core.artifact import Artifact, Workspace
from emt_core.errors import EmtError
from emt_core.index import Index
from emt_core.measure_config import MeasureConfig
from emt_core.progress import Progress
from emt_core.proximity import measure_of
from emt_core.proximity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.base import Inputs
from emt_core.proximity.perplexity import delta
from emt_core.proximity.token_loss import Reader, load_for_loss
from emt_core.recipe import load_recipe
from emt_core.runner import run_plan
from emt_core.stage_config import Runtime
from emt_core.store import Features


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    from emt_core.plan import make_plan

    base = tmp_path_factory.mktemp("models")
    small_world(base / "world", pool_rows=24, episodes=4)
    save_internvl(base / "vlm")
    plan = make_plan(load_recipe(base / "world" / "recipe.yaml"))
    made = run_plan(plan, Workspace.open(base / "ws", create=True), until="embed", quiet=True)
    sources: Artifact = made["sources"]
    return Inputs(
        index=Index(sources),
        features=Features.at(made["embed"].data / "features.lance"),
        embed=made["embed"],
        base=base,
        runtime=Runtime(workers=0, batch_size=2),
        progress=Progress(label="test", quiet=True),
    )


CONFIG_OF = {"model": "vlm", "tune_steps": 6, "tune_batch": 4, "action_bins": 16, "tune_rate": 1e-3}


@pytest.fixture(scope="module")
def fitted(inputs) -> Path:
    out = inputs.base / "fitted"
    out.mkdir()
    facts = measure_of("perplexity").fit(MeasureConfig(kind="perplexity", **CONFIG_OF), inputs, out)
    assert facts["steps"] == 6 and facts["loss_last"] < facts["loss_first"]
    return out


def all_scores(config: MeasureConfig, inputs: Inputs, fitted: Path, start: int = 0) -> np.ndarray:
    parts = list(measure_of(config.kind).scores(config, inputs, fitted, start))
    assert not parts or parts[0][0] == start
    return np.concatenate([part for _, part in parts])


def plain_loss(vlm, reader: Reader, sample, root) -> float:
    """One sample alone, all logits, a loop over its labels."""
    import torch

    item = reader.item(sample, root, 10**8)
    assert item is not None
    ids = torch.from_numpy(item.tokens["input_ids"])[None]
    vision = {name: torch.from_numpy(value) for name, value in item.vision.items()}
    with torch.no_grad():
        logits = vlm(input_ids=ids, attention_mask=torch.ones_like(ids), **vision).logits[0].double()
    losses = [
        -float(torch.log_softmax(logits[place - 1], -1)[label])
        for place, label in enumerate(item.labels)
        if label >= 0 and place > 0
    ]
    return sum(losses) / len(losses)


def test_perplexities_are_those_of_each_sample_alone(inputs, fitted):
    config = MeasureConfig(kind="perplexity", **CONFIG_OF)
    found = all_scores(config, inputs, fitted)
    differ = all_scores(MeasureConfig(kind="delta_perplexity", **CONFIG_OF), inputs, fitted)
    reader = Reader(str(fitted / "tuned"), None, cutoff=config.max_text_tokens, max_images=config.max_images)
    tuned, origin = (load_for_loss(str(f), None, "cpu") for f in (fitted / "tuned", inputs.base / "vlm"))
    source = inputs.index.sources[0]
    for row in (0, 1, 5, 7, 9):  # plain, far, text only, three images, twenty turns
        sample = inputs.index.samples([row])[0]
        nats = [plain_loss(vlm, reader, sample, source.root) for vlm in (tuned, origin)]
        assert found[row] == pytest.approx(-nats[0], rel=1e-4)
        assert differ[row] == pytest.approx(
            math.exp(nats[1]) - math.exp(nats[0]), rel=1e-3, abs=1e-3 * math.exp(nats[1])
        )
    assert np.isfinite(found).all() and len(found) == inputs.index.rows


def test_tuning_makes_robot_actions_likelier(inputs, fitted):
    differ = all_scores(MeasureConfig(kind="delta_perplexity", **CONFIG_OF), inputs, fitted)
    robots = ~inputs.index.is_pool()
    assert (differ[robots] > 0).all()


def test_a_resumed_pass_gives_the_same_numbers(inputs, fitted):
    config = MeasureConfig(kind="perplexity", **CONFIG_OF)
    whole = all_scores(config, inputs, fitted)
    window = 4 * inputs.runtime.batch_size
    assert (all_scores(config, inputs, fitted, start=window) == whole[window:]).all()
    larger = all_scores(config, replace(inputs, runtime=Runtime(workers=0, batch_size=8)), fitted)
    assert larger == pytest.approx(whole, rel=1e-4)


def test_actions_as_text_are_bins_between_the_quantiles(inputs):
    source = inputs.index.of_role("robot")[0]
    actions, rows = Actions(inputs.index), np.arange(source.start, source.stop)
    edges = bin_edges(actions, source, rows, 8)
    samples = inputs.index.samples(rows)
    found = np.array([actions.of(sample) for sample in samples])
    low, high = np.quantile(found, 0.01, axis=0), np.quantile(found, 0.99, axis=0)
    for action in found:
        bins = [int(np.clip((a - lo) / (hi - lo) * 8, 0, 7)) for a, lo, hi in zip(action, low, high, strict=True)]
        assert spoken(action, edges) == " ".join(map(str, bins))
    answered = with_answer(samples[0], "1 2 3")
    assert [turn.role for turn in answered.turns] == ["user", "assistant"]
    from emt_core.readers.lerobot import episode_table
    from emt_core.source_config import LeRobotSource

    config = next(
        s
        for s in load_recipe(inputs.base / "world" / "recipe.yaml").instances[0].config.sources
        if s.name == source.name
    )
    assert isinstance(config, LeRobotSource)
    table = episode_table(config, source.root, samples[5].episode)
    assert found[5] == pytest.approx(table.column("action")[samples[5].frame].as_py())


def test_without_a_vlm_it_says_what_to_name(inputs, tmp_path):
    config = MeasureConfig(kind="perplexity", tune_steps=1)
    with pytest.raises(EmtError, match=r"not made by a VLM[\s\S]*name a VLM"):
        measure_of("perplexity").fit(config, inputs, tmp_path)


def test_delta_stays_finite_where_perplexity_would_not():
    found = delta(np.array([1.0, 900.0]), np.array([900.0, 1.0])).astype(np.float32)
    assert np.isfinite(found).all() and found[0] < 0 < found[1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CONFIG)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def test_clip_score_is_the_cosine_of_image_and_words(inputs, clip, tmp_path):
    import open_clip
    import torch
    from PIL import Image

    config = MeasureConfig(kind="clip", model=str(clip))
    measure_of("clip").fit(config, inputs, tmp_path)
    found = all_scores(config, inputs, tmp_path)
    assert np.isnan(found[5]) and np.isfinite(np.delete(found, 5)).all()
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip}")
    image = Image.open(inputs.index.sources[0].root / "0000.png").convert("RGB")
    with torch.no_grad():
        seen = model.eval().encode_image(transform(image)[None], normalize=True)
        said = model.encode_text(tokenizer(["Point to the red block. (0.41, 0.62)"]), normalize=True)
    assert found[0] == pytest.approx(float(seen @ said.T), abs=1e-5)
    later = all_scores(config, inputs, tmp_path, start=8)
    assert np.array_equal(later, found[8:], equal_nan=True)
