import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conf import UserError
from training.inputs import petastorm_readers
from training.inputs.batch import Columns, IdLists
from training.inputs.feed import FeedSpec, read_epoch
from training.inputs.petastorm_readers import make_batch_reader
from training.inputs.plan import CompletedSteps
from training.inputs.row_groups import LocalCache

COLUMNS = Columns(("s", "t"), ("d",), ("l",))


def write(folder: Path, sizes: list[int], row_group: int) -> int:
    """Files with consecutive numbers in every column, and in a list as long as the number says; returns the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for i, size in enumerate(sizes):
        ids = np.arange(first, first + size)
        lists = pa.array([[int(n)] * (n % 3) for n in ids], pa.list_(pa.int64()))
        columns = {"s": ids, "t": ids * 2, "d": ids.astype(np.float32), "l": lists}
        table = pa.table({**columns, "label": (ids % 2).astype(np.float32)})
        pq.write_table(table, folder / f"part-{i:05d}.parquet", row_group_size=row_group)
        first += size
    return first


def ids_of(spec: FeedSpec, number: int = 0, done: CompletedSteps = (), steps: int | None = None) -> list[int]:
    """Rows that a rank is given, by their number; every column must tell the same."""
    found: list[int] = []
    for step, batch in enumerate(read_epoch(spec, number, done)):
        if step == steps:
            break
        assert batch.sparse.shape == (spec.batch_size, 2)
        kept = batch.weight > 0
        ids = batch.sparse[kept, 0]
        assert (batch.sparse[kept, 1] == 2 * ids).all()
        assert (batch.dense[kept, 0] == ids).all()
        assert (batch.label[kept] == ids % 2).all()
        lengths = batch.lists[0].offsets.diff()
        assert (lengths[kept] == ids % 3).all()
        assert (batch.lists[0].ids == torch.repeat_interleave(batch.sparse[:, 0], lengths)).all()
        found += ids.tolist()
    return found


FILES = {
    "sizes": st.lists(st.integers(1, 90), min_size=1, max_size=4),
    "row_group": st.integers(5, 40),
    "batch": st.integers(1, 50),
    "shuffle": st.sampled_from([0, 30, 1000]),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**FILES, world=st.integers(1, 9))
def test_every_row_comes_exactly_once_over_all_workers_in_even_steps(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], row_group: int, world: int, batch: int, shuffle: int
) -> None:
    """Also where there are more workers than row groups, or than rows."""
    folder = tmp_path_factory.mktemp("feed")
    rows = write(folder, sizes, row_group)
    specs = [FeedSpec(folder, COLUMNS, batch, rank, world, shuffle, 3) for rank in range(world)]
    assert len({spec.num_steps() for spec in specs}) == 1
    assert specs[0].num_steps() == math.ceil(math.ceil(rows / world) / batch)
    assert sorted(i for spec in specs for i in ids_of(spec)) == list(range(rows))
    assert all(sum(1 for _ in read_epoch(spec, 0)) == spec.num_steps() for spec in specs)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**FILES, worlds=st.lists(st.integers(1, 4), min_size=2, max_size=3), steps=st.integers(0, 6))
def test_going_on_neither_repeats_nor_skips_rows_whatever_the_number_of_workers(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    row_group: int,
    batch: int,
    shuffle: int,
    worlds: list[int],
    steps: int,
) -> None:
    folder = tmp_path_factory.mktemp("feed")
    rows = write(folder, sizes, row_group)
    done: CompletedSteps = ()
    found: list[int] = []
    for i, world in enumerate(worlds):
        specs = [FeedSpec(folder, COLUMNS, batch, rank, world, shuffle, 3) for rank in range(world)]
        made = specs[0].num_steps(1, done) if i == len(worlds) - 1 else min(steps, specs[0].num_steps(1, done))
        for spec in specs:
            found += ids_of(spec, 1, done, made)
        before = done[-1][1] if done and done[-1][0] == world else 0
        done = (*(done[:-1] if before else done), (world, before + made))
    assert sorted(found) == list(range(rows))


@pytest.mark.parametrize("shuffle", [0, 100])
def test_the_same_workers_go_on_in_the_same_order(tmp_path: Path, shuffle: int) -> None:
    write(tmp_path, [200, 130], 40)
    for rank in range(2):
        spec = FeedSpec(tmp_path, COLUMNS, 16, rank, 2, shuffle, 3)
        assert ids_of(spec, 4, (), 3) + ids_of(spec, 4, ((2, 3),)) == ids_of(spec, 4)


def test_the_order_follows_from_seed_and_epoch(tmp_path: Path) -> None:
    write(tmp_path, [200, 200], 20)
    spec = FeedSpec(tmp_path, COLUMNS, 32, shuffle_rows=100, seed=1)
    assert ids_of(spec, 0) == ids_of(spec, 0) == ids_of(replace(spec, threads=4, prefetch=0), 0)
    assert ids_of(spec, 0) != ids_of(spec, 1)
    assert ids_of(spec, 0) != ids_of(replace(spec, seed=2), 0)
    assert sorted(ids_of(spec, 0)) != ids_of(spec, 0)


def test_shuffling_mixes_rows_of_distant_files(tmp_path: Path) -> None:
    """Neighbours of a batch were far apart: with a whole buffer their distance is that of random rows, rows / 3."""
    rows = write(tmp_path, [500] * 8, 50)
    found = np.array(ids_of(FeedSpec(tmp_path, COLUMNS, 100, shuffle_rows=1000), 0))
    assert np.abs(np.diff(found)).mean() > 0.9 * rows / 3


def test_a_local_cache_is_read_instead_of_the_store(tmp_path: Path) -> None:
    rows = write(tmp_path / "store", [300], 50)
    spec = FeedSpec(tmp_path / "store", COLUMNS, 64, shuffle_rows=100, cache=LocalCache(tmp_path / "cache", 0.1))
    first = ids_of(spec)
    # What the cache holds is not read again: rows that change in the store (with the same footer) are not seen.
    changed = pq.read_table(tmp_path / "store/part-00000.parquet").set_column(0, "s", pa.array(np.full(rows, 7)))
    pq.write_table(changed, tmp_path / "store/part-00000.parquet", row_group_size=50)
    assert ids_of(spec) == first
    assert sorted(first) == list(range(rows))


def test_a_missing_id_is_refused_and_named(tmp_path: Path) -> None:
    table = pa.table({"s": pa.array([1, None]), "label": pa.array([0.0, 1.0], pa.float32())})
    pq.write_table(table, tmp_path / "part-0.parquet")
    with pytest.raises(UserError, match="column s has 1 missing ids"):
        list(read_epoch(FeedSpec(tmp_path, Columns(("s",)), 2), 0))


def test_lists_are_padded_on_the_left_with_the_newest_at_the_end() -> None:
    ids = IdLists(torch.tensor([1, 2, 3, 9]), torch.tensor([0, 3, 3, 4]))
    assert ids.to_padded(2).tolist() == [[2, 3], [0, 0], [0, 9]]
    assert ids.to_padded(4).tolist() == [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 9]]
    assert ids[np.array([2, 0])].to_padded(3).tolist() == [[0, 0, 9], [1, 2, 3]]


@pytest.mark.parametrize(("pool", "reads"), [("thread", 120), ("dummy", 40), ("process", 3)])
def test_no_reader_loses_row_groups_at_the_end_of_the_data(tmp_path: Path, pool: str, reads: int) -> None:
    """Petastorm 0.13.1 as published loses rows in 27 of 60 such reads with one thread (its end-of-data race)."""
    rows = write(tmp_path, [1000], 100)
    for _ in range(reads):
        with make_batch_reader(
            f"file://{tmp_path}", schema_fields=["s"], reader_pool_type=pool, workers_count=1, num_epochs=1
        ) as reader:
            assert sum(len(batch.s) for batch in reader) == rows


def test_the_feed_loses_no_rows_in_many_short_reads(tmp_path: Path) -> None:
    rows = write(tmp_path, [1000], 100)
    for threads in (1, 2, 4):
        spec = FeedSpec(tmp_path, COLUMNS, 128, threads=threads)
        assert all(len(ids_of(spec)) == rows for _ in range(20))


def test_the_published_petastorm_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(petastorm_readers, "version", lambda name: "0.13.1")
    with pytest.raises(UserError, match="loses rows"):
        petastorm_readers.require_patched_build()
