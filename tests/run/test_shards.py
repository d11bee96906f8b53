"""Rows in row order out of shards that are done, whoever cut them."""

from __future__ import annotations

import random

from emt_core.run.shards import Shard, cut, done_shards, left, mark_done, pieces, read_shard


def told(done: list[Shard], start: int, stop: int) -> list[tuple[int, int, int]]:
    """(start, stop, how many shards fill it) of each piece."""
    return [(piece.start, piece.stop, len(made)) for piece, made in pieces(done, start, stop)]


def test_pieces_are_runs_of_shards_and_the_gaps_between():
    done = [Shard(4, 8), Shard(8, 12), Shard(16, 20)]
    assert told(done, 0, 24) == [(0, 4, 0), (4, 12, 2), (12, 16, 0), (16, 20, 1), (20, 24, 0)]
    assert told([], 3, 5) == [(3, 5, 0)]
    assert told(done, 8, 12) == [(8, 12, 1)]
    assert told(done, 24, 24) == []


def test_shards_of_another_cut_never_double_a_row():
    """An interrupted run had another `runtime.batch` or `commit_rows`."""
    done = sorted([Shard(0, 32), Shard(32, 64), Shard(48, 96)], key=lambda shard: shard.start)
    assert told(done, 0, 100) == [(0, 64, 2), (64, 100, 0)]


def test_a_shard_of_another_cut_with_the_same_first_row_is_not_that_shard(tmp_path):
    wide, narrow = Shard(0, 64), Shard(0, 16)
    mark_done(tmp_path, narrow, {"made": "narrow"})
    assert left(tmp_path, [wide, narrow]) == [wide]
    mark_done(tmp_path, wide, {"made": "wide"})
    assert not left(tmp_path, [wide, narrow])
    assert done_shards(tmp_path) == [narrow, wide] and done_shards(tmp_path, start=1) == []
    assert read_shard(tmp_path, wide) == {"made": "wide"}
    assert told(done_shards(tmp_path), 0, 64) == [(0, 16, 1), (16, 64, 0)]


def test_pieces_cover_every_row_once_for_any_mix_of_cuts():
    rng = random.Random(0)
    for _ in range(300):
        stop = rng.randrange(1, 200)
        every = [*cut(0, stop, rng.randrange(1, 40)), *cut(0, stop, rng.randrange(1, 40))]
        drawn = {shard.start: shard for shard in rng.sample(every, rng.randrange(len(every) + 1))}
        start = rng.randrange(stop + 1)
        seen = list(pieces([drawn[at] for at in sorted(drawn)], start, stop))
        rows = [row for piece, _ in seen for row in range(piece.start, piece.stop)]
        assert rows == list(range(start, stop))
        for piece, made in seen:
            assert not made or [row for s in made for row in range(s.start, s.stop)] == list(
                range(piece.start, piece.stop)
            )
