"""The page Ablation over a complete workspace."""

from __future__ import annotations

import pytest
from page_runner import words

from emt_core.explore.tables.ablation import ablation, markdown
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import finished


def test_the_ablation_has_a_row_for_every_selection_and_the_papers_beside_it(open_page, complete):
    app = open_page("ablation", complete)
    assert not app.exception and len(app.dataframe) == 2
    ours, papers = app.dataframe[0].value, app.dataframe[1].value
    assert ours["selection"].tolist() == ["top"] and ours["selected"].tolist() == [20]
    assert (
        ours["measure"].tolist() == ["learned estimator"] and ours["relevant content"].isna().all()
    )
    assert ours["MB added"].item() >= 0 and "peak memory, MB" not in ours
    assert papers.shape == (5, 4)
    said = words(app).replace("\\", "")
    assert "Not measured here" in said and "near_ids" in said


def test_the_table_says_what_the_artifacts_say(complete):
    space = Workspace.open(complete)
    done = finished(space, "small")
    row = ablation(space, done)[0]
    took = [done[name].manifest for name in ("estimator", "score", "select.top")]
    assert row.seconds == pytest.approx(sum(manifest["seconds"] for manifest in took))
    assert row.memory_added_mb == max(manifest["memory_added_mb"] for manifest in took)
    assert row.diversity.value == done["select.top"].metrics["diversity"]["after"]
    text = markdown([row])
    assert "| learned estimator | top | top | 20 | – |" in text and "chance" not in text
