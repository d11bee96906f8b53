"""The hand-made artifacts obey the contracts that the real stages obey."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from synthetic import make_workspace, pool, robot

from emt_core.data.index import SCHEMA, to_record


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    sources = [
        pool("web", 40, no_vector=0.2, text_only=0.2, images=True),
        ("arm", "robot", 20, 3.0),
    ]
    return make_workspace(tmp_path_factory.mktemp("ws"), sources, dim=8, seed=3)


def test_rows_round_trip_through_the_real_index(made):
    assert made.index.table.schema.equals(SCHEMA)
    rows = made.index.table.take(range(60)).to_pylist()
    assert [to_record(sample) for sample in made.index.samples(range(60))] == rows
    assert [s.name for s in made.index.sources] == ["web", "arm"]
    last = made.index.samples([40 + 17])[0]
    assert (last.id, last.episode, last.frame) == ("arm:17", 17 // 8, 17 % 8)


def test_status_and_vectors_agree_with_the_index(made):
    ok, vectors = made.features.ok(), made.features.take(range(60)).astype(np.float32)
    assert 0 < (~ok[:40]).sum() < 40 and ok[40:].all()
    assert not vectors[~ok].any() and vectors[ok].any(axis=1).all()
    shown = made.index.table.column("n_images")
    status = made.features.table.column("status")
    assert ((shown == 0) == (status == "text_only")).all()
    assert np.linalg.norm(vectors[40:].mean(axis=0)) == pytest.approx(3.0, abs=0.6)


def test_images_lie_where_the_references_say(made):
    sample = next(s for s in made.index.samples(range(40)) if s.images)
    with Image.open(made.index.source_of(0).root / sample.images[0].path) as image:
        assert image.size == (32, 32)


def test_same_seed_same_features(made, tmp_path):
    again = make_workspace(
        tmp_path,
        [pool("web", 40, no_vector=0.2, text_only=0.2), robot("arm", 20, mean=3.0)],
        dim=8,
        seed=3,
    )
    np.testing.assert_array_equal(again.features.take(range(60)), made.features.take(range(60)))
