"""OPS, operations: runs of stages and watermarks of imports."""

from etl.table import InRange, NotNull, OneOf, Table, columns

# No checks and no key: rows are added as files by processes side by side, and none may fail another's stage.
run = Table(
    name="ops_run",
    description="One row per run of a stage; rows_in = rows_out + rows_invalid + rows_quarantined",
    columns=columns(
        ("run_id", "string", "identifies the run"),
        ("stage", "string", "weblog, import, events, features …"),
        ("rows_in", "bigint", "rows read for the day"),
        ("rows_out", "bigint", "rows that count"),
        ("rows_invalid", "bigint", "rows that are stored as invalid, and duplicates"),
        ("rows_quarantined", "bigint", "rows in ods_quarantine, with their reason"),
        ("rows_other_date", "bigint", "rows read that belong to another day"),
        ("started_at", "timestamp", "UTC"),
        ("ended_at", "timestamp", "UTC"),
        ("status", "string", "done, failed, or interrupted: killed when its tables were changing, which was completed"),
        ("error", "string", "first line of the error, null when done"),
        ("code_version", "string", "version of Millrace and commit"),
    ),
)

# So that a day that is loaded after its late events has them, without a look into every later folder.
event_day = Table(
    name="ops_event_day",
    description="One row per day other than its own that a landing folder of events has events of",
    key=("event_day",),
    columns=columns(
        ("event_day", "string", "day of the events, as 2026-01-07; the partition is the folder's day"),
        ("events", "bigint", "events of that day in the folder"),
    ),
    checks=(InRange("events", 1),),
)

watermark = Table(
    name="ops_watermark",
    description="One row per incremental import that ran on the day, with the last value imported",
    key=("import_name",),
    columns=columns(
        ("import_name", "string", "the import"),
        ("check_column", "string", "column whose values only grow"),
        ("last_value", "string", "greatest value of the column up to the day"),
        # last_value is text for all of them: a decimal or a microsecond must come back as it was.
        ("kind", "string", "int, Decimal, float, str, date or datetime: how to parse last_value"),
        ("recorded_at", "timestamp", "UTC"),
    ),
    checks=(NotNull(("last_value",)), OneOf("kind", ("int", "Decimal", "float", "str", "date", "datetime"))),
)
