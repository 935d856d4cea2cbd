"""Files of another system into dwd_interaction, dwd_impression, dim_user and dim_item: `millrace ingest`.

Each row is an interaction, or an impression, of the day of its time. Files add up: what is loaded stays, and the same
rows again add nothing, unless the command replaces its days.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.ingest import loaded
from etl.ingest.clicks import ClickRule, with_clicks
from etl.ingest.columns import FACTS, FileRole
from etl.ingest.dimensions import KEYS, read_attributes, write_dimension
from etl.ingest.files import FileGroup
from etl.ingest.impressions import read_impressions
from etl.ingest.interactions import read_interactions
from etl.ingest.loaded import FileDay
from etl.ingest.refusals import ParsedFiles, check_share, write_refused
from etl.ingest.settings import IngestSettings
from etl.session import SPARK_ERRORS, run_concurrently
from etl.settings import SiteSettings
from etl.sources.lines import corrupt_file_error
from etl.sources.rows import PLACE, read_rows
from etl.stage import RowCounts, stage_run, total_counts
from etl.table import Table
from etl.tables import dwd
from etl.warehouse.store import Warehouse

log = logging.getLogger(__name__)

TABLES: Mapping[FileRole, tuple[Table, str]] = {
    "ratings": (dwd.interaction, "event_id"),
    "impressions": (dwd.impression, "impression_id"),
}
"""Table of the facts, and its key."""


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """What is to be done with the rows."""

    action: str | None = None
    """Of rows of files without a column of actions."""
    replaces: bool = False
    """Whether the days of the rows lose what they have."""
    clicks: ClickRule | None = None
    """Which acts are the clicks of impressions that do not say so themselves."""


def run(
    spark: SparkSession,
    config: Config,
    groups: Mapping[FileRole, Sequence[FileGroup]],
    options: IngestOptions = IngestOptions(),
) -> dict[str, object]:
    """Load files that `examine` looked at; bad rows go to ods_quarantine.

    All files are read, and all rows checked, before the first table changes.

    Args:
        spark: the session.
        config: where the warehouse is, `site.timezone` and `ingest.*`.
        groups: the files of ratings or impressions, and of items and users if there are any.
        options: actions, and whether days are replaced.

    Returns:
        First and last day, and the row counts of all files.

    Raises:
        UserError: no row is valid, too many are refused, or a file is corrupt.
    """
    warehouse = Warehouse(spark, config)
    with ExitStack() as cleanup:
        try:
            parsed = {role: _read(spark, config, role, groups[role], options, cleanup) for role in groups}
            check_share(list(parsed.values()), config.get(IngestSettings).max_refused)
            # Of valid rows alone: a day of which a file has nothing but refused ones is not loaded from it.
            file_days = [
                FileDay(
                    row["file"],
                    date.fromisoformat(row["dt"]),
                    f"{row['reading']} {row['content_hash']}".strip(),
                    row["rows"],
                    role,
                )
                for role in FACTS
                if role in parsed
                for row in parsed[role].summary
                if row["reason"] is None
            ]
            if not file_days:
                files = [file for role in FACTS for group in groups.get(role, ()) for file in group.files]
                raise UserError(f"{', '.join(files)}: no row that can be read")
            days = sorted({one.day for one in file_days})
            with stage_run(warehouse, "ingest", days) as counts:
                _load(warehouse, parsed, file_days, counts, options)
                return {"first_day": str(days[0]), "last_day": str(days[-1]), **total_counts(counts)}
        except SPARK_ERRORS as error:
            raise corrupt_file_error(error) or error from None


def _read(
    spark: SparkSession,
    config: Config,
    role: FileRole,
    groups: Sequence[FileGroup],
    options: IngestOptions,
    cleanup: ExitStack,
) -> ParsedFiles:
    """Read the files of one role; those with quoted line ends, which the first pass shows, in a second one."""
    lines = reduce(DataFrame.unionByName, [read_rows(spark, group.files, group.dialect).lines for group in groups])
    for is_multiline in (False, True):
        frames = [
            _parse(spark, config, group, options, is_multiline=is_multiline).withColumns(
                {
                    "reading": F.lit(group.reading(options.action)),
                    "reason": F.coalesce("reason", F.lit("other_columns" if group.is_refused else None)),
                }
            )
            for group in groups
        ]
        # Persisted: the counts, the tables and the quarantine read it.
        rows = reduce(DataFrame.unionByName, frames).persist()
        cleanup.callback(rows.unpersist)
        day = "dt" if role in FACTS else F.lit(None).alias("dt")
        keys = ["file", day, "reason", "column_name", "reading"]
        summary = rows.groupBy(*keys).agg(F.count("*").alias("rows"), loaded.content_hash().alias("content_hash"))
        parsed = ParsedFiles(lines.select(*PLACE), rows, summary.collect())
        if not any(row["reason"] == "bad_quotes" for row in parsed.summary):
            break
    return parsed


def _parse(
    spark: SparkSession, config: Config, group: FileGroup, options: IngestOptions, *, is_multiline: bool
) -> DataFrame:
    zone = config.get(SiteSettings).zone
    if group.role == "ratings":
        return read_interactions(spark, group, zone, group.action or options.action, is_multiline=is_multiline)
    if group.role == "impressions":
        return read_impressions(spark, group, zone, is_multiline=is_multiline)
    return read_attributes(spark, group, zone, is_multiline=is_multiline)


def _load(
    warehouse: Warehouse,
    parsed: Mapping[FileRole, ParsedFiles],
    file_days: Sequence[FileDay],
    counts: dict[date, RowCounts],
    options: IngestOptions,
) -> None:
    days = sorted(counts)
    fresh, repeated = _split_repeated(warehouse, file_days, days, options)
    facts = {
        role: _new_facts(warehouse, role, parsed[role], [one for one in fresh if one.role == role], options)
        for role in FACTS
        if role in parsed
    }
    if options.clicks is not None:
        facts["impressions"] = _with_clicks(warehouse, facts, options.clicks)
    marked = {role: rows.marked for role, rows in facts.items()}
    for role in KEYS:
        if role in parsed:
            marked[role] = mark_duplicates(parsed[role].rows.where("reason is null"), KEYS[role])
    unique = {role: rows.where("reason is null") for role, rows in marked.items()}
    written: dict[FileRole, dict[date, int]] = {}
    writes: list[Callable[[], object]] = [
        partial(write_dimension, warehouse, role, unique.get(role), _ids(parsed, key), days[0])
        for role, key in KEYS.items()
    ]
    for role, rows in facts.items():
        if rows.days:
            writes.append(partial(_write_facts, warehouse, role, unique[role], rows.days, written))
    if fresh:
        writes.append(partial(loaded.record, warehouse, fresh, days, replaces=options.replaces))
    with warehouse.whole_or_nothing():
        run_concurrently(*writes)
    for role, rows in facts.items():
        for day in filter(counts.__contains__, rows.days):  # on other days clicks were set, and no row was added
            counts[day].rows_out += written[role][day] - rows.num_existing.get(day.isoformat(), 0)
    counts[days[0]].rows_out += sum(unique[role].count() for role in unique if role not in FACTS)
    # After the swaps: until then other stages may add to the quarantine's partition.
    refused = {role: rows for role, rows in marked.items() if role in parsed}
    counts[days[-1]].rows_quarantined = write_refused(warehouse, parsed, refused, days[-1])
    for one in repeated:
        counts[one.day].rows_invalid += one.rows
    for count in counts.values():
        count.rows_in = count.rows_out + count.rows_invalid + count.rows_quarantined
    num_read = sum(row["rows"] for files in parsed.values() for row in files.summary)
    if num_read != (total := total_counts(counts)["rows_in"]):
        raise RuntimeError(f"ingest: {num_read} rows read, {total} accounted for")


@dataclass(frozen=True)
class _Facts:
    """New rows of one table, beside those that it has."""

    marked: DataFrame
    """Both; what is there already has a reason, `duplicate`."""
    days: Sequence[date]
    """With new rows, or new clicks."""
    num_existing: Mapping[str, int]
    """Rows of each day that stay."""


def _new_facts(
    warehouse: Warehouse, role: FileRole, files: ParsedFiles, fresh: Sequence[FileDay], options: IngestOptions
) -> _Facts:
    table, key = TABLES[role]
    days = sorted({one.day for one in fresh})
    valid = files.rows.where("reason is null")
    if len(fresh) < sum(row["reason"] is None for row in files.summary):
        keys = [(one.file, one.day.isoformat()) for one in fresh]
        fresh_keys = warehouse.spark.createDataFrame(keys, "file string, dt string")
        valid = valid.join(F.broadcast(fresh_keys), on=["file", "dt"], how="left_semi")
    existing = warehouse.read(table, [] if options.replaces else days)
    num_existing = {row["dt"]: row["count"] for row in existing.groupBy("dt").count().collect()}
    # Checkpointed, not persisted: when the table changes, Spark computes anew what was persisted of it.
    return _Facts(mark_duplicates(valid, key, existing).localCheckpoint(eager=False), days, num_existing)


def _with_clicks(warehouse: Warehouse, facts: Mapping[FileRole, _Facts], rule: ClickRule) -> _Facts:
    """The new impressions, and those of earlier loads that new acts may belong to, with what was clicked."""
    shown, acted = facts.get("impressions"), facts.get("ratings")
    shown_days, acted_days = (set(rows.days) if rows is not None else set() for rows in (shown, acted))
    partitions = warehouse.partitions(dwd.impression)
    may_change = {day for day in rule.days_shown(acted_days) if dwd.impression.partition_value(day) in partitions}
    existing = warehouse.read(dwd.impression, sorted(may_change - shown_days))
    num_existing = {row["dt"]: row["count"] for row in existing.groupBy("dt").count().collect()}
    impressions = existing.withColumn("reason", F.lit(None).cast("string"))
    if shown is not None:
        impressions = shown.marked.unionByName(impressions, allowMissingColumns=True)
    days = shown_days | may_change
    acts = warehouse.read(dwd.interaction, sorted(rule.days_acted(days) - acted_days))
    if acted is not None:
        acts = acts.unionByName(acted.marked.where("reason is null"), allowMissingColumns=True)
    linked = with_clicks(impressions, acts, rule).localCheckpoint(eager=False)
    return _Facts(linked, sorted(days), {**num_existing, **(shown.num_existing if shown is not None else {})})


def _write_facts(
    warehouse: Warehouse,
    role: FileRole,
    rows: DataFrame,
    days: Sequence[date],
    written: dict[FileRole, dict[date, int]],
) -> None:
    written[role] = warehouse.write(TABLES[role][0], rows, days)


def _ids(parsed: Mapping[FileRole, ParsedFiles], key: str) -> DataFrame:
    """All ids of the facts' valid rows."""
    ids = [parsed[role].rows.where("reason is null").select(key) for role in FACTS if role in parsed]
    return reduce(DataFrame.unionByName, ids)


