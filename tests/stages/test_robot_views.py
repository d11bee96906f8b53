"""Several cameras and annotations of one robot set, from the sources to the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from robot_views import EPISODES, run_views

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.proximity.groups import groups_of
from emt_core.proximity.split import split_rows
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return run_views(tmp_path_factory.mktemp("views"))


def test_every_view_of_an_episode_is_on_one_side_of_the_split(made: dict[str, Artifact]):
    index = Index(made["sources"])
    rows = {source.name: (source.start, source.stop) for source in index.sources}
    assert [b - a for a, b in rows.values()] == [48, EPISODES, EPISODES * 6, 7 * 3]
    robot = slice(rows["qa"][0], rows["tile"][1])
    episode = index.table.column("episode")[robot]
    groups = groups_of(index)[robot]
    for number in range(EPISODES):
        assert len(np.unique(groups[episode == number])) == 1
    assert len(np.unique(groups)) == EPISODES
    part = split_rows(index, np.ones(index.rows, bool), validation=0.2, test=0.2, seed=0)[robot]
    assert all(len(np.unique(part[episode == number])) == 1 for number in range(EPISODES))
    assert len(np.unique(part)) == 3


def test_tiles_and_annotations_are_embedded(made: dict[str, Artifact]):
    assert made["embed"].rows == made["sources"].rows
    assert Features(Table(made["embed"].data / "features.lance")).ok().all()
    index = Index(made["sources"])
    qa = next(source for source in index.sources if source.name == "qa")
    assert index.is_pool()[qa.start : qa.stop].all()
