"""Users' interests in topics from their clicks: `millrace features profile --date D` writes dws_user_interest.

A topic of a user has two numbers. `rate` counts: the click rate of the topic, pulled to the rate that all users have
there by the prior of these rates. `interest` is learned: a logistic regression on MLlib over all impressions, with
topics and user × topic pairs as features; the coefficient of the pair says how much more (or less) than others this
user clicks on the topic, and its penalty keeps what is rarely shown near 0 (requirement F10).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from conf import Config
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dws
from etl.warehouse.store import Warehouse
from features.dataset.examples import load_examples
from features.settings import FeatureSettings
from features.transforms.beta_prior import BetaPrior

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What MLlib fits on: a vector has a one for the topic and a one for the pair.
WEIGHTED_ROWS = StructType(
    [
        StructField("label", DoubleType(), False),
        StructField("weight", DoubleType(), False),
        StructField("features", VectorUDT(), False),
    ]
)
SPARSE_VECTOR = 0  # `type` in the layout of MLlib's vectors
ROW_BITS = 33  # of monotonically_increasing_id; those above them are the partition's number


def run(spark: "SparkSession", config: Config, day: date) -> dict[str, Any]:
    """Write the interests of the users of the window that ends with `day`; returns the stage's counts.

    Raises:
        UserError: when there is neither an impression nor an interaction.
    """
    warehouse, settings = Warehouse(spark, config), config.get(FeatureSettings)
    topics = warehouse.newest_snapshot(dim.item, day).select("item_id", "category")
    with stage_run(warehouse, "profile", [day]) as row_counts:
        examples = load_examples(warehouse, settings, day).where(F.col("day") <= F.lit(day))
        counts = topic_counts(examples.join(F.broadcast(topics), on="item_id", how="inner")).persist()
        try:
            interests = dws.user_interest.with_partition(user_interests(counts, settings), day)
            rows = warehouse.write(dws.user_interest, interests, [day])[day]
        finally:
            counts.unpersist()
        row_counts[day] = RowCounts(rows_in=rows, rows_out=rows)
    return total_counts(row_counts)


def topic_counts(examples: DataFrame) -> DataFrame:
    """Count examples with user_id, category and label: user_id, tag, shown and clicks, a row per user and topic.

    Rows are in the same partitions and order whenever they are computed, as `user_interests` needs them.
    """
    counts = (
        examples.where(F.col("category").isNotNull())
        .groupBy("user_id", F.col("category").alias("tag"))
        .agg(F.count("*").alias("shown"), F.sum(F.col("label").cast("bigint")).alias("clicks"))
    )
    partitions = max(examples.sparkSession.sparkContext.defaultParallelism, 1)
    return counts.repartition(partitions, "user_id").sortWithinPartitions("user_id", "tag")


def user_interests(counts: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Interests from `topic_counts`, which are read several times.

    Returns:
        user_id, tag, shown, clicks, rate, interest and rank, one row per user and topic.
    """
    interests = _with_interest(counts, settings)
    prior = BetaPrior.fit(counts, "clicks", "shown")
    # Rounded: what optimisers leave in the last digits must not decide the order.
    best_first = Window.partitionBy("user_id").orderBy(F.desc(F.round("interest", 9)), F.desc("rate"), "tag")
    rate = prior.rate(F.col("clicks"), F.col("shown"))
    return interests.withColumn("rate", rate).withColumn("rank", F.row_number().over(best_first))


