"""Lines of JSON -> events with their day, or the reason why a line is refused. Rules: docs/data-in-and-out.md."""

from collections.abc import Collection
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.site import current_site
from conf.site.checks import action_names
from etl.events.settings import EventSettings
from etl.sources.json_lines import (
    REASONS,
    LineFormat,
    field_fault,
    future_fault,
    has_duplicate,
    line_fault,
    read_objects,
    time_fault,
)
from etl.sources.lines import NUMBER

SITE = current_site()
# What users do: the site's own actions, too, which then need not come by files alone.
ACTIONS = tuple(dict.fromkeys(("click", "like", "purchase", *(action_names(SITE) if SITE is not None else ()))))
EVENT = LineFormat(
    fields=(
        "event_id: string, type: string, ts: string, user_id: string, item_id: string, request_id: string, "
        "impression_id: string, position: string, device: string, value: string, "
        "propensity: string, features: map<string, double>"
    ),
    ids=("event_id", "user_id", "item_id", "request_id", "impression_id"),
    texts=("device",),
    required=("event_id", "type", "ts", "user_id", "item_id"),
)

EVENT_REASONS = (*REASONS, "unknown_type", "bad_position", "bad_value", "bad_propensity", "bad_features")


def parse(lines: DataFrame, settings: EventSettings, zone: str, landed_days: Collection[date]) -> DataFrame:
    """Parse lines of the landing zone.

    Args:
        lines: `line` and its place, as `read_lines` returns them.
        settings: as for `parse_events`; later events than `late_days` are refused.
        zone: time zone of the days.
        landed_days: days that have a landing folder; an earlier day's event is refused where its day is none of them.

    Returns:
        As `parse_events`, with `line_hash`.
    """
    parsed = parse_events(lines, settings, zone)
    reason = F.coalesce("reason", _day_fault(settings, landed_days))
    return parsed.withColumns({"reason": reason, "line_hash": F.xxhash64("line")})


def parse_events(lines: DataFrame, settings: EventSettings, zone: str) -> DataFrame:
    """Parse lines, wherever they are from.

    Args:
        lines: `line` and `file`, which is empty where there is no file.
        settings: longer lines than `max_line_bytes` are refused without parsing.
        zone: time zone of the days.

    Returns:
        The lines with the event's fields, `happened_at`, `dt` (its day), `folder_dt` (that of its landing folder), and
        `reason` (null for a valid event).
    """
    parsed = read_objects(lines, EVENT, settings.max_line_bytes, zone).withColumns(
        {
            "position_text": F.col("position"),
            "position": F.expr("try_cast(position as int)"),
            "value_text": F.col("value"),
            "value": _number("value"),
            "propensity_text": F.col("propensity"),
            "propensity": _number("propensity"),
        }
    )
    reason = F.coalesce(
        line_fault(settings.max_line_bytes),
        F.when(has_duplicate(F.map_keys("features")), "duplicate_key"),
        field_fault(EVENT),
        F.when(~F.col("type").isin("impression", *ACTIONS), "unknown_type"),
        time_fault(),
        _value_fault(),
        future_fault(),
    )
    return parsed.withColumn("reason", reason).drop(
        "keys", "is_object", "ts", "position_text", "value_text", "propensity_text"
    )


def _number(name: str) -> Column:
    """The number of a column of text, null where it is none."""
    return F.when(F.rlike(F.trim(name), F.lit(NUMBER)), F.trim(name).cast("double"))


def _value_fault() -> Column:
    # A map of anything else than numbers is read as null, as if there were none.
    has_bad_map = F.array_contains("keys", "features") & F.get_json_object("line", "$.features").isNotNull()
    is_infinite = F.exists(F.map_values("features"), lambda value: F.abs(value) == float("inf"))
    is_impression, is_value = F.col("type") == "impression", F.abs("value") < float("inf")
    is_position = F.rlike("position_text", F.lit(r"^\d+$")) & (F.col("position") >= 1)
    is_probability = (F.col("propensity") > 0) & (F.col("propensity") <= 1)
    return (
        F.when(~F.coalesce(is_position, F.col("position_text").isNull() & ~is_impression, F.lit(False)), "bad_position")
        .when(F.col("value_text").isNotNull() & ~F.coalesce(is_value, F.lit(False)), "bad_value")
        .when(F.col("propensity_text").isNotNull() & ~F.coalesce(is_probability, F.lit(False)), "bad_propensity")
        .when(F.when(F.col("features").isNull(), has_bad_map).otherwise(is_infinite), "bad_features")
    )


def _day_fault(settings: EventSettings, landed_days: Collection[date]) -> Column:
    days_late = F.datediff(F.to_date("folder_dt"), F.to_date("dt"))
    has_folder = F.col("dt").isin([day.isoformat() for day in landed_days])
    return F.when(days_late > settings.late_days, "too_late").when((days_late > 0) & ~has_folder, "day_not_landed")
