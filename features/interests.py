"""Users' interests in topics from their clicks: `millrace features profile --date D` writes dws_user_interest.

A topic of a user has two numbers. `rate` counts: the click rate of the topic, pulled to the rate that all users have
there by the prior of these rates. `interest` is learned: a logistic regression on MLlib over all impressions, with
topics and user × topic pairs as features; the coefficient of the pair says how much more (or less) than others this
user clicks on the topic, and its penalty keeps what is rarely shown near 0 (requirement F10).
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
from features.transforms.beta_prior import BetaPrior

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: "SparkSession", config: Config, day: date) -> dict[str, Any]:
    """Write the interests of the users of the window that ends with `day`; returns the stage's counts.

    Raises:
        UserError: when there is neither an impression nor an interaction.
    """
    warehouse, settings = Warehouse(spark, config), config.get(FeatureSettings)
    topics = warehouse.newest_snapshot(dim.item, day).select("item_id", "category")
    with stage_run(warehouse, "profile", [day]) as counts:
        examples = load_examples(warehouse, settings, day).where(F.col("day") <= F.lit(day))
        interests = user_interests(examples.join(F.broadcast(topics), on="item_id", how="inner"), settings)
        table = dws.user_interest.with_partition(interests, day)
        rows = warehouse.write(dws.user_interest, table, [day])[day]
        counts[day] = RowCounts(rows_in=rows, rows_out=rows)
    return total_counts(counts)


def user_interests(examples: DataFrame, settings: FeatureSettings) -> DataFrame:
    """Interests from examples with user_id, category and label.

    Returns:
        user_id, tag, shown, clicks, rate, interest and rank, one row per user and topic.
    """
    counts = (
        examples.where(F.col("category").isNotNull())
        .groupBy("user_id", F.col("category").alias("tag"))
        .agg(F.count("*").alias("shown"), F.sum(F.col("label").cast("bigint")).alias("clicks"))
        .persist()
    )
    try:
        interests = _with_interest(counts, settings)
        prior = BetaPrior.fit(counts, "clicks", "shown")
    finally:
        counts.unpersist()
    # Rounded: what optimisers leave in the last digits must not decide the order.
    best_first = Window.partitionBy("user_id").orderBy(F.desc(F.round("interest", 9)), F.desc("rate"), "tag")
    rate = prior.rate(F.col("clicks"), F.col("shown"))
    return interests.withColumn("rate", rate).withColumn("rank", F.row_number().over(best_first))


def _with_interest(counts: DataFrame, settings: FeatureSettings) -> DataFrame:
    """`counts` with `interest`, the coefficient of each user × tag pair.

    Equal examples are one row with a weight, so a fit costs by pairs, not by impressions.
    """
    pair = F.concat_ws("|", "user_id", "tag")
    clicked, not_clicked = (
        counts.select("tag", pair.alias("pair"), weight.cast("double").alias("weight"), F.lit(label).alias("label"))
        for weight, label in ((F.col("clicks"), 1.0), (F.col("shown") - F.col("clicks"), 0.0))
    )
    rows = clicked.unionByName(not_clicked).where("weight > 0")
    if rows.select("label").distinct().count() < 2:  # MLlib needs both classes; without them, nobody stands out
        return counts.withColumn("interest", F.lit(0.0))
    encoder = Pipeline(
        stages=[
            StringIndexer(inputCols=["tag", "pair"], outputCols=["tag_i", "pair_i"], stringOrderType="alphabetAsc"),
            OneHotEncoder(inputCols=["tag_i", "pair_i"], outputCols=["tag_v", "pair_v"], dropLast=False),
            VectorAssembler(inputCols=["tag_v", "pair_v"], outputCol="features"),
        ]
    ).fit(rows)
    # MLlib's objective is the mean loss + λ/2 |w|²: over the pairs, so that more users do not mean a weaker penalty.
    regression = LogisticRegression(
        weightCol="weight", regParam=settings.interest_l2 / max(counts.count(), 1), standardization=False, maxIter=20
    )
    model = regression.fit(encoder.transform(rows))
    tags, pairs = encoder.stages[0].labelsArray  # type: ignore[attr-defined]
    # (tags + pairs,), of which the pairs are the last.
    coefficients = np.asarray(model.coefficients.toArray())[len(tags) :]
    interests = counts.sparkSession.createDataFrame(
        [(name, float(value)) for name, value in zip(pairs, coefficients, strict=True)], "pair string, interest double"
    )
    return counts.withColumn("pair", pair).join(interests, on="pair", how="inner").drop("pair")
