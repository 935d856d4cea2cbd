"""Candidates in blocks of whole users, as rankers read them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.metrics.ranking import DiversityCounts, diversity_metrics
from recsys.blend.scoring import BlockFile
from recsys.dataset import DENSE_COLUMNS, SPARSE_COLUMNS, user_blocks


def write_candidates(folder: Path, lengths: list[list[int]]) -> list[str]:
    """A file for each of `lengths`, which has the number of rows of each user; returns the users of the rows."""
    names = []
    for number, file in enumerate(lengths):
        users = [f"{number}-{user:02}" for user, length in enumerate(file) for _ in range(length)]
        columns = {name: np.zeros(len(users), np.int64) for name in SPARSE_COLUMNS}
        columns |= {name: np.zeros(len(users), np.float32) for name in [*DENSE_COLUMNS, "label"]}
        pq.write_table(
            pa.table({**columns, "user_id": pa.array(users, pa.string())}), folder / f"part-{number}.parquet"
        )
        names += users
    return names


@pytest.mark.parametrize("max_rows", [1, 3, 10, 11, 1000])
def test_blocks_have_whole_users_in_the_order_of_the_files(tmp_path: Path, max_rows: int) -> None:
    lengths = [[3, 1, 7, 2], [], [25, 1, 1], [4]]
    users = write_candidates(tmp_path, lengths)
    blocks = [rows.keys["user_id"].tolist() for rows in user_blocks(tmp_path, ["user_id"], max_rows)]
    assert [user for block in blocks for user in block] == users
    of_blocks = [set(block) for block in blocks]
    assert sum(map(len, of_blocks)) == len(set().union(*of_blocks)) == 8
    assert all(len(block) <= max_rows or len(set(block)) == 1 for block in blocks[:-1])
    assert len(blocks) == {1: 8, 3: 7, 10: 4, 11: 4, 1000: 1}[max_rows]


def test_a_set_without_rows_is_one_block_without_rows(tmp_path: Path) -> None:
    write_candidates(tmp_path, [[], []])
    (rows,) = user_blocks(tmp_path, ["user_id"], 10)
    assert rows.sparse.shape == (0, len(SPARSE_COLUMNS))
    with BlockFile(tmp_path / "blocks") as file:
        file.append(pd.DataFrame({"user_id": rows.keys["user_id"]}))
    assert [len(block) for block in file.blocks()] == [0]


def test_blocks_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    parts = [pd.DataFrame({"user_id": [f"u{n}"] * n, "score": np.arange(n) / 3}) for n in (2, 5, 1)]
    with BlockFile(tmp_path / "blocks") as file:
        for part in parts:
            file.append(part)
    for read, part in zip(file.blocks(), parts, strict=True):
        pd.testing.assert_frame_equal(read, part)


@pytest.mark.parametrize("num_parts", [3, 7])
def test_diversity_is_the_same_of_lists_that_are_added_in_parts(num_parts: int) -> None:
    rng = np.random.default_rng(0)
    items = [f"i{n}" for n in range(30)]
    popularity = dict(zip(items[:-3], rng.integers(0, 9, 27).astype(float), strict=True))  # three could not be listed
    category = {item: str(number % 4) if number % 5 else None for number, item in enumerate(items)}
    users = [rng.permutation(items)[: rng.integers(1, 9)] for _ in range(50)]
    parts = [
        pd.DataFrame({"user_id": f"u{n}", "item_id": listed, "rank": np.arange(len(listed)) + 1})
        for n, listed in enumerate(users)
    ]
    counts = DiversityCounts(6, popularity, category)
    for rows in np.array_split(np.arange(len(parts)), num_parts):
        counts.add(pd.concat([parts[row] for row in reversed(rows)]))
    assert counts.metrics() == diversity_metrics(pd.concat(parts), 6, popularity, category)
