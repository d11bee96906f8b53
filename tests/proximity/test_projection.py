"""The map's parts: exact neighbours, principal components, the sample it is fitted on, the three
methods."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_core.data.draws import FLOOR_SHARE, choose, spread
from emt_core.proximity.map.fitted import FittedMap
from emt_core.proximity.map.nearest import GROUP, Nearest
from emt_core.proximity.map.pca import Pca
from emt_core.recipe.gap import GapConfig


@pytest.fixture
def rng():
    return np.random.default_rng(2)


@pytest.mark.parametrize("n", [3, GROUP, 5 * GROUP + 17])
def test_neighbors_equal_a_full_sort(rng, n):
    reference = rng.normal(50, 1, (n, 6)).astype(np.float32)
    rows = rng.normal(50, 1, (1100, 6)).astype(np.float32)
    distance, index = Nearest(reference).query(rows, 3)
    full = np.linalg.norm(rows[:, None] - reference[None], axis=2)
    np.testing.assert_allclose(distance, np.sort(full, axis=1)[:, :3], atol=2e-4)
    np.testing.assert_allclose(np.take_along_axis(full, index, axis=1), distance, atol=2e-4)
    assert all(len(set(row)) == 3 for row in index.tolist())


def test_a_row_of_the_reference_is_its_own_first_neighbor_even_among_duplicates(rng):
    x = np.repeat(rng.normal(size=(40, 4)), 3, axis=0).astype(np.float32)
    distance, index = Nearest(x).query(x, 4, own=np.arange(120))
    assert (index[:, 0] == np.arange(120)).all() and not distance[:, 0].any()


def test_pca_is_scikit_learns_up_to_sign(rng):
    x = rng.normal(3, 1, (200, 12)) * np.arange(1, 13)
    mine, theirs = Pca.fit(x, 4), sklearn.decomposition.PCA(4, svd_solver="full").fit(x)
    np.testing.assert_allclose(
        np.abs(mine.apply(x)), np.abs(theirs.transform(x)), rtol=1e-3, atol=1e-2
    )
    assert mine.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-6)
    assert Pca.fit(x[:, :3]).apply(x[:, :3]).shape == (200, 3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=12), st.integers(10, 3000))
def test_the_fit_sample_is_bounded_has_a_floor_and_takes_all_of_little(sizes, total):
    counts = spread(sizes, total)
    assert (counts <= sizes).all()
    if sum(sizes) <= total:
        assert counts.tolist() == sizes
    else:
        floor = int(total * FLOOR_SHARE / len(sizes))
        assert total - len(sizes) <= counts.sum() <= total
        assert (counts >= np.minimum(sizes, floor)).all()


def test_a_small_robot_set_shows_beside_a_large_pool():
    assert spread([1_000_000, 500_000, 400], 20_000).tolist()[2] == 400


def test_the_draw_is_seeded_without_repeats():
    rows = np.arange(100, 200)
    picked = choose(rows, 30, (1, 2))
    assert len(set(picked.tolist())) == 30 and (np.diff(picked) > 0).all() and picked.min() >= 100
    np.testing.assert_array_equal(picked, choose(rows, 30, (1, 2)))
    assert not np.array_equal(picked, choose(rows, 30, (2, 2)))


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 20)) * 6
    return np.concatenate([rng.normal(center, 1, (120, 20)) for center in centers]).astype(
        np.float32
    )


@pytest.mark.parametrize("method", ["umap", "pacmap", "tsne"])
def test_a_map_keeps_clusters_is_deterministic_places_new_rows_and_survives_the_disk(
    clusters, method, tmp_path
):
    fit_rows = np.arange(0, 480, 2)
    config = GapConfig(projection=method, seed=3)
    fitted = FittedMap.fit(fit_rows, clusters[fit_rows], config)
    np.testing.assert_array_equal(FittedMap.fit(fit_rows, clusters[fit_rows], config).xy, fitted.xy)
    assert fitted.xy.shape == (240, 2) and np.isfinite(fitted.xy).all()
    assert fitted.trustworthiness() > 0.85
    fitted.save(tmp_path / "map.safetensors")
    placed = FittedMap.load(tmp_path / "map.safetensors").place(clusters[1::2])
    np.testing.assert_array_equal(placed, fitted.place(clusters[1::2]))
    label = np.repeat(np.arange(4), 60)
    middles = np.stack([np.median(fitted.xy[label == c], axis=0) for c in range(4)])
    nearest = np.linalg.norm(placed[:, None] - middles[None], axis=2).argmin(axis=1)
    assert np.mean(nearest == label) > 0.97
    # a fitted row is nearest to itself: placing it lands close to where it lies
    again = np.linalg.norm(fitted.place(clusters[fit_rows]) - fitted.xy, axis=1)
    assert np.median(again) < 0.1 * np.linalg.norm(fitted.xy.std(axis=0))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_handful_of_rows_still_has_a_map(rng, n):
    x = rng.normal(size=(n, 5)).astype(np.float32)
    fitted = FittedMap.fit(np.arange(n), x, GapConfig())
    assert fitted.xy.shape == (n, 2) and np.isfinite(fitted.place(x)).all()
    assert fitted.trustworthiness() is None


UMAP_FIRST = """
import numpy as np, torch
torch.set_num_threads(1)
from emt_core.proximity.map import umap
umap.fit(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), neighbors=5,
         min_dist=0.1, seed=0)
print(torch.get_num_threads())
"""


def test_a_projection_leaves_torch_its_threads():
    """In a process of its own: Numba takes all cores at its first use only."""
    done = subprocess.run([sys.executable, "-c", UMAP_FIRST], capture_output=True, text=True)
    assert done.stdout.split() == ["1"], done.stderr
