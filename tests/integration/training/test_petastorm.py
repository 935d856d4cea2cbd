"""The whole public surface of Petastorm on today's Arrow, on data written by Spark with its own codecs.

After Petastorm's own tests of readers, codecs, selectors, NGram, loaders and the converter.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from petastorm.codecs import CompressedImageCodec, CompressedNdarrayCodec, NdarrayCodec, ScalarCodec
from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.etl.rowgroup_indexers import FieldNotNullIndexer, SingleFieldIndexer
from petastorm.etl.rowgroup_indexing import build_rowgroup_index
from petastorm.ngram import NGram
from petastorm.predicates import in_intersection, in_lambda, in_negate, in_pseudorandom_split, in_reduce, in_set
from petastorm.pytorch import BatchedDataLoader, DataLoader, InMemBatchedDataLoader
from petastorm.selectors import IntersectIndexSelector, SingleIndexSelector, UnionIndexSelector
from petastorm.spark import SparkDatasetConverter, make_spark_converter
from petastorm.transform import TransformSpec
from petastorm.unischema import Unischema, UnischemaField, dict_to_spark_row
from petastorm.weighted_sampling_reader import WeightedSamplingReader
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, IntegerType, LongType, StringType, StructField, StructType

from conf import UserError
from training.inputs.petastorm_readers import make_batch_reader, make_reader

ROWS = 60
SCHEMA = Unischema(
    "Everything",
    [
        UnischemaField("id", np.int64, (), ScalarCodec(LongType()), False),
        UnischemaField("small", np.int32, (), ScalarCodec(IntegerType()), False),
        UnischemaField("number", np.float64, (), ScalarCodec(DoubleType()), True),
        UnischemaField("name", np.str_, (), ScalarCodec(StringType()), False),
        UnischemaField("matrix", np.float32, (2, 3), NdarrayCodec(), False),
        UnischemaField("vector", np.int64, (None,), CompressedNdarrayCodec(), False),
        UnischemaField("image", np.uint8, (8, 6, 3), CompressedImageCodec("png"), False),
        UnischemaField("plain_list", np.int64, (None,), None, False),
    ],
)


def row_of(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {
        "id": i,
        "small": np.int32(i % 5),
        "number": None if i % 10 == 3 else i / 2,
        "name": f"n{i % 3}",
        "matrix": np.full((2, 3), i, np.float32),
        "vector": np.arange(i % 4),
        "image": rng.integers(0, 255, (8, 6, 3)).astype(np.uint8),
        "plain_list": list(range(i % 3)),
    }


@pytest.fixture(scope="module")
def url(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set of ROWS rows in 6 row groups, with indexes."""
    found = f"file://{tmp_path_factory.mktemp('petastorm')}/set"
    with materialize_dataset(spark, found, SCHEMA, row_group_size_mb=1):
        rows = spark.sparkContext.parallelize(range(ROWS), 6).map(lambda i: dict_to_spark_row(SCHEMA, row_of(i)))
        # Lists that Parquet holds as such have no codec that would tell Spark their type.
        coded = Unischema("Coded", [field for field in SCHEMA.fields.values() if field.codec]).as_spark_schema()
        types = {
            **{field.name: field for field in coded},
            "plain_list": StructField("plain_list", ArrayType(LongType())),
        }
        schema = StructType([types[name] for name in SCHEMA.fields])
        spark.createDataFrame(rows, schema).write.mode("overwrite").parquet(found)
    indexers = [
        SingleFieldIndexer("by_id", "id"),
        SingleFieldIndexer("by_name", "name"),
        FieldNotNullIndexer("known", "number"),
    ]
    build_rowgroup_index(found, spark.sparkContext, indexers)
    return found


def ids(reader: Any) -> list[int]:
    with reader:
        return [int(row.id) for row in reader]


def ids_of_batches(reader: Any) -> list[int]:
    with reader:
        return [int(i) for batch in reader for i in batch.id]


