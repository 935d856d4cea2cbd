"""Page views -> visits (W5): a visit is a run of a visitor's views with no gap over 30 minutes.

Visits go on over midnight and belong to the day on which they began. So that each day can be computed by itself, the
visits still open at its end are in dws_open_visit, and the next day's views continue them.

A visitor may be half of the traffic (a proxy, an attack): one sort per visitor would then be one task's work. Views are
ordered within an hour of a visitor, and only the summaries of those hours are brought together per visitor. Where sites
are kept apart (weblog.site_from), a visitor of two sites is two in all of this.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.table import any_of
from etl.tables import dws, ods

GAP_S = 30 * 60
OPEN_VISIT_HOUR = -1  # stands for the visit open at the end of the day before; sorts before every real hour


def add_visits(views: DataFrame, open_visits: DataFrame) -> DataFrame:
    """Add `session`, `visit_step` and `stay_time` to page views.

    Two shuffles: by visitor and hour for the order of views, by visitor for the order of its hours.

    Args:
        views: page views of some days.
        open_visits: dws_open_visit of days before one of them: views within 30 minutes continue them.

    Returns:
        The views, with the visit that each belongs to, its number within the visit (from 1), and the seconds to the
        visitor's next view if that is in the same visit and on the same day.
    """
    numbered = views.withColumn("visitor", visitor()).transform(_number_within_hour)
    hours = numbered.transform(_summarize_hours, open_visits)
    step = F.when(F.col("start_n").isNotNull(), F.col("n") - F.col("start_n") + 1).otherwise(
        F.col("num_before") + F.col("n") - F.col("head_number") + 1
    )
    next_view = F.coalesce("next_view", "next_hour_view")
    is_same_day = next_view["datestr"] == F.col("datestr")
    has_next = (next_view["at"] - F.col("at") <= GAP_S) & is_same_day
    # Inner: every hour of a visitor has its one summary.
    joined = numbered.join(hours, on=["visitor", "hour_of"], how="inner").withColumns(
        {
            # The last visit that began in the view's hour up to it, or the one that its hour began with.
            "session": F.concat_ws("@", "visitor", F.coalesce("start_name", "head_name")),
            "visit_step": step,
            # Null for the last view, and up to midnight: so a day does not wait for the next one.
            "stay_time": F.when(has_next, next_view["at"] - F.col("at")),
        }
    )
    return joined.select(*views.columns, "session", "visit_step", "stay_time")


def _number_within_hour(views: DataFrame) -> DataFrame:
    """Number a visitor's views within each hour (`n`), with the newest visit begun there (`start_name`, `start_n`)."""
    # Views of one second are in the order of the log.
    in_hour = Window.partitionBy("visitor", "hour_of").orderBy("at", "file", "position")
    so_far = in_hour.rowsBetween(Window.unboundedPreceding, 0)
    # Null for the first view of an hour: whether that begins a visit is decided among the hours.
    is_start = F.col("at") - F.lag("at").over(in_hour) > GAP_S
    return (
        views.withColumn("at", _unix_seconds("requested_at", "time_local"))
        .withColumns({"hour_of": F.floor(F.col("at") / 3600), "name": _start_name(), "view": F.struct("at", "datestr")})
        .withColumns(
            {"n": F.row_number().over(in_hour), "is_start": is_start, "next_view": F.lead("view").over(in_hour)}
        )
        .withColumns(
            {
                "start_name": F.last(F.when(F.col("is_start"), F.col("name")), ignorenulls=True).over(so_far),
                "start_n": F.last(F.when(F.col("is_start"), F.col("n")), ignorenulls=True).over(so_far),
            }
        )
    )


