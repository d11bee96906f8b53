"""What people add to a pool: flags and notes, named views, comparisons, budgets, nearness, files of
a region."""

from __future__ import annotations

import io
import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import yaml
from synthetic import make_workspace, pool, robot, run_stage

from emt_core.errors import EmtError
from emt_core.explore import reading
from emt_core.explore.curation.flags import FlagBook
from emt_core.explore.curation.views import SavedView, ViewBook
from emt_core.explore.tables import nearness
from emt_core.explore.tables.budget import TokenBudget, TokenCosts, costs_of_backbone, gpu_hours
from emt_core.explore.tables.compare import Comparison, examples
from emt_core.explore.tables.region_table import rows_as_file
from emt_core.explore.tables.select import Cut
from emt_core.recipe.category import CategoryConfig
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.recipe.selection import SelectConfig
from emt_core.run.recipes import tie_children
from emt_core.selection import Preview, decide
from emt_core.selection.scored_pool import candidates_of
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.table import Coded

SOURCES = [
    pool("=web", 300, text_only=0.1, no_vector=0.05),
    pool("near", 200, mean=2.0),
    robot("arm", 160, mean=3.0),
]
HOSTILE = "<b>x</b> **y** $z$ \u2028 \ud800"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = make_workspace(tmp_path_factory.mktemp("curation") / "ws", SOURCES)
    run_stage(found, "category", CategoryConfig())
    run_stage(found, "estimator", EstimatorConfig(steps=40))
    run_stage(found, "score", ScoreConfig(sweep_sample=100))
    return found


@pytest.fixture
def book(made, tmp_path):
    return FlagBook(Workspace.open(tmp_path / "ws", create=True), made.artifacts["sources"])


@pytest.fixture(scope="module")
def preview(made):
    return Preview(
        candidates_of(*(made.artifacts[s] for s in ("sources", "embed", "category", "score")))
    )


def test_flags_and_notes_are_what_was_last_said(book):
    assert book.version == (0, 0)
    assert book.read().counts() == {"keep": 0, "doubtful": 0, "wrong": 0, "exclude": 0}
    book.set([3, 9], "keep")
    book.set([9], "exclude")
    book.note(3, f"  {HOSTILE}\nsecond line ")
    book.note(4, "gone")
    before = book.version
    book.note(4, "")
    assert book.version != before
    flags = book.read()
    assert flags.rows(["keep"]).tolist() == [3]
    assert flags.rows(["keep", "exclude"]).tolist() == [3, 9]
    assert flags.notes == {3: HOSTILE.replace("\ud800", "?") + "\nsecond line"}
    book.set([3, 9], "")
    assert book.read().rows(["keep", "exclude"]).tolist() == []


def test_a_bulk_flag_is_packed_and_undone_as_one(book):
    rows = np.arange(0, 640, 3)
    book.set([6], "keep")
    bulk = book.set(rows, "exclude", what="region")
    book.set([9], "wrong")
    assert book.read().counts()["exclude"] == len(rows) - 1
    book.undo(bulk)
    flags = book.read()
    assert flags.rows(["keep"]).tolist() == [6]  # what held before holds again
    assert flags.rows(["wrong"]).tolist() == [9]  # what was said later stays
    assert flags.counts()["exclude"] == 0
    assert [(e.what, e.rows, e.undone) for e in flags.entries][1] == ("region", len(rows), True)


def test_a_torn_last_line_is_skipped_and_cut_off(book):
    book.set([1], "keep")
    with book.path.open("ab") as file:
        file.write(b'{"n": 2, "flag": "exclu')  # killed in the middle
    assert book.read().rows(["keep"]).tolist() == [1]
    assert book.set([2], "wrong") == 2
    assert [json.loads(line)["n"] for line in book.path.read_text().splitlines()] == [1, 2]


def test_a_line_that_cannot_be_read_is_named(book):
    book.set([1], "keep")
    book.path.write_text("nonsense\n" + book.path.read_text())
    with pytest.raises(EmtError, match="line 1 of the flags' journal"):
        book.read()