def _with_interest(counts: DataFrame, settings: FeatureSettings) -> DataFrame:
    """`counts` with `interest`, the coefficient of each user × tag pair.

    Equal examples are one row with a weight, so a fit costs by pairs, not by impressions. L-BFGS has the coefficients
    and its last ten steps on the driver, in the JVM: some 200 bytes a pair.
    """
    totals = [F.count("*").alias("pairs"), F.sum("clicks").alias("clicks"), F.sum("shown").alias("shown")]
    partitions = counts.groupBy(F.spark_partition_id().alias("number")).agg(*totals).orderBy("number").collect()
    num_pairs, clicks, shown = (sum(row[name] for row in partitions) for name in ("pairs", "clicks", "shown"))
    if clicks in (0, shown):  # MLlib needs both classes; without them, nobody stands out
        return counts.withColumn("interest", F.lit(0.0))
    tags = sorted(row["tag"] for row in counts.select("tag").distinct().collect())  # topics are few
    pairs = _numbered(counts, tags, {row["number"]: row["pairs"] for row in partitions})
    # Vectors by Arrow: StringIndexer and OneHotEncoder would write the name of each pair into the schema.
    rows = pairs.mapInArrow(partial(_weighted_rows, size=len(tags) + num_pairs), WEIGHTED_ROWS)
    # MLlib's objective is the mean loss + λ/2 |w|²: over the pairs, so that more users do not mean a weaker penalty.
    penalty = settings.interest_l2 / num_pairs
    regression = LogisticRegression(weightCol="weight", regParam=penalty, standardization=False, maxIter=20)
    coefficients = np.asarray(regression.fit(rows).coefficients.toArray())  # (tags + pairs,)
    shared, columns = counts.sparkSession.sparkContext.broadcast(coefficients), counts.columns

    def add_interest(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            interest = pa.array(shared.value[batch["pair"].to_numpy()])
            yield batch.select(columns).append_column("interest", interest)

    return pairs.mapInArrow(add_interest, StructType([*counts.schema, StructField("interest", DoubleType())]))


def _numbered(counts: DataFrame, tags: Sequence[str], partitions: Mapping[int, int]) -> DataFrame:
    """`counts` with the position in the vectors of a row's `topic` and, after those of all topics, of the `pair`.

    Args:
        counts: as of `topic_counts`.
        tags: all topics, in their order.
        partitions: rows of each partition that has any, by its number.
    """
    topics = counts.sparkSession.createDataFrame(
        list(zip(tags, range(len(tags)), strict=True)), "tag string, topic int"
    )
    # Consecutive numbers without a sort of all rows: those of a partition follow those of the ones before it.
    row_id = F.monotonically_increasing_id()
    sizes = [len(tags), *(partitions.get(number, 0) for number in range(max(partitions)))]
    start = F.array(*[F.lit(int(value)) for value in np.cumsum(sizes)])[F.shiftright(row_id, ROW_BITS).cast("int")]
    pair = (start + row_id.bitwiseAND(F.lit((1 << ROW_BITS) - 1))).cast("int")
    return counts.withColumn("pair", pair).join(F.broadcast(topics), on="tag", how="inner")


def _weighted_rows(batches: Iterable[pa.RecordBatch], *, size: int) -> Iterator[pa.RecordBatch]:
    """WEIGHTED_ROWS of numbered pairs: one for the clicks and one for the other impressions, where there are any."""
    for batch in batches:
        topic, pair, shown, clicks = (batch[name].to_numpy() for name in ("topic", "pair", "shown", "clicks"))
        weight = np.concatenate([clicks, shown - clicks]).astype(np.float64)
        label = np.repeat([1.0, 0.0], len(pair))
        rows = np.flatnonzero(weight > 0)
        positions = np.stack([topic, pair], axis=1)[rows % max(len(pair), 1)].astype(np.int32)  # (rows, 2)
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * 2
        features = {
            "type": pa.array(np.full(len(rows), SPARSE_VECTOR, np.int8)),
            "size": pa.array(np.full(len(rows), size, np.int32)),
            "indices": pa.ListArray.from_arrays(offsets, positions.ravel()),
            "values": pa.ListArray.from_arrays(offsets, np.ones(2 * len(rows))),
        }
        vectors = pa.StructArray.from_arrays(list(features.values()), list(features))
        yield pa.RecordBatch.from_arrays(
            [pa.array(label[rows]), pa.array(weight[rows]), vectors], WEIGHTED_ROWS.fieldNames()
        )
