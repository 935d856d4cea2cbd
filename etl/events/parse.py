"""JSON lines -> events with their day, or the reason why a line is refused; strict where Spark's own reader is not.

Spark's `from_json` stops reading after the first value, takes the last of two equal keys, and turns any value into
text. The rules are in docs/data-in-and-out.md.
"""

from collections.abc import Collection
from datetime import date
from uuid import uuid4

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.clock import local_day
from etl.events.settings import EventSettings
from etl.sources.lines import NUMBER, WHITESPACE, landing_day

ACTIONS = ("click", "like", "purchase")
IDS = ("event_id", "user_id", "item_id", "request_id", "impression_id")
REQUIRED = ("event_id", "type", "ts", "user_id", "item_id")
# Numbers as text, so that a wrong one is seen as such and not as missing.
FIELDS = (
    "event_id: string, type: string, ts: string, user_id: string, item_id: string, request_id: string, "
    "impression_id: string, position: string, device: string, value: string, features: map<string, double>"
)
# Jackson's leniences that Spark switches on.
STRICT = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
# RFC 3339, and +0100. Without a zone, a time may be any hour of two days.
LOCAL_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?"
TIME = LOCAL_TIME + r"(Z|[+-]\d{2}:?\d{2})$"
# What `from_json` makes of a value that is neither text nor an integer; text that looks like it is rare.
LOOKS_UNTYPED = r"(?s)^(true|false|[{\[\"].*|-?\d+[.eE].*)$"


def parse(lines: DataFrame, settings: EventSettings, zone: str, landed_days: Collection[date]) -> DataFrame:
    """Parse JSON lines.

    Args:
        lines: `line` and its place, as `read_lines` returns them.
        settings: longer lines than `max_line_bytes` are refused without parsing; so are later events than `late_days`.
        zone: time zone of the days.
        landed_days: days that have a landing folder; an earlier day's event is refused where its day is none of them.

    Returns:
        The lines with the event's fields, `happened_at`, `dt` (its day), `folder_dt` (that of its landing folder),
        `line_hash`, and `reason` (null for a valid event).
    """
    is_text = (F.octet_length("line") <= settings.max_line_bytes) & F.is_valid_utf8("line")
    text = F.when(is_text, F.col("line"))
    # A second element follows that no line can know: the line is one object if the array has both and no more.
    marker = f"end_{uuid4().hex}"
    elements = F.from_json(
        F.concat(F.lit("["), text, F.lit(f',{{"{marker}":true}}]')),
        f"array<struct<{FIELDS}, {marker}: boolean>>",
        {"mode": "PERMISSIVE", **STRICT},
    )
    is_single = (F.size("elements") == 2) & F.try_element_at("elements", F.lit(2))[marker]
    event = F.when(F.coalesce(is_single, F.lit(False)), F.try_element_at("elements", F.lit(1)))
    parsed = (
        lines.withColumns({"elements": elements, "keys": F.json_object_keys(text)})
        .withColumn("event", event)
        .select("*", "event.*")
        .withColumns({name: F.nullif(F.btrim(name, F.lit(WHITESPACE)), F.lit("")) for name in IDS})
        .withColumns(
            {
                "position_text": F.col("position"),
                "position": F.expr("try_cast(position as int)"),
                "value_text": F.col("value"),
                "value": F.when(F.rlike(F.trim("value"), F.lit(NUMBER)), F.trim("value").cast("double")),
                "happened_at": F.when(F.rlike("ts", F.lit(TIME)), F.try_to_timestamp("ts")),
                "folder_dt": landing_day(),
                "line_hash": F.xxhash64("line"),
            }
        )
        .withColumn("dt", local_day("happened_at", zone))
    )
    reason = F.coalesce(_line_fault(settings), _field_fault(), _day_fault(settings, landed_days))
    return parsed.withColumn("reason", reason).drop("elements", "keys", "event", "ts", "position_text", "value_text")


def _line_fault(settings: EventSettings) -> Column:
    return (
        F.when(F.octet_length("line") > settings.max_line_bytes, "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(F.btrim("line", F.lit(WHITESPACE)) == "", "empty_line")
        .when(F.col("event").isNull(), "not_json")
        .when(_has_duplicate("keys") | _has_duplicate(F.map_keys("features")), "duplicate_key")
    )


def _field_fault() -> Column:
    # A map of anything else than numbers is read as null, as if there were none.
    has_bad_map = F.array_contains("keys", "features") & F.get_json_object("line", "$.features").isNotNull()
    is_infinite = F.exists(F.map_values("features"), lambda value: F.abs(value) == float("inf"))
    is_impression, is_value = F.col("type") == "impression", F.abs("value") < float("inf")
    is_position = F.rlike("position_text", F.lit(r"^\d+$")) & (F.col("position") >= 1)
    return (
        F.when(F.concat(*REQUIRED).isNull(), "missing_field")
        .when(~_is_text_or_integer(*IDS, "device"), "bad_type")
        .when(~F.col("type").isin("impression", *ACTIONS), "unknown_type")
        .when(F.rlike("ts", F.lit(LOCAL_TIME + "$")), "no_time_zone")
        .when(F.col("happened_at").isNull(), "bad_time")
        .when(~F.coalesce(is_position, F.col("position_text").isNull() & ~is_impression, F.lit(False)), "bad_position")
        .when(F.col("value_text").isNotNull() & ~F.coalesce(is_value, F.lit(False)), "bad_value")
        .when(F.when(F.col("features").isNull(), has_bad_map).otherwise(is_infinite), "bad_features")
    )


def _day_fault(settings: EventSettings, landed_days: Collection[date]) -> Column:
    days_late = F.datediff(F.to_date("folder_dt"), F.to_date("dt"))
    has_folder = F.col("dt").isin([day.isoformat() for day in landed_days])
    return (
        F.when(days_late < -1, "in_future")  # the day after is: clocks differ, and folders may go by another one
        .when(days_late > settings.late_days, "too_late")
        .when((days_late > 0) & ~has_folder, "day_not_landed")
    )


def _has_duplicate(names: Column | str) -> Column:
    return F.coalesce(F.size(F.array_distinct(names)) < F.size(names), F.lit(False))


def _is_text_or_integer(*names: str) -> Column:
    """Whether the fields are JSON texts or integers, or absent."""
    result = F.lit(True)
    for name in names:
        # A second parse, which knows types: for the few values whose text does not tell. An absent branch is true.
        value = F.try_variant_get(F.try_parse_json("line"), f"$.{name}", "variant")
        is_text = F.coalesce(F.schema_of_variant(value) == "STRING", F.lit(False))
        result &= F.when(F.rlike(name, F.lit(LOOKS_UNTYPED)), is_text).otherwise(F.lit(True))
    return result
