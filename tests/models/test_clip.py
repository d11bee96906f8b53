"""The CLIP encoder with a tiny random model saved in open_clip's own folder format."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from samples import conversation, picture
from tiny_models import save_clip

from emt_core.errors import EmtError
from emt_core.models.encoders.clip import ClipEncoder, clip_identity, parse_clip_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_clip(
        tmp_path_factory.mktemp("clip") / "tiny",
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.3, 0.25],
        interpolation="bicubic",
    )


@pytest.fixture(scope="module")
def encoder(folder):
    encoder = ClipEncoder(str(folder), folder)
    encoder.load("cpu", "float32")
    return encoder


def test_equals_open_clips_own_pipeline(encoder, folder):
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    image = picture(3, 50, 70)
    reference = model.eval().encode_image(transform(image)[None])[0].detach().numpy()
    vector = encoder.encode(
        [encoder.prepare(conversation(0, ("user", "<image>")), [image], "user")]
    )[0]
    np.testing.assert_allclose(vector, reference / np.linalg.norm(reference), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_vector_does_not_depend_on_the_batch(encoder):
    rows = [
        [picture(0)],
        [picture(1), picture(2), picture(3)],
        [picture(4, 20, 90)],
        [picture(5), picture(6)],
    ]
    items = [
        encoder.prepare(conversation(i, ("user", "<image>")), images, "user")
        for i, images in enumerate(rows)
    ]
    alone = np.concatenate([encoder.encode([item]) for item in items])
    np.testing.assert_allclose(encoder.encode(items), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(items[::-1])[::-1], alone, atol=1e-5)
    one_by_one = [
        encoder.encode([encoder.prepare(conversation(9, ("user", "<image>")), [image], "user")])
        for image in rows[1]
    ]
    mean = np.mean(one_by_one, axis=0)[0]
    np.testing.assert_allclose(alone[1], mean / np.linalg.norm(mean), atol=1e-5)


def test_text_tower(encoder):
    texts = [f"a photo of a {word}" for word in ("cup", "dog", "chart")] * 100
    vectors = encoder.encode_text(texts)
    assert vectors.shape == (300, 24) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[:3], vectors[297:], atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    assert encoder.encode_text([]).shape == (0, 24)


def test_towers_never_go_to_a_worker(encoder):
    copied = pickle.loads(pickle.dumps(encoder))
    image = picture(0)
    sample = conversation(0, ("user", "<image>"))
    np.testing.assert_array_equal(
        copied.prepare(sample, [image], "user").vision["pixel_values"],
        encoder.prepare(sample, [image], "user").vision["pixel_values"],
    )
    assert copied._model is None


def test_names(folder, tmp_path):
    weights = folder / "open_clip_model.safetensors"
    named = parse_clip_name(f"ViT-B-32/{weights}", tmp_path)
    assert named.file == weights and named.architecture == "ViT-B-32"
    assert parse_clip_name("ViT-B-32/laion2b_s34b_b79k", tmp_path).tag == "laion2b_s34b_b79k"
    for wrong in ("ViT-B-32", "", "ViT-B-32/weights.pt", "ViT-B-32/sub/none.safetensors"):
        with pytest.raises(EmtError):
            parse_clip_name(wrong, tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(EmtError, match="not a safetensors file"):
        parse_clip_name("ViT-B-32/weights.pt", tmp_path)
    with pytest.raises(EmtError, match="no architecture"):
        ClipEncoder("NoSuch-B-32/openai", tmp_path)
    with pytest.raises(EmtError, match="no weights"):
        ClipEncoder("ViT-B-32/no_such_tag", tmp_path)


def test_weights_of_another_architecture_are_one_clear_message(folder, tmp_path):
    encoder = ClipEncoder(f"ViT-S-32/{folder / 'open_clip_model.safetensors'}", tmp_path)
    with pytest.raises(EmtError, match="cannot be loaded"):
        encoder.load("cpu", "float32")


def test_identity_is_of_the_content(folder, tmp_path):
    first = clip_identity(str(folder), tmp_path)
    moved = tmp_path / "copy"
    moved.mkdir()
    for file in folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert clip_identity("copy", tmp_path) == first
    (moved / "open_clip_model.safetensors").write_bytes(b"other")
    assert clip_identity("copy", tmp_path) != first
