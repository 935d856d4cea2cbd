"""Events of the site: JSON lines -> dwd_impression, dwd_interaction, ads_ctr_daily; bad lines to ods_quarantine.

The server's log of its lists is loaded with them, into dwd_served.

An event belongs to the day of its own timestamp, whichever folder it has landed in. Loading a folder makes every day
again that it has events of, so that the tables are the same in whatever order, and however often, days are loaded.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from etl.events import facts, served
from etl.events.days import DAY, LoadPlan, isoformat
from etl.events.parse import parse
from etl.events.settings import EventSettings
from etl.ingest.loaded import forget
from etl.session import SPARK_ERRORS
from etl.settings import SiteSettings
from etl.sources.lines import (
    corrupt_file_error,
    landed_days,
    landed_files,
    read_lines,
    require_files,
    warn_of_days_left_out,
)
from etl.stage import RowCounts, stage_run, total_counts
from etl.tables import ads, dwd, ops
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

# Day of the folder, day of the event (None for a refused line that has none), reason -> lines.
LineCounts = dict[tuple[date, date | None, str | None], int]


def run(spark: SparkSession, config: Config, days: Sequence[date]) -> dict[str, int]:
    """Load the days' events from the landing zone, and other days again that these have events of.

    A day without files there keeps what it has, and so does one of several whose late events were in a folder that is
    gone; warnings name them.

    Args:
        spark: the session.
        config: `events.*`, `site.timezone`, and the landing zone.
        days: the days to load, in order.

    Returns:
        Row counts, summed over all days that were written.

    Raises:
        UserError: if nothing has landed for any of the days, or a file is corrupt.
    """
    warehouse, paths = Warehouse(spark, config), config.get(Paths)
    landed = landed_days(paths, "events", days) or days  # none: recorded as a failed run
    plan = _reproducible_plan(warehouse, config, landed, is_range=len(days) > 1)
    folder = paths.landing("events", plan.days[0])
    with stage_run(warehouse, "events", plan.days) as counts:
        require_files(landed_files(folder), folder, plan.days)
        try:
            _load(warehouse, config, plan, counts)
            served.load(warehouse, config, sorted(plan.written))
        except SPARK_ERRORS as error:
            raise corrupt_file_error(error) or error from None
    return total_counts(counts)


def _reproducible_plan(warehouse: Warehouse, config: Config, days: Sequence[date], *, is_range: bool) -> LoadPlan:
    """The plan to load those of a range's days that lose no late events with folders that are gone.

    A day that was named alone is loaded all the same, and a warning says so. Raises UserError when all of a range would
    lose some.
    """
    plan = LoadPlan(warehouse, config, days, config.get(EventSettings).late_days)
    missing = {day: ", ".join(isoformat(folders)) for day in days if (folders := plan.missing_folders(day))}
    if not is_range:
        for day, names in missing.items():
            log.warning("%s loses its events that were in the folder of %s: no files there", day, names)
    if not missing or not is_range:
        return plan
    reproducible = [day for day in days if day not in missing]
    if not reproducible:
        raise UserError(
            f"{days[0]}..{days[-1]}: each day has events of folders that are gone and would lose them; load one alone "
            "(--date) to replace it nevertheless"
        )
    warn_of_days_left_out(days, reproducible, "late events in folders without files now")
    return LoadPlan(warehouse, config, reproducible, config.get(EventSettings).late_days)


def _load(warehouse: Warehouse, config: Config, plan: LoadPlan, counts: dict[date, RowCounts]) -> None:
    while True:
        lines = read_lines(warehouse.spark, plan.files())
        # Read by the counts, impressions, actions and quarantine.
        parsed = _parse(lines, config, plan).persist()
        try:
            line_counts = _count_lines(parsed)
            event_days = _other_days(line_counts, plan.days)
            # Late events are rare: only for those of other days than the day before is anything read twice.
            if plan.extend(event_days, _clicked_days(parsed, plan.days, event_days)):
                continue
            if plan.is_news(event_days):
                _write_event_days(warehouse, event_days, plan.days)
            _write(warehouse, lines, parsed, plan, line_counts, counts)
            return
        finally:
            parsed.unpersist()


def _parse(lines: DataFrame, config: Config, plan: LoadPlan) -> DataFrame:
    zone = config.get(SiteSettings).zone
    return parse(lines, config.get(EventSettings), zone, plan.landed_days())


def _count_lines(parsed: DataFrame) -> LineCounts:
    rows = parsed.groupBy("folder_dt", "dt", "reason").count().collect()
    counts: LineCounts = defaultdict(int)
    for row in rows:
        # A refused line may have any date, and only `day_not_landed` says that the date is plausible.
        has_day = row["reason"] in (None, "day_not_landed")
        day = date.fromisoformat(row["dt"]) if has_day else None
        counts[date.fromisoformat(row["folder_dt"]), day, row["reason"]] += row["count"]
    return counts


def _other_days(line_counts: LineCounts, days: Sequence[date]) -> dict[date, dict[date, int]]:
    """For each of the folders, the other days that it has events of, with how many."""
    others: dict[date, dict[date, int]] = {day: {} for day in days}
    for (folder, day, _), count in line_counts.items():
        if folder in others and day is not None and day != folder:
            others[folder][day] = others[folder].get(day, 0) + count
    return others


def _clicked_days(parsed: DataFrame, days: Sequence[date], event_days: dict[date, dict[date, int]]) -> list[date]:
    """The days before the late events' own, of whose impressions these are clicks."""
    if not any(event_days.values()):
        return []
    valid = parsed.where("reason is null")
    is_late_click = F.col("folder_dt").isin(isoformat(days)) & (F.col("dt") < F.col("folder_dt"))
    clicks = valid.where(is_late_click & (F.col("type") == "click")).select("impression_id", F.col("dt").alias("at"))
    shown = valid.where("type = 'impression'").select(F.col("event_id").alias("impression_id"), "dt")
    # Clicks late over midnight are few.
    clicked = shown.join(F.broadcast(clicks.distinct()), on="impression_id", how="inner")
    return [date.fromisoformat(row["dt"]) for row in clicked.where("dt < at").select("dt").distinct().collect()]


