"""Funnels (W10): how many visitors came how far through a sequence of pages, within one visit."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from etl.table import any_of
from etl.weblog.clickstream import visit_day, visitor_id
from etl.weblog.local_rows import local_rows

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
    # A view counts for the day on which its visit began, which may be the day before its own.
    views_of_days = views.select(
        "session", visitor_id().alias("visitor_id"), "visit_step", "request", visit_day().alias("datestr")
    ).where(any_of("datestr", datestrs))
    step_patterns = {name: _named_steps(name, patterns) for name, patterns in funnels.items()}
    counts = [_count_single_funnel(views_of_days, steps) for steps in step_patterns.values()]
    all_steps = [(day, step) for day in datestrs for steps in step_patterns.values() for step in steps]
    return (
        local_rows(spark, all_steps, "datestr string, step string")
        .join(reduce(DataFrame.unionByName, counts), on=["datestr", "step"], how="left")
        .withColumn("numbs", F.coalesce("numbs", F.lit(0)))
    )


def matches_any(patterns: Iterable[str]) -> Column:
    """Whether a view's `request` matches any of the steps' patterns: one match of one combined pattern."""
    # Groups, because a pattern may have alternatives of its own.
    combined = "|".join(f"(?:{pattern})" for pattern in patterns)
    return F.rlike("request", F.lit(combined))


def _named_steps(funnel: str, patterns: Sequence[str]) -> dict[str, str]:
    """Patterns by the names of their steps: `step1` …, or `checkout.step1` … for a funnel that is not `main`."""
    prefix = "" if funnel == MAIN else f"{funnel}."
    return {f"{prefix}step{number}": pattern for number, pattern in enumerate(patterns, 1)}


def _count_single_funnel(views: DataFrame, steps: Mapping[str, str]) -> DataFrame:
    """Visitors of each day who reached each step of one funnel.

    Greedy: each step is matched by the first view after that of the step before. No other choice comes further.
    """
    in_visit = Window.partitionBy("datestr", "session").rowsBetween(
        Window.unboundedPreceding, Window.unboundedFollowing
    )
    # Few views are any step's: the windows sort only those.
    reached, previous = views.where(matches_any(steps.values())), F.lit(0)
    for number, pattern in enumerate(steps.values()):
        is_next = F.rlike("request", F.lit(pattern)) & (F.col("visit_step") > previous)
        # The windows are all over the same partitions: one shuffle, however many steps.
        reached = reached.withColumn(f"view{number}", F.min(F.when(is_next, F.col("visit_step"))).over(in_visit))
        previous = F.col(f"view{number}")
    # A visitor with several visits counts once a step.
    visitors = [
        F.count_distinct(F.when(F.col(f"view{number}").isNotNull(), F.col("visitor_id"))).alias(step)
        for number, step in enumerate(steps)
    ]
    wide = reached.groupBy("datestr").agg(*visitors)
    # Names with a dot need quotes.
    columns: list[Column | str] = [F.col(f"`{step}`") for step in steps]
    return wide.unpivot("datestr", columns, "step", "numbs")
