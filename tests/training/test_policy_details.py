"""Details of fine-tuning and acting that no loss curve shows.

Clipping, decay, which frames a step takes, the crop when acting, the place of the query.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from decay import parameters_of, without_decay
from PIL import Image
from safetensors.torch import load_file
from small_world import write_robot
from tiny_models import save_internvl, save_qwen3_vl
from torch.nn import functional

from emt_core.data.robot.training_frames import FrameOrder
from emt_core.models.vlm.load import decoder_of
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.policy.policy import Policy
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace

CAMERA = "observation.images.front"
EPISODE = 5
FRAMES = 3 * EPISODE

CHUNK = 3
SIZE = 56
VLMS = {"internvl": save_internvl, "qwen3_vl": save_qwen3_vl}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name, save in VLMS.items():
        save(folder / name)
    write_robot(folder / "arm", episodes=3, seed=0, frames=EPISODE)
    write_robot(folder / "one", episodes=1, seed=1, frames=1)
    return folder


def finetune(world: Path, *, vlm: str = "internvl", quiet: bool = True, **changes: Any) -> Artifact:
    settings = {
        "start": "backbone",
        "data": [{"name": "arm", "path": "arm", "camera": CAMERA}],
        "action": {"gripper": ["grip"], "gripper_threshold": 0.0},
        "chunk": CHUNK,
        "image_size": SIZE,
        "head": {"latent": 16, "widths": [16]},
        "steps": 3,
        "batch": FRAMES,
    }
    raw = {
        "name": "details",
        "base": str(world),
        "backbone": vlm,
        "runtime": {"workers": 0, "batch": FRAMES, "device": "cpu"},
        "finetune": settings | changes,
    }
    folder = Workspace.open(world / "ws", create=True)
    return run_plan(make_plan(build_recipe(raw)), folder, quiet=quiet)["finetune"]


def steps_of(artifact: Artifact) -> list[dict[str, Any]]:
    return list(iterate_steps(artifact.data / "steps.jsonl"))


def policy_at(artifact: Artifact, step: int) -> Policy:
    return Policy.load(artifact.data / "policies" / f"step-{step}", device="cpu")


def test_action_dimensions_that_never_move_are_said(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A threshold that the gripper never reaches: one class. Said before a frame is decoded."""

    def enough(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("emt_core.data.robot.frame_cache.frame_caches", enough)
    with pytest.raises(KeyboardInterrupt):
        finetune(world, quiet=False, action={"gripper": ["grip"], "gripper_threshold": 5.0})
    said = " ".join("".join(capsys.readouterr()).split())
    assert "action dimension grip: one value in all data" in said


# ---- the step


@pytest.fixture(scope="module")
def clipped(world: Path) -> Artifact:
    """Gradients clipped to nothing: all that is left of a step is the decay of the weights."""
    return finetune(
        world,
        clip_norm=1e-12,
        weight_decay=0.5,
        learning_rate=0.1,
        warmup_steps=2,
        steps=4,
        keep=[1],  # the rate is 0 in the first step: this is the policy that training began with
        batch=4,
    )


def test_a_gradient_is_clipped_before_the_step(clipped: Artifact):
    """AdamW's step is as large as the rate whatever the gradient, unless that is below epsilon.

    So the norm asked for is far below: a weight that moved by more than its decay saw no clipping.
    """
    first, last = (clipped.data / "policies" / f"step-{step}" for step in (1, 4))
    assert all(record["grad_norm"] > 1e-3 for record in steps_of(clipped))
    kept = math.prod(1 - 0.5 * rate for rate in (0.0, 0.05, 0.1, 0.05))
    before = parameters_of(first)
    after = parameters_of(last)
    untrained = {name for name in before if name.startswith("lm_head")}
    for name in before.keys() - without_decay(first) - untrained:
        torch.testing.assert_close(after[name], kept * before[name], rtol=0, atol=1e-3)
    head_before = load_file(first / "head.safetensors")
    head_after = load_file(last / "head.safetensors")
    for name, value in head_before.items():
        decayed = value * kept if name.endswith("weight") else value
        torch.testing.assert_close(head_after[name], decayed, rtol=0, atol=1e-3)


def test_the_gradient_of_the_query_is_clipped_apart(world: Path):
    """While the query is zero, its gradient is 60,000 times that of all other parameters.

    Clipped apart, all move by about the rate; together, the others would fall below epsilon.
    """
    rate = 1e-2
    made = finetune(
        world, clip_norm=1e-3, learning_rate=rate, warmup_steps=1, steps=2, keep=[1], batch=4
    )
    before, after = (policy_at(made, step).vla for step in (1, 2))
    assert not before.query.any() and after.query.abs().max() > rate / 2
    old = before.head.state_dict()
    for name, value in after.head.state_dict().items():
        assert (value - old[name]).abs().max() > rate / 2, name


def test_norms_and_biases_do_not_decay(clipped: Artifact):
    first, last = (clipped.data / "policies" / f"step-{step}" for step in (1, 4))
    before = parameters_of(first)
    after = parameters_of(last)
    still = without_decay(first)
    assert any("norm" in name for name in still)
    for name in still:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def still(world: Path) -> Artifact:
    """Three steps over all frames that hardly move a weight: each sees what the first one saw."""
    return finetune(world, learning_rate=1e-12, clip_norm=1e6)


def test_every_step_begins_without_gradient(still: Artifact):
    first, *others = steps_of(still)
    assert first["grad_norm"] > 1e-3
    for record in others:
        assert record["loss"] == pytest.approx(first["loss"], rel=1e-4)
        assert record["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)


def recorded(world: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, 48, 48, 3], float32 [n, 3]): frames and actions, read without our readers."""
    (video,) = (world / "arm").rglob("*.mp4")
    with av.open(str(video)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    (table,) = (world / "arm" / "data").rglob("*.parquet")
    actions = pq.read_table(table, columns=["action"]).column(0).to_pylist()
    return np.stack(pictures), np.array(actions, np.float32)


def test_the_loss_is_that_of_the_acting_policy_on_the_recorded_episodes(
    still: Artifact, world: Path
):
    """From the files by hand: the policy's actions against the next ones of the frame's episode."""
    policy = policy_at(still, 3)
    pictures, actions = recorded(world)
    tasks = ["push the red block", "open the drawer"]
    acted = policy.act(pictures, [tasks[frame // EPISODE % 2] for frame in range(FRAMES)])
    low = np.array(policy.spec.action_map.arm_low)
    high = np.array(policy.spec.action_map.arm_high)
    errors = []
    for frame in range(FRAMES):
        for ahead in range(min(CHUNK, EPISODE - frame % EPISODE)):
            wanted = np.clip(actions[frame + ahead, :2], low, high)
            apart = (acted[frame, ahead, :2] - wanted) * 2 / (high - low)
            errors.append(np.where(np.abs(apart) < 1, 0.5 * apart**2, np.abs(apart) - 0.5).mean())
    record = steps_of(still)[0]
    assert record["loss_arm"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert record["loss"] == pytest.approx(
        record["loss_arm"] + 0.01 * record["loss_gripper"], rel=1e-5
    )


@pytest.mark.parametrize("augment", [{}, {"crop": 0.5}, {"brightness": 0.5}])
def test_a_frame_is_changed_anew_in_every_step(world: Path, augment: dict[str, float]):
    """One frame is all there is: without augmentation every step sees the same picture."""
    one = [{"name": "one", "path": "one", "camera": CAMERA}]
    made = finetune(world, data=one, batch=1, learning_rate=1e-20, augment=augment)
    losses = {round(record["loss"], 5) for record in steps_of(made)}
    assert len(losses) == (3 if augment else 1)


# ---- which frames


def test_every_epoch_has_an_order_of_its_own():
    order = FrameOrder(50, 20, seed=3)  # a step may reach over the end of an epoch
    stream = np.concatenate([order.rows(step) for step in range(10)]).reshape(4, 50)
    for epoch in stream:
        assert np.array_equal(np.sort(epoch), np.arange(50))
    orders = {tuple(epoch) for epoch in (*stream, np.arange(50))}
    assert len(orders) == 5
    assert not np.array_equal(FrameOrder(50, 20, seed=4).rows(0), order.rows(0))
    np.testing.assert_array_equal(order.rows(1), stream.reshape(-1)[20:40])  # also going back


def test_a_run_takes_other_frames_in_every_step(world: Path):
    """Weights stand still, so equal losses would mean equal batches: six steps are two epochs."""
    made = finetune(world, learning_rate=1e-12, steps=6, batch=EPISODE)
    losses = [record["loss_arm"] for record in steps_of(made)]
    assert len({round(loss, 6) for loss in losses}) == 6


# ---- acting


@pytest.fixture(scope="module", params=VLMS)
def policy(request: pytest.FixtureRequest, world: Path) -> Policy:
    found = policy_at(finetune(world, vlm=request.param, steps=1, batch=2), 1)
    with torch.no_grad():
        found.vla.query.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    return found


def with_crop(policy: Policy, crop: float) -> Policy:
    spec = replace(policy.spec, crop=crop)
    return Policy(policy.vla, policy.processor, spec, policy.device, policy.dtype)


@pytest.mark.parametrize("side", [28, 42])
def test_acting_sees_the_centre_of_the_area_that_crop_says(policy: Policy, side: int):
    """Cropped to the area of its middle square, a frame is that square scaled to the frame's size.

    The square's edges are repeated outwards, so that scaling meets the same pixels beyond them.
    """
    middle = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    margin = (SIZE - side) // 2
    border = (0, 0), (margin, margin), (margin, margin), (0, 0)
    frames = np.pad(middle, border, mode="edge")
    scaled = functional.interpolate(
        torch.from_numpy(middle).permute(0, 3, 1, 2).float(), SIZE, mode="bilinear"
    )
    shown = scaled.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    texts = ["open the drawer", "go"]
    cropped = with_crop(policy, (side / SIZE) ** 2).act(frames, texts)
    np.testing.assert_allclose(cropped, with_crop(policy, 1).act(shown, texts), atol=5e-3)
    assert np.abs(cropped - with_crop(policy, 1).act(frames, texts)).max() > 2e-2


def test_the_query_stands_behind_the_whole_prompt(policy: Policy):
    """By hand: the chat up to the answer's begin, then a token that has the query's embedding."""
    picture = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    processor = policy.processor
    question = policy.spec.prompt.replace("{instruction}", "open the drawer")
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": policy.spec.system}]},
        {"role": "user", "content": content},
    ]
    chat = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tiling = hasattr(processor.image_processor, "crop_to_patches")
    inputs = processor(
        text=[chat],
        images=[Image.fromarray(picture)],
        return_tensors="pt",
        **({"crop_to_patches": False} if tiling else {}),
    )
    length = inputs["input_ids"].shape[1]
    stand_in = processor.tokenizer.convert_tokens_to_ids("~")
    assert not (inputs["input_ids"] == stand_in).any()
    last = {"input_ids": stand_in, "attention_mask": 1}
    for name, value in inputs.items():
        if value.shape == (1, length):
            inputs[name] = torch.cat([value, torch.tensor([[last.get(name, 0)]])], dim=1)
    decoder = decoder_of(policy.vla.vlm)
    table = decoder.get_input_embeddings().weight
    before = table[stand_in].clone()
    with torch.no_grad():
        table[stand_in] = policy.vla.query
        expected = decoder(**inputs, use_cache=False).last_hidden_state[:, -1]
        table[stand_in] = before
        frames = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
        found = policy.vla.control_feature(policy.prompts.batch(frames, ["open the drawer"]))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