def _write_event_days(warehouse: Warehouse, event_days: dict[date, dict[date, int]], days: Sequence[date]) -> None:
    # Before the tables: after a kill in between, whichever of the days is loaded next has the events.
    rows = [
        (day.isoformat(), count, folder.isoformat())
        for folder, others in event_days.items()
        for day, count in others.items()
    ]
    frame = warehouse.spark.createDataFrame(rows, "event_day string, events bigint, dt string")
    warehouse.write(ops.event_day, frame, days, rebalance=False)


def _write(
    warehouse: Warehouse,
    lines: DataFrame,
    parsed: DataFrame,
    plan: LoadPlan,
    line_counts: LineCounts,
    counts: dict[date, RowCounts],
) -> None:
    """Write the tables of the plan's days, and account for every line."""
    days = sorted(plan.written)
    is_written = F.col("dt").isin(isoformat(days))
    valid = parsed.where(F.col("reason").isNull() & F.col("dt").isin(isoformat(plan.near())))
    # Of the days beside them only what duplicates and clicks are matched by.
    events = valid.withColumn("features", F.when(is_written, F.col("features"))).transform(facts.drop_duplicates)
    # Few beside the impressions, and read by all three tables.
    actions = events.transform(facts.to_actions, valid.where("type = 'impression'")).persist()
    try:
        impressions = events.where(is_written).transform(facts.to_impressions, actions)
        num_impressions = warehouse.write(dwd.impression, impressions, days)
        interactions = actions.where(is_written).transform(facts.to_interactions)
        # Together: a kill in between would leave rows that an ingest takes for loaded, and that are gone.
        with warehouse.whole_or_nothing():
            num_interactions = warehouse.write(dwd.interaction, interactions, days)
            replaced = forget(warehouse, days)
        if replaced:
            log.warning(
                "%s had rows of files (millrace ingest), which the events of the day have replaced: load them again",
                ", ".join(map(str, replaced)),
            )
        # From the table, which is small, and not through the join again.
        warehouse.write(ads.ctr_daily, warehouse.read(dwd.impression, days).transform(facts.daily_click_rate), days)
        quarantined = quarantine.replace(warehouse, "events", lines, _refused(parsed, actions, days), days)
    finally:
        actions.unpersist()
    for day in days:
        rejected = sum(n for (folder, _, reason), n in line_counts.items() if folder == day and reason)
        num_valid = sum(n for (_, event_day, reason), n in line_counts.items() if event_day == day and not reason)
        count = counts.setdefault(day, RowCounts())
        count.rows_in = num_valid + rejected
        count.rows_out = num_impressions[day] + num_interactions[day]
        count.rows_quarantined = quarantined[day]
        count.rows_invalid = count.rows_in - count.rows_out - count.rows_quarantined  # duplicates
        if count.rows_invalid < 0 or quarantined[day] < rejected:
            raise RuntimeError(f"events {day}: {num_valid} valid lines and {rejected} refused ones became {count}")
    folders = {*plan.days, plan.days[-1] + DAY}
    counts[plan.days[-1]].rows_other_date = sum(
        n for (folder, day, reason), n in line_counts.items() if folder in folders and not reason and day not in days
    )


def _refused(parsed: DataFrame, actions: DataFrame, days: Sequence[date]) -> DataFrame:
    """Lines for the quarantine: bad ones under their folder's day, actions on others' impressions under their own."""
    dts, columns = isoformat(days), ("line", "file", "block", "id", "reason", "dt")
    rejected = parsed.where("reason is not null").withColumn("dt", F.col("folder_dt"))
    of_others = actions.where(facts.is_of_other_impression()).withColumn("reason", F.lit("other_impression"))
    return rejected.select(*columns).unionByName(of_others.select(*columns)).where(F.col("dt").isin(dts))
