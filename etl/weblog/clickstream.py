"""Page views -> visits (W5): a visit is a run of a visitor's views with no gap over 30 minutes.

Visits go on over midnight and belong to the day on which they began. So that each day can be made by itself, the visits
still open at its end are kept in dws_open_visit, and the next day's views carry them on.

A visitor may be half of the traffic (a proxy, an attack): views are put in order within an hour of a visitor, and only
the sums of those hours are brought together per visitor.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.tables import dws, ods

GAP_S = 30 * 60
CARRIED = ""  # the hour that stands for the visit open at the end of the day before


def with_visits(views: DataFrame, open_visits: DataFrame) -> DataFrame:
    """Add `session`, `visit_step` and `stay_time` to page views; `open_visits` are carried on by views in time."""
    ordered = views.withColumns({"at": _seconds("time_local"), "hour_of": F.substring("time_local", 1, 13)})
    in_hour = Window.partitionBy("remote_addr", "hour_of").orderBy("at", "file", "position")
    so_far = in_hour.rowsBetween(Window.unboundedPreceding, 0)
    begins = F.col("at") - F.lag("at").over(in_hour) > GAP_S
    numbered = ordered.withColumns(
        {"n": F.row_number().over(in_hour), "begins": begins, "next_at": F.lead("at").over(in_hour)}
    ).withColumns(
        {
            "begun_at": F.last(F.when(F.col("begins"), F.col("at")), ignorenulls=True).over(so_far),
            "begun_n": F.last(F.when(F.col("begins"), F.col("n")), ignorenulls=True).over(so_far),
        }
    )
    hours = _joined_hours(numbered, open_visits)
    begun_at = F.coalesce("begun_at", "head_at")
    step = F.when(F.col("begun_n").isNotNull(), F.col("n") - F.col("begun_n") + 1).otherwise(
        F.col("before") + F.col("n") - F.col("head_no") + 1
    )
    next_at = F.coalesce("next_at", "next_hour_at")
    goes_on = (next_at - F.col("at") <= GAP_S) & (F.to_date(F.timestamp_seconds(next_at)) == F.to_date("time_local"))
    joined = numbered.join(hours, on=["remote_addr", "hour_of"], how="inner").withColumns(
        {
            "session": F.concat_ws("@", "remote_addr", F.date_format(F.timestamp_seconds(begun_at), "yyyyMMddHHmmss")),
            "visit_step": step,
            "stay_time": F.when(goes_on, next_at - F.col("at")),
        }
    )
    return joined.select(*views.columns, "session", "visit_step", "stay_time")


def _joined_hours(numbered: DataFrame, open_visits: DataFrame) -> DataFrame:
    """One row per visitor and hour: when the visit that its first view belongs to began, and as which of all views."""
    sums = numbered.groupBy("remote_addr", "hour_of").agg(
        F.min("at").alias("first_at"),
        F.max("at").alias("last_at"),
        F.count("*").alias("views"),
        F.max("begun_at").alias("last_begun_at"),
        F.max("begun_n").alias("last_begun_n"),
    )
    carried = open_visits.select(
        "remote_addr",
        F.lit(CARRIED).alias("hour_of"),
        _seconds("outTime").alias("first_at"),
        _seconds("outTime").alias("last_at"),
        F.col("pageVisits").alias("views"),
        _seconds("inTime").alias("last_begun_at"),
        F.lit(1).alias("last_begun_n"),
    )
    by_time = Window.partitionBy("remote_addr").orderBy("first_at", "hour_of")
    earlier = by_time.rowsBetween(Window.unboundedPreceding, -1)
    goes_on = F.coalesce(F.col("first_at") - F.lag("last_at").over(by_time) <= GAP_S, F.lit(False))
    before = F.coalesce(F.sum("views").over(earlier), F.lit(0))
    placed = sums.unionByName(carried).withColumns(
        {"goes_on": goes_on, "before": before, "next_hour_at": F.lead("first_at").over(by_time)}
    )
    # Where the visit that is open at the end of the hour began; null when it came in from the hour before.
    own = F.when(
        F.col("last_begun_at").isNotNull(), _beginning(F.col("last_begun_at"), F.col("before") + F.col("last_begun_n"))
    ).when(~F.col("goes_on"), _beginning(F.col("first_at"), F.col("before") + 1))
    open_before = F.last("own", ignorenulls=True).over(earlier)
    head = F.when(F.col("goes_on"), open_before).otherwise(_beginning(F.col("first_at"), F.col("before") + 1))
    return (
        placed.withColumn("own", own)
        .withColumn("head", head)
        .where(F.col("hour_of") != CARRIED)
        .select("remote_addr", "hour_of", "before", "next_hour_at", "head.head_at", "head.head_no")
    )


def _beginning(at: Column, number: Column) -> Column:
    return F.struct(at.cast("bigint").alias("head_at"), number.cast("bigint").alias("head_no"))


def visits(views: DataFrame, open_visits: DataFrame) -> DataFrame:
    """Page views with visits -> ods_click_stream_visit; a visit carried on from `open_visits` keeps its beginning."""
    seen = views.groupBy("session", "remote_addr").agg(
        F.min("time_local").alias("inTime"),
        F.max("time_local").alias("outTime"),
        F.min_by("request", "visit_step").alias("inPage"),
        F.max_by("request", "visit_step").alias("outPage"),
        F.min_by("http_referer", "visit_step").alias("referal"),
        F.max("visit_step").cast("bigint").alias("pageVisits"),
    )
    beginnings = ("inTime", "inPage", "referal")
    known = open_visits.select("session", *[F.col(name).alias(f"known_{name}") for name in beginnings])
    kept = {name: F.coalesce(f"known_{name}", name) for name in beginnings}
    return (
        seen.join(known, on="session", how="left")
        .withColumns(kept)
        .withColumn("datestr", day_begun())
        .select(*ods.click_stream_visit.column_names, "datestr")
    )


def carried_on(made: DataFrame, later: DataFrame) -> DataFrame:
    """Visits as of the end of some day, brought up to date by page views of later days."""
    more = later.groupBy("session").agg(
        F.max("time_local").alias("later_outTime"),
        F.max_by("request", "visit_step").alias("later_outPage"),
        F.max("visit_step").cast("bigint").alias("later_pageVisits"),
    )
    changed = {name: F.coalesce(f"later_{name}", name) for name in ("outTime", "outPage", "pageVisits")}
    return made.join(more, on="session", how="left").withColumns(changed).select(*made.columns)


def still_open(views: DataFrame, made: DataFrame, days: Sequence[date]) -> DataFrame:
    """dws_open_visit of each of `days`: visits whose last view is within 30 minutes of its end, as of that end."""
    is_late = F.substring("time_local", 12, 5) >= "23:30"
    last = (
        views.where(F.col("datestr").isin([dws.open_visit.partition_value(day) for day in days]) & is_late)
        .groupBy("datestr", "session")
        .agg(
            F.max("time_local").alias("outTime"),
            F.max_by("request", "visit_step").alias("outPage"),
            F.max("visit_step").cast("bigint").alias("pageVisits"),
        )
        # Of a visitor's visits only the last can go on.
        .withColumn("remote_addr", address())
    )
    newest = last.groupBy("datestr", "remote_addr").agg(F.max_by("session", "outTime").alias("session"))
    begun = made.select("session", "inTime", "inPage", "referal")
    return last.join(newest, on=["datestr", "remote_addr", "session"], how="left_semi").join(
        begun, on="session", how="inner"
    )


def address() -> Column:
    return F.substring_index("session", "@", 1)


def day_begun() -> Column:
    """The day, as `datestr`, on which a session began."""
    return F.substring(F.substring_index("session", "@", -1), 1, 8)


def _seconds(name: str) -> Column:
    return F.unix_timestamp(F.col(name).cast("timestamp"))