def _summarize_hours(numbered: DataFrame, open_visits: DataFrame) -> DataFrame:
    """One row per visitor and hour, with the visit that the hour's first view belongs to.

    `head_name` is the name of that visit's first view and `head_number` its number among all views of the visitor;
    `num_before` counts the views before the hour.
    """
    hours = numbered.groupBy("visitor", "hour_of").agg(
        F.min("at").alias("first_at"),
        F.max("at").alias("last_at"),
        F.count("*").alias("views"),
        F.min_by("view", "n").alias("first_view"),
        F.min_by("name", "n").alias("first_name"),
        F.max_by("start_name", "start_n").alias("last_start_name"),
        F.max("start_n").alias("last_start_n"),
    )
    by_time = Window.partitionBy("visitor").orderBy("first_at", "hour_of")
    earlier = by_time.rowsBetween(Window.unboundedPreceding, -1)
    is_continued = F.coalesce(F.col("first_at") - F.lag("last_at").over(by_time) <= GAP_S, F.lit(False))
    num_before = F.coalesce(F.sum("views").over(earlier), F.lit(0))
    with_neighbours = hours.unionByName(_as_hours(open_visits)).withColumns(
        {"is_continued": is_continued, "num_before": num_before, "next_hour_view": F.lead("first_view").over(by_time)}
    )
    # Numbers of one type, for all branches of a `when`.
    first_number, last_number = F.col("num_before") + 1, F.col("num_before") + F.col("last_start_n")
    begins_here = F.struct(F.col("first_name").alias("head_name"), first_number.cast("bigint").alias("head_number"))
    last_start = F.struct(F.col("last_start_name").alias("head_name"), last_number.cast("bigint").alias("head_number"))
    # The visit that is open at the end of the hour, if it began there; null when it came in from the hour before.
    open_at_end = F.when(F.col("last_start_name").isNotNull(), last_start).when(~F.col("is_continued"), begins_here)
    newest_before = F.last("open_at_end", ignorenulls=True).over(earlier)
    head = F.when(F.col("is_continued"), newest_before).otherwise(begins_here)
    return (
        with_neighbours.withColumn("open_at_end", open_at_end)
        .withColumn("head", head)
        .where(F.col("hour_of") != OPEN_VISIT_HOUR)
        .select("visitor", "hour_of", "num_before", "next_hour_view", "head.head_name", "head.head_number")
    )


def _as_hours(open_visits: DataFrame) -> DataFrame:
    """Visits open since a day before, in the form of an hour's summary, as if all their views were in its last one."""
    last_view = _unix_seconds("out_at", "outTime")
    return open_visits.select(
        visitor().alias("visitor"),
        F.lit(OPEN_VISIT_HOUR).cast("bigint").alias("hour_of"),
        last_view.alias("first_at"),
        last_view.alias("last_at"),
        F.col("pageVisits").alias("views"),
        # An hour before it is of another day, whose stays do not wait for this view.
        F.struct(last_view.alias("at"), F.lit("").alias("datestr")).alias("first_view"),
        _visit_name().alias("first_name"),
        _visit_name().alias("last_start_name"),
        F.lit(1).alias("last_start_n"),
    )


def aggregate_visits(views: DataFrame, open_visits: DataFrame) -> DataFrame:
    """Page views with visits -> ods_click_stream_visit.

    Args:
        views: page views of the days, as `add_visits` returns them.
        open_visits: dws_open_visit of the days before them; a visit that continues one of them has its start, entry
            page and referrer from there.

    Returns:
        One row per visit, under the day on which it began.
    """
    # The first view of a visit from a day before, in place of all its views of such days.
    starts = open_visits.select(
        "session",
        visitor_id().alias("visitor_id"),
        "site",
        "remote_addr",
        F.col("inTime").alias("time_local"),
        F.col("inPage").alias("request"),
        F.col("referal").alias("http_referer"),
        F.lit(1).alias("visit_step"),
        F.lit(False).alias("is_of_days"),
    )
    of_days = views.withColumns({"visitor_id": visitor_id(), "is_of_days": F.lit(True)}).select(starts.columns)
    return (
        of_days.unionByName(starts)
        .groupBy("session")
        .agg(
            # All views of a visit have the same; a user's or a cookie's addresses may change.
            F.first("visitor_id").alias("visitor_id"),
            F.first("site").alias("site"),
            F.min_by("remote_addr", "visit_step").alias("remote_addr"),
            # By the step: where clocks are set back, a later view may have an earlier time.
            F.min_by("time_local", "visit_step").alias("inTime"),
            F.max_by("time_local", "visit_step").alias("outTime"),
            F.min_by("request", "visit_step").alias("inPage"),
            F.max_by("request", "visit_step").alias("outPage"),
            F.min_by("http_referer", "visit_step").alias("referal"),
            # Steps count on from the day before, so the highest step is the number of views.
            F.max("visit_step").cast("bigint").alias("pageVisits"),
            F.bool_or("is_of_days").alias("goes_on"),
        )
        .where("goes_on")
        .withColumn("datestr", visit_day())
        .select(*ods.click_stream_visit.column_names, "datestr")
    )


