"""What came of an impression beside its click, as a like or a purchase: the further labels of the training set."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.catalog import OWN_COLUMNS
from features.compute.spark_own_columns import outcome_labels
from features.dataset.names import OUTCOME_LABELS, OUTCOMES


def with_outcomes(rows: DataFrame, interactions: DataFrame | None) -> DataFrame:
    """Add OUTCOME_LABELS: 1, 0, or null where it is unknown, as a purchase of what was not clicked.

    Args:
        rows: with example_id, label and, where the site declares outcomes, context.
        interactions: rows of dwd_interaction, or None when there are none; declared outcomes do not read them.
    """
    is_clicked = F.col("label") == 1
    if OWN_COLUMNS.outcomes:
        return rows.withColumns(outcome_labels(OWN_COLUMNS.labels, F.col("context"), is_clicked))
    if interactions is None:
        return rows.withColumns({name: F.lit(None).cast("float") for name in OUTCOME_LABELS})
    followed = (
        # Acts outside of lists, as in a search, follow no impression.
        interactions.where("impression_id is not null")
        .groupBy(F.col("impression_id").alias("example_id"))
        .agg(
            *[
                F.max(F.when(F.col("action") == action, 1.0)).alias(name)
                for action, name in zip(OUTCOMES, OUTCOME_LABELS, strict=True)
            ]
        )
    )
    # A click without a like is a 0; what was not clicked can't be liked, and stays null.
    joined = rows.join(followed, on="example_id", how="left")
    return joined.withColumns(
        {name: F.when(is_clicked, F.coalesce(name, F.lit(0.0))).cast("float") for name in OUTCOME_LABELS}
    )
