import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conf import UserError
from training import petastorm_arrow
from training.feed import FeedSpec, epoch
from training.petastorm_arrow import make_batch_reader


def write(folder: Path, sizes: list[int], row_group: int) -> int:
    """Files with consecutive numbers in every column; returns the number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for i, size in enumerate(sizes):
        ids = np.arange(first, first + size)
        table = pa.table({"s": ids, "t": ids * 2, "d": ids.astype(np.float32), "label": (ids % 2).astype(np.float32)})
        pq.write_table(table, folder / f"part-{i:05d}.parquet", row_group_size=row_group)
        first += size
    return first


def ids_of(spec: FeedSpec, number: int = 0) -> list[int]:
    found = []
    for batch in epoch(spec, number):
        assert batch.sparse.shape == (spec.batch_size, 2)
        kept = batch.weight > 0
        assert (batch.sparse[kept, 1] == 2 * batch.sparse[kept, 0]).all()
        assert (batch.dense[kept, 0] == batch.sparse[kept, 0]).all()
        assert (batch.label[kept] == batch.sparse[kept, 0] % 2).all()
        found += batch.sparse[kept, 0].tolist()
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    row_group=st.integers(5, 40),
    world=st.integers(1, 3),
    batch=st.integers(1, 50),
    shuffle=st.sampled_from([0, 30, 1000]),
)
def test_every_row_comes_exactly_once_over_all_workers_in_even_steps(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], row_group: int, world: int, batch: int, shuffle: int
) -> None:
    folder = tmp_path_factory.mktemp("feed")
    rows = write(folder, sizes, row_group)
    if sum(math.ceil(size / row_group) for size in sizes) < world:
        return
    specs = [FeedSpec(folder, ("s", "t"), ("d",), batch, rank, world, shuffle, 3) for rank in range(world)]
    assert len({spec.num_steps() for spec in specs}) == 1
    assert sorted(i for spec in specs for i in ids_of(spec)) == list(range(rows))
    assert sum(1 for _ in epoch(specs[0], 0)) == specs[0].num_steps()


def test_the_order_follows_from_seed_and_epoch(tmp_path: Path) -> None:
    write(tmp_path, [200, 200], 20)
    spec = FeedSpec(tmp_path, ("s", "t"), ("d",), 32, shuffle_rows=100, seed=1)
    assert ids_of(spec, 0) == ids_of(spec, 0)
    assert ids_of(spec, 0) != ids_of(spec, 1)
    assert sorted(ids_of(spec, 0)) != ids_of(spec, 0)


def test_fewer_row_groups_than_workers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [10], 100)
    with pytest.raises(UserError, match="fewer row groups than 2 workers"):
        FeedSpec(tmp_path, ("s", "t"), ("d",), 4, 0, 2).num_steps()


@pytest.mark.parametrize(("pool", "reads"), [("thread", 120), ("dummy", 40), ("process", 3)])
def test_no_reader_loses_row_groups_at_the_end_of_the_data(tmp_path: Path, pool: str, reads: int) -> None:
    """Petastorm 0.13.1 as published loses rows in 27 of 60 such reads with one thread (its end-of-data race)."""
    rows = write(tmp_path, [1000], 100)
    for _ in range(reads):
        with make_batch_reader(f"file://{tmp_path}", reader_pool_type=pool, workers_count=1, num_epochs=1) as reader:
            assert sum(len(batch.s) for batch in reader) == rows


def test_the_published_petastorm_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(petastorm_arrow, "version", lambda name: "0.13.1")
    with pytest.raises(UserError, match="loses rows"):
        petastorm_arrow.require_mended()
