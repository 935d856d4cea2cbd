"""Web logs: lines -> ods_weblog_origin -> ods_weblog_detail -> page views per hour; refused lines to ods_quarantine."""

from collections.abc import Sequence
from datetime import date

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths
from etl.lines import (
    day_of_folder,
    explain_unreadable,
    given_files,
    landed_files,
    quarantine_rows,
    read_lines,
    require_files,
)
from etl.session import SPARK_ERRORS
from etl.settings import WeblogSettings
from etl.stage import Counts, stage_run, total_of
from etl.tables import ads, ods
from etl.warehouse import Warehouse

# nginx/Apache combined format; common format has neither referrer nor agent. Quoted parts may hold \" and the like;
# possessive groups, so that a hostile line can't make the match backtrack.
_QUOTED = r'"((?:[^"\\]++|\\.)*+)"'
LINE = rf"^(\S++) (\S++) (\S++) \[([^\]]*+)\] {_QUOTED} (\d{{3}}) (\d++|-)(?: {_QUOTED} {_QUOTED})?\s*$"
REQUEST = r"^(\S+) (\S.*?)(?: HTTP/\d(?:\.\d)?)?$"
STATIC = "js|css|map|png|jpg|jpeg|gif|ico|svg|webp|bmp|woff|woff2|ttf|eot|otf|mp3|mp4|swf"


def run(spark: SparkSession, config: Config, days: Sequence[date], sources: Sequence[str] = ()) -> dict[str, int]:
    """Load the days' logs, from the landing zone or from `sources`, and rebuild the tables that follow from them.

    Lines of other days are counted (`rows_other_date`), not loaded.
    """
    paths, settings = config.get(Paths), config.get(WeblogSettings)
    warehouse = Warehouse(spark, paths)
    with stage_run(warehouse, "weblog", days) as counts:
        files = find_files(config, days, sources)
        try:
            _load(warehouse, read_lines(spark, files), days, settings.max_line_bytes, counts)
        except SPARK_ERRORS as error:
            raise explain_unreadable(error) or error from None
        detail = warehouse.read(ods.weblog_origin, days).transform(to_detail)
        warehouse.write(ods.weblog_detail, detail, days)
        warehouse.write(ads.pv_hourly, warehouse.read(ods.weblog_detail, days).transform(page_views_per_hour), days)
    return total_of(counts)


def find_files(config: Config, days: Sequence[date], sources: Sequence[str]) -> list[str]:
    """The files to load. Raises UserError when there are none; asked before Spark starts, too, to say so at once."""
    if sources:
        return given_files(sources)
    folders = [config.get(Paths).landing("weblog", day) for day in days]
    files = [file for folder in folders for file in landed_files(folder)]
    require_files(files, folders[0], days)
    return files


def _load(
    warehouse: Warehouse, lines: DataFrame, days: Sequence[date], max_bytes: int, counts: dict[date, Counts]
) -> None:
    wanted = [ods.weblog_origin.partition_value(day) for day in days]
    is_refused = F.col("reason").isNotNull()
    seen = Observation()
    # A line that can't be read has no date of its own: its landing folder's counts, or the first day asked for.
    folder_day = F.when(day_of_folder() == "", F.lit(days[0].isoformat())).otherwise(day_of_folder())
    parsed = lines.transform(lambda rows: parse(rows, max_bytes)).withColumn("dt", folder_day)
    tally = [F.count("*").alias("lines"), F.count_if(~is_refused & ~F.col("datestr").isin(wanted)).alias("other")]
    accepted = parsed.observe(seen, *tally).where(~is_refused & F.col("datestr").isin(wanted))
    warehouse.write(ods.weblog_origin, accepted, days)
    refused_per_day = dict.fromkeys(days, 0)
    refused = parsed.where(is_refused)
    write_quarantine(warehouse, "weblog", lines, refused, days, refused_per_day)
    per_day = _valid_and_invalid(warehouse, days)
    for day, count in counts.items():
        count.rows_out, count.rows_invalid = per_day.get(ods.weblog_origin.partition_value(day), (0, 0))
        count.rows_quarantined = refused_per_day[day]
        count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined
    lines_read, other = _observed(seen, parsed, tally)
    counts[days[0]].rows_other_date = other
    loaded = sum(count.rows_in for count in counts.values())
    if lines_read != loaded + other:
        raise RuntimeError(f"weblog: {lines_read} lines read, {loaded} loaded, {other} of other days")


def _observed(seen: Observation, parsed: DataFrame, tally: list[Column]) -> tuple[int, int]:
    """Lines read and lines of other days, counted while the rows were written.

    Where no line was accepted Spark drops the observing node with the empty plan; then they are counted by themselves.
    """
    try:
        found = seen.get
    except Py4JJavaError:
        found = parsed.agg(*tally).collect()[0].asDict()
    return int(found["lines"]), int(found["other"])


