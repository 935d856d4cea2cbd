"""Lists that `millrace serve` has answered with -> dwd_served: what was ranked, by which model, with which features."""

import logging
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import Config, Paths
from etl.events.days import DAY, isoformat
from etl.settings import SiteSettings
from etl.sources.lines import landed_files, landing_day, read_lines
from etl.tables import dwd
from etl.warehouse import quarantine
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

STAGE = "served"
# A list a line, as recsys/serve/served_log.py writes it; its arrays have an element an item.
_LIST = (
    "request_id string, kind string, model string, rung string, experiment struct<name: string, arm: string>, "
    "user_id string, served_at timestamp, ts timestamp, scene string, device string, items array<string>, "
    "score array<double>, propensity array<double>, features map<string, array<double>>, _corrupt_record string"
)


def load(warehouse: Warehouse, config: Config, days: Sequence[date]) -> dict[date, int]:
    """Replace the days of dwd_served that lists have landed of; a day without any keeps what it has.

    Args:
        warehouse: where dwd_served is.
        config: `site.timezone`, and the landing zone.
        days: by the site's clocks.

    Returns:
        Items of the days that were written. Lines that no server has written whole are in ods_quarantine.
    """
    paths = config.get(Paths)
    # A folder has the lists of an hour in UTC, which may be of the day before or after by the site's clocks.
    folders = sorted({day + n * DAY for day in days for n in (-1, 0, 1)})
    files = [file for folder in folders for file in landed_files(paths.landing(STAGE, folder))]
    if not files:
        return {}
    lines = read_lines(warehouse.spark, files)
    lists = _parse(lines, config.get(SiteSettings).zone).persist()
    try:
        kinds = {(row["dt"], row["is_torn"]) for row in lists.select("dt", "is_torn").distinct().collect()}
        written = [day for day in days if (day.isoformat(), False) in kinds]
        num_items = warehouse.write(dwd.served, _to_items(lists, written), written) if written else {}
        if written or any(is_torn for _, is_torn in kinds):
            torn = lists.where("is_torn").select("line", "file", "block", "id", F.lit("bad_line").alias("reason"), "dt")
            quarantine.replace(warehouse, STAGE, lines, torn.where(F.col("dt").isin(isoformat(days))), days)
    finally:
        lists.unpersist()
    log.info("%d items of served lists on %s", sum(num_items.values()), ", ".join(isoformat(written)) or "no day")
    return num_items


def _parse(lines: DataFrame, zone: str) -> DataFrame:
    """Add the list of each line, its day by the site's clocks, and whether it is the rest of a line.

    A line that only says who was in which arm of an experiment, as generated days have them, has no day.
    """
    served = F.from_json("line", _LIST, {"timeZone": "UTC"})
    is_torn = F.col("served._corrupt_record").isNotNull()  # a server that is killed leaves a part of a line
    day = F.date_format(F.from_utc_timestamp("served.served_at", zone), "yyyy-MM-dd")
    dt = F.when(is_torn, landing_day()).otherwise(day)
    return lines.withColumn("served", served).withColumns({"is_torn": is_torn, "dt": dt})


def _to_items(lists: DataFrame, days: Sequence[date]) -> DataFrame:
    """One row per item of the lists, each list once."""
    whole = lists.where(~F.col("is_torn") & F.col("dt").isin(isoformat(days))).select("served.*", "dt")
    items = whole.dropDuplicates(["request_id"]).select("*", F.posexplode("items").alias("index", "item_id"))
    position, values = F.col("index") + 1, F.transform_values("features", lambda _, column: column[F.col("index")])
    return items.select(
        "request_id",
        F.concat_ws("-", "request_id", position).alias("impression_id"),
        "kind",
        "user_id",
        "item_id",
        position.alias("position"),
        F.col("score")[F.col("index")].alias("score"),
        F.col("propensity")[F.col("index")].alias("propensity"),
        "model",
        "rung",
        F.col("experiment.name").alias("experiment"),
        F.col("experiment.arm").alias("arm"),
        "scene",
        "device",
        "served_at",
        F.col("ts").alias("at"),
        F.map_filter(values, lambda _, value: value.isNotNull()).alias("features"),
        "dt",
    )
