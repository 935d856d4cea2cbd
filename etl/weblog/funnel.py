"""Funnels (W10): how many visitors came how far through a sequence of pages, within one visit."""

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from etl.weblog.clickstream import visit_day

MAIN = "main"


def count_visitors(
    spark: SparkSession, views: DataFrame, funnels: Mapping[str, Sequence[str]], datestrs: Sequence[str]
) -> DataFrame:
    """dw_oute_nums: one row per day, funnel and step, with the visitors who reached the step.

    Args:
        spark: the session.
        views: page views with visits, also of the day after where visits go on over midnight.
        funnels: name -> regular expressions of URLs, in the order of the steps.
        datestrs: the days on which the visits began.

    Returns:
        datestr, step and numbs; steps that nobody reached have 0.
    """
    begun = views.select("session", "remote_addr", "visit_step", "request", visit_day().alias("datestr")).where(
        F.col("datestr").isin(list(datestrs))
    )
    counts = [_count_single_funnel(begun, patterns, name) for name, patterns in funnels.items()]
    all_steps = [
        (day, step_name(name, number))
        for day in datestrs
        for name, patterns in funnels.items()
        for number in range(len(patterns))
    ]
    return (
        spark.createDataFrame(all_steps, "datestr string, step string")
        .join(reduce(DataFrame.unionByName, counts), on=["datestr", "step"], how="left")
        .withColumn("numbs", F.coalesce("numbs", F.lit(0)))
    )


def matches_any_step(funnels: Mapping[str, Sequence[str]]) -> Column:
    """Whether a view's `request` matches any step of any of the funnels: one match of one combined pattern."""
    return F.rlike("request", F.lit("|".join(f"(?:{pattern})" for steps in funnels.values() for pattern in steps)))


def step_name(funnel: str, number: int) -> str:
    """`step1`, or `checkout.step1` for a funnel that is not `main`; `number` counts from 0."""
    return f"step{number + 1}" if funnel == MAIN else f"{funnel}.step{number + 1}"


def _count_single_funnel(views: DataFrame, patterns: Sequence[str], name: str) -> DataFrame:
    """Visitors of each day who reached each step of one funnel.

    Greedy: each step is matched by the first view after that of the step before. No other choice comes further.
    """
    in_visit = Window.partitionBy("datestr", "session").rowsBetween(
        Window.unboundedPreceding, Window.unboundedFollowing
    )
    reached, previous = views.where(matches_any_step({name: patterns})), F.lit(0)
    for number, pattern in enumerate(patterns):
        is_next = F.rlike("request", F.lit(pattern)) & (F.col("visit_step") > previous)
        # The windows are all over the same partitions: one shuffle, however many steps.
        reached = reached.withColumn(f"view{number}", F.min(F.when(is_next, F.col("visit_step"))).over(in_visit))
        previous = F.col(f"view{number}")
    # A visitor with several visits counts once a step.
    visitors = [
        F.count_distinct(F.when(F.col(f"view{number}").isNotNull(), F.col("remote_addr"))).alias(
            step_name(name, number)
        )
        for number in range(len(patterns))
    ]
    wide = reached.groupBy("datestr").agg(*visitors)
    steps: list[Column | str] = [F.col(f"`{column}`") for column in wide.columns if column != "datestr"]
    return wide.unpivot("datestr", steps, "step", "numbs")
