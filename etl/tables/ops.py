"""OPS: the system about itself."""

from etl.table import NotNull, OneOf, Table, columns

run = Table(
    name="ops_run",
    description="One row per run of a stage; rows_in = rows_out + rows_invalid + rows_quarantined",
    columns=columns(
        ("run_id", "string", "identifies the run"),
        ("stage", "string", "weblog, import, events, features …"),
        ("rows_in", "bigint", "rows read for the day"),
        ("rows_out", "bigint", "rows that count"),
        ("rows_invalid", "bigint", "rows kept but marked invalid, or duplicates"),
        ("rows_quarantined", "bigint", "rows set apart with their reason"),
        ("rows_other_date", "bigint", "rows seen that belong to another day"),
        ("started_at", "timestamp", "UTC"),
        ("ended_at", "timestamp", "UTC"),
        ("status", "string", "done or failed"),
        ("error", "string", "first line of the error, null when done"),
        ("code_version", "string", "version of Millrace and commit"),
    ),
)

watermark = Table(
    name="ops_watermark",
    description="One row per incremental import that the day advanced, with the last value it has seen",
    key=("import_name",),
    columns=columns(
        ("import_name", "string", "the import"),
        ("check_column", "string", "column whose values grow"),
        ("last_value", "string", "its greatest value in the day's partition and those before"),
        ("kind", "string", "int, Decimal, float, str, date or datetime: how to read last_value"),
        ("recorded_at", "timestamp", "UTC"),
    ),
    checks=(NotNull(("last_value",)), OneOf("kind", ("int", "Decimal", "float", "str", "date", "datetime"))),
)
