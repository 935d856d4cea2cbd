"""What users are interested in, from what they did: `millrace features profile --date D` writes dws_user_interest.

A topic of a user has two numbers. `rate` counts: the click rate of the topic, pulled to the rate that all users have
there by the prior of these rates. `interest` is learned: a logistic regression on MLlib over all impressions, with
topics and user × topic pairs as features; the coefficient of the pair says how much more (or less) than others this
user clicks on the topic, and its penalty keeps what is rarely shown near 0.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from conf import Config
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import dim, dws
from etl.warehouse.store import Warehouse
from features.dataset.examples import load_examples
from features.settings import FeatureSettings
from features.transforms import SmoothedRate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: "SparkSession", config: Config, day: date) -> dict[str, Any]:
    """Write the interests of the users of the window that ends with `day`."""
    warehouse, settings = Warehouse(spark, config), config.get(FeatureSettings)
    topics = warehouse.newest_snapshot(dim.item, day).select("item_id", "category")
    with stage_run(warehouse, "profile", [day]) as counts:
        examples = load_examples(warehouse, settings, day).where(F.col("day") <= F.lit(day))
        found = interests(examples.join(F.broadcast(topics), on="item_id", how="inner"), settings)
        table = dws.user_interest.with_partition(found, day)
        written = warehouse.write(dws.user_interest, table, [day])[day]
        counts[day] = RowCounts(rows_in=written, rows_out=written)
    return total_counts(counts)


def interests(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    """user_id, tag, shown, clicks, rate, interest, rank from examples with user_id, category and label."""
    counted = (
        examples.where(F.col("category").isNotNull())
        .groupBy("user_id", F.col("category").alias("tag"))
        .agg(F.count("*").alias("shown"), F.sum(F.col("label").cast("bigint")).alias("clicks"))
        .persist()
    )
    try:
        learned = _learn(counted, settings)
        prior = SmoothedRate.fit(counted, "clicks", "shown")
    finally:
        counted.unpersist()
    rate = (F.col("clicks") + prior.alpha) / (F.col("shown") + prior.alpha + prior.beta)
    best = Window.partitionBy("user_id").orderBy(F.desc(F.round("interest", 9)), F.desc("rate"), "tag")
    return learned.withColumn("rate", rate).withColumn("rank", F.row_number().over(best))


def _learn(counted: DataFrame, settings: FeatureSettings) -> DataFrame:
    """`counted` with the coefficient of each user × tag pair.

    Equal examples are one row with a weight, so a fit costs by pairs, not by impressions.
    """
    pair = F.concat_ws("|", "user_id", "tag")
    clicks, passes = F.col("clicks"), F.col("shown") - F.col("clicks")
    clicked, passed = (
        counted.select("tag", pair.alias("pair"), number.cast("double").alias("weight"), F.lit(label).alias("label"))
        for number, label in ((clicks, 1.0), (passes, 0.0))
    )
    rows = clicked.unionByName(passed).where("weight > 0")
    if rows.select("label").distinct().count() < 2:  # nothing to tell clicks from: nobody is more interested
        return counted.withColumn("interest", F.lit(0.0))
    prepare = Pipeline(
        stages=[
            StringIndexer(inputCols=["tag", "pair"], outputCols=["tag_i", "pair_i"], stringOrderType="alphabetAsc"),
            OneHotEncoder(inputCols=["tag_i", "pair_i"], outputCols=["tag_v", "pair_v"], dropLast=False),
            VectorAssembler(inputCols=["tag_v", "pair_v"], outputCol="features"),
        ]
    ).fit(rows)
    regression = LogisticRegression(
        weightCol="weight", regParam=settings.interest_l2 / max(counted.count(), 1), standardization=False, maxIter=20
    )
    model = regression.fit(prepare.transform(rows))
    tags, pairs = prepare.stages[0].labelsArray  # type: ignore[attr-defined]
    weights = np.asarray(model.coefficients.toArray())[len(tags) :]
    known = counted.sparkSession.createDataFrame(
        [(name, float(weight)) for name, weight in zip(pairs, weights, strict=True)], "pair string, interest double"
    )
    return counted.withColumn("pair", pair).join(known, on="pair", how="inner").drop("pair")