@pytest.mark.parametrize("pool", ["thread", "process", "dummy"])
def test_every_codec_gives_back_what_was_written(url: str, pool: str) -> None:
    with make_reader(url, reader_pool_type=pool, workers_count=2) as reader:
        rows = {int(row.id): row for row in reader}
    assert sorted(rows) == list(range(ROWS))
    for i, row in rows.items():
        expected = row_of(i)
        assert row.small == expected["small"]
        # A missing number comes as NaN.
        assert np.isnan(row.number) if expected["number"] is None else row.number == expected["number"]
        assert row.name == expected["name"]
        for name in ("matrix", "vector", "image", "plain_list"):
            np.testing.assert_array_equal(getattr(row, name), expected[name], err_msg=name)


def test_columns_are_selected_by_name_and_pattern(url: str) -> None:
    with make_reader(url, schema_fields=["id", "ma.*"]) as reader:
        assert set(next(reader)._fields) == {"id", "matrix"}
    with make_reader(url, schema_fields=[SCHEMA.name]) as reader:
        assert next(reader)._fields == ("name",)


def test_predicates_keep_rows(url: str) -> None:
    everything = set(range(ROWS))
    assert set(ids(make_reader(url, predicate=in_set({3, 7, 1000}, "id")))) == {3, 7}
    assert set(ids(make_reader(url, predicate=in_negate(in_set({3}, "id"))))) == everything - {3}
    odd = in_lambda(["id"], lambda id: id % 2 == 1)
    assert set(ids(make_reader(url, predicate=odd))) == {i for i in everything if i % 2}
    both = in_reduce([odd, in_set({"n0"}, "name")], all)
    assert set(ids(make_reader(url, predicate=both))) == {i for i in everything if i % 2 and i % 3 == 0}
    with_one = in_intersection([1], "plain_list")
    assert set(ids(make_reader(url, predicate=with_one))) == {i for i in everything if i % 3 == 2}
    parts = [set(ids(make_reader(url, predicate=in_pseudorandom_split([0.4, 0.6], n, "name")))) for n in (0, 1)]
    assert parts[0] | parts[1] == everything
    assert not parts[0] & parts[1]


def test_predicates_work_on_batches_too(spark: SparkSession, tmp_path: Path) -> None:
    """in_set compares single values as published, and fails on a batch."""
    pq.write_table(
        pa.table({"id": np.arange(40), "name": [f"n{i % 4}" for i in range(40)]}),
        tmp_path / "a.parquet",
        row_group_size=10,
    )
    source = f"file://{tmp_path}"
    assert set(ids_of_batches(make_batch_reader(source, predicate=in_set({1, 12, 39}, "id")))) == {1, 12, 39}
    assert set(ids_of_batches(make_batch_reader(source, predicate=in_set({"n1"}, "name")))) == set(range(1, 40, 4))
    large = in_lambda(["id"], lambda ids: ids > 30)
    assert set(ids_of_batches(make_batch_reader(source, predicate=large))) == set(range(31, 40))


def test_selectors_choose_row_groups_by_their_indexes(url: str) -> None:
    groups = [set(range(first, first + 10)) for first in range(0, ROWS, 10)]
    assert set(ids(make_reader(url, rowgroup_selector=SingleIndexSelector("by_id", [5, 25])))) == groups[0] | groups[2]
    one, other = SingleIndexSelector("by_id", [5]), SingleIndexSelector("by_id", [55])
    assert set(ids(make_reader(url, rowgroup_selector=UnionIndexSelector([one, other])))) == groups[0] | groups[5]
    named = SingleIndexSelector("by_name", ["n1"])
    assert set(ids(make_reader(url, rowgroup_selector=IntersectIndexSelector([one, named])))) == groups[0]