def extend_visits(visits: DataFrame, later_views: DataFrame) -> DataFrame:
    """Bring visits as of the end of some day up to date by page views of later days: exit page, end and length.

    A visit that has views of a still later day is up to date already.
    """
    later = later_views.groupBy("session").agg(
        F.max_by("time_local", "visit_step").alias("later_outTime"),
        F.max_by("request", "visit_step").alias("later_outPage"),
        F.max("visit_step").cast("bigint").alias("later_pageVisits"),
    )
    # Null without later views, and then not true.
    goes_further = F.substring("later_outTime", 1, 10) > F.substring("outTime", 1, 10)
    extended = {
        name: F.when(goes_further, F.col(f"later_{name}")).otherwise(F.col(name))
        for name in ("outTime", "outPage", "pageVisits")
    }
    return visits.join(later, on="session", how="left").withColumns(extended).select(*visits.columns)


def find_open_visits(views: DataFrame, visits: DataFrame, days: Sequence[date]) -> DataFrame:
    """dws_open_visit of each of `days`: visits whose last view is within 30 minutes of its end, as of that end.

    Args:
        views: page views of the days, with their visits.
        visits: the visits that the views belong to, for their starts.
        days: the days to find open visits of.
    """
    is_of_days = F.expr(any_of("datestr", [dws.open_visit.partition_value(day) for day in days]))
    is_late = F.substring("time_local", 12, 5) >= "23:30"
    late = (
        views.where(is_of_days & is_late)
        .groupBy("datestr", "session")
        .agg(
            F.max_by("time_local", "visit_step").alias("outTime"),
            F.max("requested_at").alias("out_at"),
            F.max_by("request", "visit_step").alias("outPage"),
            F.max("visit_step").cast("bigint").alias("pageVisits"),
        )
        .withColumn("visitor", F.regexp_extract("session", "^(.*)@", 1))
    )
    # Of a visitor's visits only the last can go on.
    newest = late.groupBy("datestr", "visitor").agg(
        F.max_by("session", F.coalesce("out_at", F.col("outTime").cast("timestamp"))).alias("session")
    )
    starts = visits.select("session", "remote_addr", "visitor_id", "site", "inTime", "inPage", "referal")
    return late.join(newest, on=["datestr", "visitor", "session"], how="left_semi").join(
        starts, on="session", how="inner"
    )


def visitor_id() -> Column:
    """A row's `visitor_id`; rows from before that column was there have the address alone."""
    return F.coalesce("visitor_id", "remote_addr")


def visitor() -> Column:
    """Whose visits are told apart: the visitor, and the site where it has one; a session's name begins with it."""
    return F.concat_ws("@", visitor_id(), "site")


def visit_day() -> Column:
    """The day, as `datestr`, on which a row's session began: it is part of the session's name."""
    return F.substring(_visit_name(), 1, 8)


def _visit_name() -> Column:
    return F.substring_index("session", "@", -1)


def _start_name() -> Column:
    """A view's local time, as 20130918134740, with its offset unless that is 0: else an hour that comes twice has two
    visits of one name."""
    offset = F.unix_timestamp(F.col("time_local").cast("timestamp")) - F.col("at")
    minutes = F.abs(offset) / 60
    digits = F.lpad((F.floor(minutes / 60) * 100 + minutes % 60).cast("int").cast("string"), 4, "0")
    zone = F.when(offset > 0, F.concat(F.lit("+"), digits)).when(offset < 0, F.concat(F.lit("-"), digits))
    return F.concat(F.translate("time_local", "- :", ""), F.coalesce(zone, F.lit("")))


def _unix_seconds(at: str, local: str) -> Column:
    """Seconds since 1970 of a time in UTC; rows from before that column was there have only the local time."""
    moment = F.coalesce(at, F.col(local).cast("timestamp"))
    return F.unix_timestamp(moment)