def write_quarantine(
    warehouse: Warehouse,
    stage: str,
    lines: DataFrame,
    refused: DataFrame,
    days: Sequence[date],
    per_day: dict[date, int],
) -> None:
    """Replace the stage's rows of the days in ods_quarantine, keep the other stages'; fill `per_day`."""
    kept = warehouse.read(ods.quarantine, days).where(F.col("stage") != stage)
    fresh = quarantine_rows(stage, lines, refused)
    warehouse.write(ods.quarantine, fresh.unionByName(kept), days)
    written = warehouse.read(ods.quarantine, days).where(F.col("stage") == stage)
    for row in written.groupBy("dt").count().collect():
        per_day[date.fromisoformat(row["dt"])] = row["count"]


def _valid_and_invalid(warehouse: Warehouse, days: Sequence[date]) -> dict[str, tuple[int, int]]:
    rows = warehouse.read(ods.weblog_origin, days).groupBy("datestr")
    counted = rows.agg(
        F.count_if(F.col("valid") == "true").alias("out"), F.count_if(F.col("valid") != "true").alias("invalid")
    )
    return {row["datestr"]: (row["out"], row["invalid"]) for row in counted.collect()}


def parse(lines: DataFrame, max_bytes: int) -> DataFrame:
    """Add the columns of ods_weblog_origin, `datestr`, and `reason` (null for a line that could be read)."""
    too_long = F.octet_length("line") > max_bytes
    # The regular expression sees only lines it can cope with.
    text = F.when(~too_long & F.is_valid_utf8("line"), F.rtrim(F.col("line")))
    cells = [F.regexp_extract(text, LINE, group).alias(f"g{group}") for group in range(1, 10)]
    split = lines.select("*", too_long.alias("too_long"), F.rlike(text, F.lit(LINE)).alias("matches"), *cells)
    moment = F.try_to_timestamp(F.substring("g4", 1, 20), F.lit("dd/MMM/yyyy:HH:mm:ss"))
    return (
        split.withColumn("moment", moment)
        .withColumn("reason", _reason())
        .withColumn("time_local", F.date_format("moment", "yyyy-MM-dd HH:mm:ss"))
        .withColumn("datestr", F.date_format("moment", "yyyyMMdd"))
        .withColumn(
            "request", F.when(F.rlike("g5", F.lit(REQUEST)), F.regexp_extract("g5", REQUEST, 2)).otherwise(F.col("g5"))
        )
        .withColumn("valid", F.when(_is_valid(), "true").otherwise("false"))
        .withColumnsRenamed({"g1": "remote_addr", "g3": "remote_user", "g6": "status", "g7": "body_bytes_sent"})
        .withColumn("http_referer", _or_dash("g8"))
        .withColumn("http_user_agent", _or_dash("g9"))
        .drop("g2", "g4", "g5", "g8", "g9", "moment", "matches", "too_long")
    )


def _reason() -> Column:
    return (
        F.when(F.col("too_long"), "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(F.trim("line") == "", "empty_line")
        .when(~F.col("matches"), "not_combined_format")
        .when(F.col("moment").isNull(), "bad_time")
    )


def _is_valid() -> Column:
    """The request has a method and a URL, did not fail, and is no static resource."""
    has_url = F.rlike("g5", F.lit(REQUEST))
    path = F.lower(F.substring_index("request", "?", 1))
    is_static = F.rlike(path, F.lit(rf"\.({STATIC})$"))
    return has_url & (F.col("g6") < "400") & ~is_static


def _or_dash(name: str) -> Column:
    return F.when(F.col(name) == "", "-").otherwise(F.col(name))


def to_detail(origin: DataFrame) -> DataFrame:
    """ods_weblog_origin -> ods_weblog_detail: parts of the time and of the referrer."""
    referer = F.regexp_replace("http_referer", '"', "")
    time = F.col("time_local")
    return origin.select(
        "*",
        F.substring(time, 1, 10).alias("daystr"),
        F.substring(time, 12, 8).alias("timestr"),
        F.substring(time, 6, 2).alias("month"),
        F.substring(time, 9, 2).alias("day"),
        F.substring(time, 12, 2).alias("hour"),
        F.try_parse_url(referer, F.lit("HOST")).alias("ref_host"),
        F.try_parse_url(referer, F.lit("PATH")).alias("ref_path"),
        F.try_parse_url(referer, F.lit("QUERY")).alias("ref_query"),
        F.try_parse_url(referer, F.lit("QUERY"), F.lit("id")).alias("ref_query_id"),
    )


def page_views_per_hour(detail: DataFrame) -> DataFrame:
    """ods_weblog_detail -> ads_pv_hourly."""
    views = detail.where(F.col("valid") == "true")
    return views.groupBy("datestr", "month", "day", "hour").agg(F.count("*").alias("pvs"))
