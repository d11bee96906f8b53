"""A model is its files, not its path."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from emt_core.errors import EmtError
from emt_core.models.identity import locate_model, model_identity
from emt_core.models.weights import Weights, weights_of

FILES = (
    "config.json",
    "tokenizer.json",
    "processor_config.json",
    "chat_template.jinja",
    "model.safetensors",
)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"content of {name}")
    (folder / "README.md").write_text("read me")
    return folder


def test_same_files_elsewhere_are_the_same_model(model, tmp_path):
    first = model_identity("model", None, tmp_path)
    shutil.copytree(model, tmp_path / "sub" / "copy")
    assert (
        model_identity("sub/copy", None, tmp_path)
        == first
        == model_identity(str(model), "main", tmp_path / "sub")
    )
    assert str(tmp_path) not in str(first) and "README.md" not in first["files"]


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "processor_config.json",
        "chat_template.jinja",
        "model.safetensors",
    ],
)
def test_every_identifying_file_counts(model, tmp_path, name):
    first = model_identity("model", None, tmp_path)
    (model / name).write_text("changed")
    assert model_identity("model", None, tmp_path) != first


def test_what_changes_no_feature_does_not_count(model, tmp_path):
    first = model_identity("model", None, tmp_path)
    (model / "README.md").write_text("changed")
    (model / "trainer_state.json").write_text("{}")
    os.utime(model / "model.safetensors")
    assert model_identity("model", None, tmp_path) == first


def test_missing_folder_and_pickled_weights(model, tmp_path):
    for missing in ("./nowhere", str(tmp_path / "nowhere"), "~/nowhere/at/all", "a/b/c"):
        with pytest.raises(EmtError, match="no such model folder"):
            model_identity(missing, None, tmp_path)
    with pytest.raises(EmtError, match="embed has no model"):
        locate_model("", tmp_path)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(EmtError, match="no safetensors"):
        model_identity("model", None, tmp_path)


def test_hub_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert model_identity("org/name", commit, tmp_path) == {"revision": commit}

    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))

    class Info:
        sha = commit

    monkeypatch.setattr(HfApi, "model_info", lambda *a, **k: Info)
    assert model_identity("org/name", None, tmp_path) == {"revision": commit}

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(EmtError, match="Hub cannot be reached"):
        model_identity("org/name", None, tmp_path)
    snapshot = tmp_path / "cache" / "models--org--name"
    (snapshot / "snapshots" / commit).mkdir(parents=True)
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *a, _real=huggingface_hub.snapshot_download, **k: _real(
            *a, cache_dir=str(tmp_path / "cache"), **k
        ),
    )
    assert model_identity("org/name", None, tmp_path) == {"revision": commit}


def test_a_file_that_is_no_safetensors_has_no_known_size(tmp_path):
    """A clone without Git LFS has pointers: their first letters read as a length of 2e18 bytes."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3]}}).encode()
    contents = {
        "pointer": b"version https://git-lfs.github.com/spec/v1\nsize 100\n",
        "noise": b"\xff" * 64,
        "list": (2).to_bytes(8, "little") + b"[]",
        "no shape": (9).to_bytes(8, "little") + b'{"a": {}}',
        "whole": len(header).to_bytes(8, "little") + header,
    }
    found = {}
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(content)
        found[name] = weights_of(str(tmp_path / name), None, tmp_path)
    assert found.pop("whole") == Weights(parameters=6, bytes=8 + len(header))
    assert set(found.values()) == {None}
    # Mistral's models carry every weight once more, for another library
    (tmp_path / "whole" / "consolidated.safetensors").write_bytes(contents["whole"])
    assert weights_of(str(tmp_path / "whole"), None, tmp_path) == Weights(6, 8 + len(header))
