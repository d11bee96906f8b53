"""What a gallery shows and in what order; search by meaning with a tiny CLIP."""

from __future__ import annotations

import json

import numpy as np
import pytest
from synthetic import make_workspace, pool, put_artifact, robot

from emt_core.data.features import feature_table
from emt_core.errors import EmtError
from emt_core.explore.tables.browse import NOTED, Columns, Wanted, arranged, near_cut, passing
from emt_core.explore.tables.nearness import WordSearch, clip_features, ranked
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Coded

CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def facts() -> Columns:
    rng = np.random.default_rng(0)
    n = 400
    logit = rng.normal(size=n).astype(np.float32)
    logit[5] = np.nan
    order = ranked(logit, largest=True)
    reason = np.ones(n, np.int16)
    reason[order[:50]] = 0
    flag = np.zeros(n, np.int8)
    flag[:9] = 2
    return Columns(
        pool=np.arange(n) < 360,
        source=Coded((np.arange(n) % 3).astype(np.int16), ["a", "b", "c"]),
        category=Coded((np.arange(n) % 2).astype(np.int16), ["spatial", "text"]),
        reason=Coded(reason, ["", "below_cut"]),
        flag=Coded(flag, ["", "keep", "wrong"]),
        noted=(20,),
        logit=logit,
        order=order,
    )


def test_filters_are_what_a_loop_would_say(facts: Columns):
    wanted = Wanted(show="left", sources=("a", "c"), categories=("text",), scores=(-1.0, 1.0))
    assert facts.reason is not None and facts.logit is not None
    expected = [
        row
        for row in range(360)
        if facts.reason.codes[row] != 0
        and row % 3 != 1
        and row % 2 == 1
        and -1 <= facts.logit[row] <= 1
    ]
    assert np.flatnonzero(passing(facts, wanted)).tolist() == expected


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        (("wrong",), [*range(9)]),
        (("keep",), []),
        ((NOTED,), [20]),
        (("wrong", NOTED), [*range(9), 20]),
    ],
)
def test_flags_and_notes_filter(facts: Columns, flags: tuple[str, ...], rows: list[int]):
    assert np.flatnonzero(passing(facts, Wanted(flags=flags))).tolist() == rows


def test_searches_and_regions_narrow_together(facts: Columns):
    only = [np.array([3, 4, 5, 390]), np.array([4, 5, 6])]
    assert np.flatnonzero(passing(facts, Wanted(only=only))).tolist() == [4, 5]
    assert np.flatnonzero(passing(facts, Wanted(show="robot", only=only[:1]))).tolist() == [390]


def test_near_the_cut_lie_both_sides_of_it(facts: Columns):
    near = np.flatnonzero(near_cut(facts, 20))
    assert facts.reason is not None
    assert len(near) == 20
    assert (facts.reason.codes[near] == 0).sum() in range(5, 16)
    assert not near_cut(Columns(pool=facts.pool, source=facts.source)).any()


def test_orders_hold_every_row_once(facts: Columns):
    keep = passing(facts, Wanted())
    best = arranged(keep, "near", facts.order)
    assert facts.logit is not None
    assert best[-1] == 5  # without a score: last
    assert np.all(np.diff(facts.logit[best[:-1]]) <= 0)
    assert arranged(keep, "far", facts.order)[:-1].tolist() == best[:-1][::-1].tolist()
    assert arranged(keep, "index").tolist() == list(range(360))
    shuffled = arranged(keep, "random")
    assert shuffled.tolist() != sorted(shuffled.tolist()) == list(range(360))
    assert np.array_equal(shuffled, arranged(keep, "random"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random CLIP and features that it could have made: it proves the mechanics, not that words
    find pictures."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from emt_core.models.encoders.clip import clip_identity

    base = tmp_path_factory.mktemp("meaning")
    folder = base / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CLIP)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}})
    )
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    made = make_workspace(base / "ws", [pool("web", 40), robot("arm", 16)])
    vectors = np.random.default_rng(1).normal(size=(56, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    status = ["", "missing_image", *[""] * 54]
    artifact = put_artifact(
        made, "embed", {"features.lance": feature_table(vectors.astype(np.float16), status)}
    )
    path = artifact.path / "manifest.json"
    known = {"config": {"encoder": "clip", "model": str(folder)}, "base": str(folder)}
    known["identity"] = clip_identity(str(folder), folder)
    known["parents"] = {"sources": made.artifacts["sources"].key}
    path.write_text(json.dumps(json.loads(path.read_text()) | known))
    return Artifact(artifact.path), made.artifacts["sources"], folder


def test_words_rank_every_row_by_cosine(clip):
    from emt_core.data.features import Features
    from emt_core.models.encoders.clip import ClipEncoder

    artifact, _, folder = clip
    found = WordSearch(artifact).cosines("a robot arm over a table")
    encoder = ClipEncoder(str(folder), folder)
    encoder.load("cpu", "float32")
    vectors = Features.at(artifact.data / "features.lance").take(range(56)).astype(np.float32)
    exact = vectors @ encoder.encode_text(["a robot arm over a table"])[0]
    assert np.isnan(found[1])
    others = [row for row in range(56) if row != 1]
    assert np.allclose(found[others], exact[others], atol=1e-5)
    assert ranked(found, largest=True)[0] == others[int(np.argmax(exact[others]))]


def test_only_clip_features_of_this_pool_are_searched(clip, tmp_path):
    artifact, sources, _ = clip
    assert clip_features({"embed.clip": artifact}, sources) is artifact
    assert clip_features({}, sources) is None
    other = make_workspace(tmp_path / "ws", [pool("web", 10), robot("arm", 16)])
    assert clip_features({"embed.clip": artifact}, other.artifacts["sources"]) is None
    with pytest.raises(EmtError, match="needs CLIP features"):
        WordSearch(other.artifacts["embed"])


def test_changed_weights_are_refused(clip, tmp_path):
    artifact, _, folder = clip
    config = folder / "open_clip_config.json"
    before = config.read_text()
    config.write_text(before + " ")
    try:
        with pytest.raises(EmtError, match="not the ones that made the features"):
            WordSearch(artifact)
    finally:
        config.write_text(before)
