"""Lines of JSON -> columns, or the reason why a line is refused; strict where Spark's own reader is not.

Spark's `from_json` stops reading after the first value, takes the last of two equal keys, and turns any value into
text. The rules are in docs/data-in-and-out.md; the daily load of events and the streams share them.
"""

from dataclasses import dataclass
from uuid import uuid4

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.clock import local_day
from etl.sources.lines import landing_day
from etl.sources.texts import WHITESPACE

# Jackson's leniences that Spark switches on.
STRICT = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
# RFC 3339, and +0100. Without a zone, a time may be any hour of two days.
LOCAL_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?"
TIME = LOCAL_TIME + r"(Z|[+-]\d{2}:?\d{2})$"
# What `from_json` makes of a value that is neither text nor an integer; text that looks like it is rare.
LOOKS_UNTYPED = r"(?s)^(true|false|[{\[\"].*|-?\d+[.eE].*)$"

# What the functions below say.
REASONS = (
    *("too_long", "invalid_utf8", "empty_line", "not_json", "duplicate_key"),
    *("missing_field", "bad_type", "no_time_zone", "bad_time", "in_future"),
)


@dataclass(frozen=True)
class LineFormat:
    """What an object on a line has; `ts` is its time."""

    fields: str
    """Names and types; numbers as text, so that a wrong one is seen as such and not as missing."""
    ids: tuple[str, ...]
    """Text or integers, from which blanks are trimmed; an empty one is missing."""
    texts: tuple[str, ...]
    """Other fields of text or integers."""
    required: tuple[str, ...]


def read_objects(lines: DataFrame, layout: LineFormat, max_line_bytes: int, zone: str) -> DataFrame:
    """Read one object a line.

    Args:
        lines: `line` and, for `folder_dt`, `file`.
        layout: the fields.
        max_line_bytes: longer lines are not parsed.
        zone: time zone of the days.

    Returns:
        The lines with the fields, null where the line can't be read; `is_object`, `keys`, `happened_at`, `dt` (its
        day) and `folder_dt` (that of its landing folder).
    """
    is_text = (F.octet_length("line") <= max_line_bytes) & F.is_valid_utf8("line")
    text = F.when(is_text, F.col("line"))
    # A second element follows that no line can know: the line is one object if the array has both and no more.
    marker = f"end_{uuid4().hex}"
    elements = F.from_json(
        F.concat(F.lit("["), text, F.lit(f',{{"{marker}":true}}]')),
        f"array<struct<{layout.fields}, {marker}: boolean>>",
        {"mode": "PERMISSIVE", **STRICT},
    )
    is_single = (F.size("elements") == 2) & F.try_element_at("elements", F.lit(2))[marker]
    parsed = F.when(F.coalesce(is_single, F.lit(False)), F.try_element_at("elements", F.lit(1)))
    return (
        lines.withColumns({"elements": elements, "keys": F.json_object_keys(text)})
        .withColumn("object", parsed)
        .select("*", "object.*")
        .withColumns({name: F.nullif(F.btrim(name, F.lit(WHITESPACE)), F.lit("")) for name in layout.ids})
        .withColumns(
            {
                "is_object": F.col("object").isNotNull(),
                "happened_at": F.when(F.rlike("ts", F.lit(TIME)), F.try_to_timestamp("ts")),
                "folder_dt": landing_day(),
            }
        )
        .withColumn("dt", local_day("happened_at", zone))
        .drop("elements", "object")
    )


def line_fault(max_line_bytes: int) -> Column:
    """Why a line is no object."""
    is_too_long = F.octet_length("line") > max_line_bytes
    is_empty = F.btrim("line", F.lit(WHITESPACE)) == ""
    # The first that applies is the reason: an empty line is no JSON either.
    return (
        F.when(is_too_long, "too_long")
        .when(~F.is_valid_utf8("line"), "invalid_utf8")
        .when(is_empty, "empty_line")
        .when(~F.col("is_object"), "not_json")
        .when(has_duplicate("keys"), "duplicate_key")
    )


def field_fault(layout: LineFormat) -> Column:
    """Whether a required field is missing, or one is neither text nor an integer."""
    is_missing = F.concat(*layout.required).isNull()  # concat is null as soon as one of them is
    has_types = _is_text_or_integer(*layout.ids, *layout.texts)
    return F.when(is_missing, "missing_field").when(~has_types, "bad_type")


def time_fault() -> Column:
    """What is wrong with `ts`."""
    is_local = F.rlike("ts", F.lit(LOCAL_TIME + "$"))
    return F.when(is_local, "no_time_zone").when(F.col("happened_at").isNull(), "bad_time")


def future_fault() -> Column:
    """`in_future` for a day after its folder's; the day after is none: clocks differ, folders may go by another one."""
    days_late = F.datediff(F.try_to_date("folder_dt"), F.try_to_date("dt"))
    return F.when(days_late < -1, "in_future")


def has_duplicate(names: Column | str) -> Column:
    """Whether a name comes twice."""
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