def _split_repeated(
    warehouse: Warehouse, file_days: Sequence[FileDay], days: Sequence[date], options: IngestOptions
) -> tuple[list[FileDay], list[FileDay]]:
    """The rows of files that are new, and those that earlier files (or others of the command) have loaded."""
    hashes = {day: set[str]() for day in days} if options.replaces else loaded.loaded_hashes(warehouse, days)
    fresh: list[FileDay] = []
    repeated: list[FileDay] = []
    for one in sorted(file_days, key=lambda one: (one.file, one.day)):
        (repeated if one.content_hash in hashes[one.day] else fresh).append(one)
        hashes[one.day].add(one.content_hash)
    for file in sorted({one.file for one in repeated}):
        log.warning("%s: %d rows are loaded already", file, sum(one.rows for one in repeated if one.file == file))
    return fresh, repeated


def mark_duplicates(rows: DataFrame, key: str, existing: DataFrame | None = None) -> DataFrame:
    """Set `reason` to `duplicate` for all rows of a key but the first, in the order of the files.

    Args:
        rows: rows with their place, `reason` null.
        key: what no two rows share.
        existing: rows of the table, which go first and are returned as well.
    """
    rows = rows.withColumn("is_new", F.lit(True))
    if existing is not None:
        rows = rows.unionByName(existing.withColumn("is_new", F.lit(False)), allowMissingColumns=True)
    # `dropDuplicates` would keep any of them.
    order = Window.partitionBy(key).orderBy("is_new", "file", "block", "id")
    is_first = (F.row_number().over(order) == 1) | ~F.col("is_new")
    return rows.withColumn("reason", F.when(~is_first, "duplicate")).drop("is_new")
