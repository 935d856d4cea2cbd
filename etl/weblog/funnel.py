"""Funnels (W10): how many visitors came how far through a row of pages, within one visit."""

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from etl.weblog.clickstream import day_begun

MAIN = "main"


def reached(
    spark: SparkSession, views: DataFrame, funnels: Mapping[str, Sequence[str]], datestrs: Sequence[str]
) -> DataFrame:
    """dw_oute_nums: one row per day and step, of visits begun on the day; a step counts only after the one before."""
    begun = views.select("session", "remote_addr", "visit_step", "request", day_begun().alias("datestr"))
    counted = [
        _of_one(begun.where(F.col("datestr").isin(list(datestrs))), steps, name) for name, steps in funnels.items()
    ]
    found = counted[0]
    for more in counted[1:]:
        found = found.unionByName(more)
    names = [
        (day, step_name(name, n)) for day in datestrs for name, steps in funnels.items() for n in range(len(steps))
    ]
    all_steps = spark.createDataFrame(names, "datestr string, step string")
    return all_steps.join(found, on=["datestr", "step"], how="left").withColumn("numbs", F.coalesce("numbs", F.lit(0)))


def is_step(funnels: Mapping[str, Sequence[str]]) -> Column:
    """Whether the view is one of any funnel's pages."""
    return F.rlike("request", F.lit("|".join(f"(?:{step})" for steps in funnels.values() for step in steps)))


def step_name(funnel: str, number: int) -> str:
    """`step1`, or `checkout.step1` for a funnel that is not `main`; `number` counts from 0."""
    return f"step{number + 1}" if funnel == MAIN else f"{funnel}.step{number + 1}"


def _of_one(views: DataFrame, patterns: Sequence[str], name: str) -> DataFrame:
    """The first view that matches a step after the first one of the step before: no other choice comes further."""
    matches = [F.rlike("request", F.lit(pattern)) for pattern in patterns]
    in_visit = Window.partitionBy("datestr", "session").rowsBetween(
        Window.unboundedPreceding, Window.unboundedFollowing
    )
    rows, before = views.where(is_step({name: patterns})), F.lit(0)
    for number, match in enumerate(matches):
        place = F.min(F.when(match & (F.col("visit_step") > before), F.col("visit_step"))).over(in_visit)
        rows, before = rows.withColumn(f"place{number}", place), F.col(f"place{number}")
    counts = [
        F.count_distinct(F.when(F.col(f"place{n}").isNotNull(), F.col("remote_addr"))).alias(step_name(name, n))
        for n in range(len(patterns))
    ]
    wide = rows.groupBy("datestr").agg(*counts)
    steps: list[Column | str] = [F.col(f"`{name}`") for name in wide.columns if name != "datestr"]
    return wide.unpivot("datestr", steps, "step", "numbs")