def test_shards_do_not_overlap_and_are_the_whole(url: str) -> None:
    parts = [ids(make_reader(url, cur_shard=n, shard_count=3, shuffle_row_groups=False)) for n in range(3)]
    assert sorted(i for part in parts for i in part) == list(range(ROWS))
    assert all(len(part) == ROWS // 3 for part in parts)


def test_row_groups_are_shuffled_by_seed_and_epochs_repeat(url: str) -> None:
    orders = [ids(make_reader(url, seed=seed, workers_count=1, reader_pool_type="dummy")) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert ids(make_reader(url, shuffle_row_groups=False, reader_pool_type="dummy")) == list(range(ROWS))
    assert sorted(ids(make_reader(url, num_epochs=3))) == sorted(list(range(ROWS)) * 3)
    assert sorted(ids(make_reader(url, shuffle_row_drop_partitions=2))) == list(range(ROWS))


def test_a_transform_changes_adds_and_removes_columns(url: str) -> None:
    def halved(row: dict[str, Any]) -> dict[str, Any]:
        return {"id": row["id"], "half": np.array([row["id"] / 2], np.float32)}

    spec = TransformSpec(halved, edit_fields=[("half", np.float32, (1,), False)], selected_fields=["id", "half"])
    with make_reader(url, transform_spec=spec) as reader:
        rows = {int(row.id): row for row in reader}
    assert rows[7]._fields == ("id", "half")
    assert all(row.half[0] == i / 2 for i, row in rows.items())


def test_windows_of_an_ngram_hold_rows_that_follow_each_other(url: str) -> None:
    ngram = NGram({-1: ["id", "name"], 0: ["id"], 1: ["id"]}, delta_threshold=1, timestamp_field="id")
    with make_reader(url, schema_fields=ngram, shuffle_row_groups=False, reader_pool_type="dummy") as reader:
        windows = [tuple(int(step[i].id) for i in (-1, 0, 1)) for step in reader]
    # Windows do not cross row groups: 8 in each of 6.
    assert windows == [(i, i + 1, i + 2) for first in range(0, ROWS, 10) for i in range(first, first + 8)]


@pytest.mark.parametrize("make", [make_reader, make_batch_reader])
def test_a_local_cache_holds_what_was_read(url: str, tmp_path: Path, make: Any) -> None:
    options: dict[str, Any] = {
        "cache_type": "local-disk",
        "cache_location": str(tmp_path / "cache"),
        "cache_size_limit": 2**28,
        "cache_row_size_estimate": 1000,
        "cache_extra_settings": {"cleanup": False},
        "schema_fields": ["id"],
    }
    read = ids if make is make_reader else ids_of_batches
    assert sorted(read(make(url, **options))) == list(range(ROWS))
    assert any((tmp_path / "cache").rglob("*.db"))
    assert sorted(read(make(url, **options))) == list(range(ROWS))


def test_readers_are_mixed_by_weight(url: str) -> None:
    with (
        make_reader(url, schema_fields=["id"], num_epochs=None) as one,
        make_reader(url, schema_fields=["id"], num_epochs=None) as other,
    ):
        seen = [0, 0]
        for i, reader in enumerate((one, other)):
            read = reader.__class__.__next__
            seen_by = i

            def counted(self: Any, read: Any = read, seen_by: int = seen_by) -> Any:
                seen[seen_by] += 1
                return read(self)

            reader.__class__ = type("Counted", (reader.__class__,), {"__next__": counted})
        np.random.seed(3)
        mixed = WeightedSamplingReader([one, other], [0.8, 0.2])
        for _ in range(400):
            next(mixed)
    assert 0.7 < seen[0] / 400 < 0.9


def test_loaders_make_tensors(url: str) -> None:
    with DataLoader(make_reader(url, schema_fields=["id", "matrix"]), batch_size=8) as rows:
        batches = list(rows)
    assert sorted(int(i) for batch in batches for i in batch["id"]) == list(range(ROWS))
    assert batches[0]["matrix"].shape == (8, 2, 3)
    with BatchedDataLoader(
        make_reader(url, schema_fields=["id", "matrix"]), batch_size=8, shuffling_queue_capacity=30
    ) as rows:
        found = torch.cat([batch["id"] for batch in rows]).tolist()
    assert sorted(found) == list(range(ROWS)) != found
    with InMemBatchedDataLoader(
        make_reader(url, schema_fields=["id"], num_epochs=1), batch_size=20, num_epochs=2, rows_capacity=100
    ) as rows:
        assert sum(len(batch["id"]) for batch in rows) == 2 * ROWS


def test_lists_of_different_lengths_come_in_batches(tmp_path: Path) -> None:
    """As published this is an error: lists of a batch had to have one length."""
    lists = [list(range(i % 3)) for i in range(12)]
    pq.write_table(
        pa.table({"id": np.arange(12), "ids": pa.array(lists, pa.list_(pa.int64()))}), tmp_path / "a.parquet"
    )
    with make_batch_reader(f"file://{tmp_path}") as reader:
        batch = next(reader)
    assert [part.tolist() for part in batch.ids] == lists


def test_hive_partitions_are_columns_and_prune_files(tmp_path: Path) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"dt={day}").mkdir()
        first = 0 if day.endswith("1") else 5
        pq.write_table(pa.table({"id": np.arange(first, first + 5)}), tmp_path / f"dt={day}/part-0.parquet")
    source = f"file://{tmp_path}"
    with make_batch_reader(source) as reader:
        found = {int(i): str(dt) for batch in reader for i, dt in zip(batch.id, batch.dt, strict=True)}
    assert found == {i: "2026-01-01" if i < 5 else "2026-01-02" for i in range(10)}
    assert ids_of_batches(make_batch_reader(source, filters=[("dt", "=", "2026-01-02")])) == list(range(5, 10))
    only = in_lambda(["dt"], lambda dt: dt == "2026-01-01")
    assert ids_of_batches(make_batch_reader(source, predicate=only)) == list(range(5))


def test_other_file_systems_by_fsspec(url: str) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    source = Path(url.removeprefix("file://"))
    for path in source.iterdir():
        if path.is_file() and not path.name.endswith(".crc"):
            memory.pipe(f"/bucket/set/{path.name}", path.read_bytes())
    try:
        assert sorted(ids(make_reader("memory://bucket/set"))) == list(range(ROWS))
        assert sorted(ids_of_batches(make_batch_reader("memory://bucket/set", schema_fields=["id"]))) == list(
            range(ROWS)
        )
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_converter_hands_a_data_frame_to_torch(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.ml.linalg import Vectors

    spark.conf.set(SparkDatasetConverter.PARENT_CACHE_DIR_URL_CONF, f"file://{tmp_path}")
    frame = spark.range(50).select("id", (F.col("id") / 2).alias("half"), F.array("id", "id").alias("pair"))
    converter = make_spark_converter(frame)
    try:
        assert len(converter) == 50
        with converter.make_torch_dataloader(batch_size=16, num_epochs=1) as loader:
            batches = list(loader)
        assert sorted(int(i) for batch in batches for i in batch["id"]) == list(range(50))
        assert batches[0]["pair"].shape == (16, 2)
        assert all((batch["half"] == batch["id"] / 2).all() for batch in batches)
    finally:
        converter.delete()
    vectors = spark.createDataFrame([(i, Vectors.dense([i, 1.0])) for i in range(10)], ["id", "vector"])
    converter = make_spark_converter(vectors)
    try:
        with converter.make_torch_dataloader(batch_size=10, num_epochs=1) as loader:
            assert next(iter(loader))["vector"].shape == (10, 2)
    finally:
        converter.delete()


class Trap:
    """What unpickling it would do: make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return eval, (f"open({str(self.path)!r}, 'w')",)


@contextmanager
def foreign(folder: Path, metadata: bytes) -> Iterator[str]:
    """A data set whose metadata somebody else wrote."""
    table = pa.table({"id": np.arange(3)})
    pq.write_table(table, folder / "part-0.parquet")
    counts = b'{"part-0.parquet": 1}'
    told = {b"dataset-toolkit.unischema.v1": metadata, b"dataset-toolkit.num_row_groups_per_file.v1": counts}
    pq.write_metadata(table.schema.with_metadata(told), folder / "_common_metadata")
    yield f"file://{folder}"


@pytest.mark.parametrize("make", [make_reader, make_batch_reader])
def test_foreign_metadata_is_not_unpickled_without_consent(tmp_path: Path, make: Any) -> None:
    trap = tmp_path / "sprung"
    (tmp_path / "set").mkdir()
    with foreign(tmp_path / "set", pickle.dumps(Trap(trap))) as source:
        with pytest.raises(UserError, match=r"holds more than a schema: builtins.eval.*trust_metadata=True"):
            make(source)
        assert not trap.exists()


def test_metadata_with_classes_of_their_own_is_read_with_consent(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    schema = Unischema("Own", [UnischemaField("id", np.int64, (), OwnCodec(LongType()), False)])
    with foreign(tmp_path / "set", pickle.dumps(schema)) as source:
        with pytest.raises(UserError, match="OwnCodec"):
            make_reader(source)
        assert sorted(ids(make_reader(source, trust_metadata=True))) == [0, 1, 2]


class OwnCodec(ScalarCodec):
    pass