@pytest.mark.parametrize(
    ("rows", "flag", "message"),
    [
        ([1], "great", "no flag 'great'"),
        ([], "keep", "no sample"),
        ([660], "keep", "outside"),
        ([-1], "keep", "outs"),
    ],
)
def test_bad_flags_are_refused(book, rows, flag, message):
    with pytest.raises(EmtError, match=message):
        book.set(rows, flag)
    assert not book.path.exists()


def test_a_view_only_workspace_refuses_every_write(book, made):
    shut = replace(book.workspace, read_only=True)
    sealed, views = FlagBook(shut, book.sources), ViewBook(shut, book.sources)
    for write in (
        lambda: sealed.set([1], "keep"),
        lambda: sealed.note(1, "x"),
        lambda: sealed.undo(1),
        lambda: views.save(SavedView(name="v", page="map")),
        lambda: views.remove("v"),
    ):
        with pytest.raises(EmtError, match="viewing only"):
            write()
    assert not list(book.workspace.path.glob("curation/*"))


def _flag_many(workspace, sources, first):
    book = FlagBook(workspace, sources)
    for row in range(first, first + 20):
        book.set([row], "keep")


def test_two_processes_lose_nothing(book):
    context = multiprocessing.get_context("spawn")
    people = [
        context.Process(target=_flag_many, args=(book.workspace, book.sources, at))
        for at in (0, 100)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert book.read().counts()["keep"] == 40
    assert [entry.n for entry in book.read().entries] == list(range(1, 41))


def test_a_killed_writer_loses_nothing_it_was_told(book):
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from emt_core.workspace.artifact import Artifact, Workspace\nfrom emt_core.explore.curation.flags import FlagBook\n"
        "book = FlagBook(Workspace.open(sys.argv[1]), Artifact(Path(sys.argv[2])))\n"
        "for row in range(5):\n    book.set([row], 'wrong')\n    print(row, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    place = [str(book.workspace.path), str(book.sources.path)]
    done = subprocess.run([sys.executable, "-c", script, *place], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert book.read().counts()["wrong"] == len(done.stdout.split()) == 5
    assert book.set([7], "keep") == 6  # the lock died with it


def test_views_are_named_restored_and_removed(book):
    views = ViewBook(book.workspace, book.sources)
    assert views.read() == []
    name = "<b>near</b> $x$ **y**"
    views.save(
        SavedView(
            name=f"  {name} ",
            page="map",
            query={"region": "0,0;1,1"},
            gap="k",
            rows=7,
            note=HOSTILE[:9],
        )
    )
    views.save(SavedView(name="rest", page="browse", query={"set": "left"}))
    newest, first = views.read()
    assert (newest.name, first.name, first.rows) == ("rest", name, 7)
    assert first.region is not None and first.region.is_box
    assert newest.region is None
    with pytest.raises(EmtError, match="already a view 'rest'"):
        views.save(SavedView(name="rest", page="map"))
    with pytest.raises(EmtError, match="needs a name"):
        views.save(SavedView(name="  ", page="map"))
    views.remove("rest")
    assert [view.name for view in views.read()] == [name]


def test_what_came_in_and_what_went_out():
    before = Coded(np.array([0, 0, 1, 1, 0, 1], np.int16), ["", "below_cut"])
    after = Coded(np.array([0, 1, 0, 1, 2, 1], np.int16), ["", "source_cap", "excluded"])
    change = Comparison(before=before, after=after)
    assert (change.came_in.tolist(), change.went_out.tolist(), change.stayed) == ([2], [1, 4], 1)
    assert change.overlap == pytest.approx(1 / 4)
    came, went = change.by_group(np.array([0, 0, 1, 1, 1, 1]), 2)
    assert (came.tolist(), went.tolist()) == ([0, 1], [1, 1])
    assert change.why_out() == {"source_cap": 1, "excluded": 1}
    logit = np.array([1, np.nan, 5, 2, 4, 3], np.float32)
    assert examples(np.arange(6), logit, 3).tolist() == [2, 5, 1]
    assert examples(np.arange(6), logit, 9).tolist() == [2, 4, 5, 3, 0, 1]
    assert len(examples(np.arange(100), None, 4)) == 4


@pytest.mark.parametrize("caps", [{}, {"=web": 30}, {"near": 10, "=web": 20}])
def test_the_token_budget_is_that_of_the_very_rows(made, preview, caps):
    characters, images = (made.index.table.column(name) for name in ("text_chars", "n_images"))
    costs = TokenCosts(characters_per_token=3.0, image_tokens=49, sequence_length=60)
    budget = TokenBudget(preview, characters, images, costs)
    config = Cut(k=120, caps_source=caps, caps_category={"text": 25}).config()
    rows = decide(preview.candidates, config).rows
    exact = np.minimum(images[rows] * 49 + characters[rows] / 3.0, 60).sum()
    assert budget.tokens(preview.composition(config)) == pytest.approx(exact)
    assert gpu_hours(3.6e9, 2, 1e6) == pytest.approx(2.0)


def test_costs_come_from_the_backbones_own_files(made, tmp_path, pytestconfig):
    found = costs_of_backbone(pytestconfig.rootpath / "assets" / "tiny_vlm", made.index)
    assert found.image_tokens == 49
    assert found.sampled == 400
    assert found.characters_per_token is not None and 1 < found.characters_per_token < 10
    nothing = costs_of_backbone(tmp_path, made.index)
    assert (nothing.characters_per_token, nothing.image_tokens) == (None, None)


def test_distances_to_a_sample_are_exact(made):
    vector = made.features.take([310])[0]
    found = nearness.distances(made.features, vector)
    every = made.features.take(range(made.index.rows)).astype(np.float32)
    ok = made.features.ok()
    assert np.isnan(found[~ok]).all()
    assert np.allclose(
        found[ok], np.linalg.norm(every[ok] - vector.astype(np.float32), axis=1), rtol=1e-5
    )
    order = nearness.ranked(found, largest=False)
    assert order[0] == 310
    assert len(order) == ok.sum()


def test_rows_as_near_as_each_other_stand_by_row():
    values = np.array([2, np.nan, 0.0, 2, -0.0, np.inf, 1], np.float32)
    assert nearness.ranked(values, largest=False).tolist() == [2, 4, 6, 0, 3]
    assert nearness.ranked(values, largest=True).tolist() == [0, 3, 6, 2, 4]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_region_as_a_file(made, format):
    source = made.index.codes()
    rows = np.array([400, 2, 1, 650])
    content = rows_as_file(
        made.index,
        rows,
        numbers={"score": reading.logits(made.artifacts["score"])},
        names={
            "source": (source, [s.name for s in made.index.sources]),
            "flag": (np.full(len(source), -1), ["keep"]),
        },
        format=format,
    )
    table = (pq.read_table if format == "parquet" else pc.read_csv)(io.BytesIO(content))
    assert table["row"].to_pylist() == [1, 2, 400, 650]
    assert table["id"].to_pylist()[2:] == ["near:100", "arm:150"]
    shown = "'=web" if format == "csv" else "=web"  # a spreadsheet would run it
    assert table["source"].to_pylist() == [shown, shown, "near", "arm"]
    assert not any(table["flag"].to_pylist())


def test_children_of_the_only_selection_keep_it():
    raw = yaml.safe_load(
        "{sources: [], select.top: {k: 3}, midtrain: {steps: 4}, report: {parents: {select: x}}}"
    )
    tie_children(raw, "select")
    assert raw["midtrain"] == {"steps": 4, "parents": {"select": "top"}}
    assert raw["report"] == {"parents": {"select": "x"}}
    plain = {"select": {}, "midtrain": None}
    tie_children(plain, "select")
    assert plain == {"select": {}, "midtrain": None}


def test_an_exclusion_of_flagged_rows_reaches_the_stage(made, book):
    book.set([305, 306, 307, 400], "exclude")
    ids = made.index.packed_ids(book.read().rows(["exclude"]))
    assert ids == ("near:5-7,100",)
    run_stage(made, "select", SelectConfig(k=100, exclude=ids))
    reasons = reading.reasons(made.artifacts["select"])
    assert [reasons.names[reasons.codes[row]] for row in (305, 306, 307, 400)] == ["excluded"] * 4
