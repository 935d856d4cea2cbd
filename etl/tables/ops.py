"""OPS: the system about itself."""

from etl.table import Table, columns

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
