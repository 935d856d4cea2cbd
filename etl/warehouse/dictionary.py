"""The data dictionary, from the table descriptions: `python -m etl.warehouse.dictionary FILE` (`make docs`)."""

import sys
from pathlib import Path

from etl.table import Table, check_text
from etl.tables import ALL

HEAD = """# Data dictionary

Generated from `etl/tables/` by `make docs`; a test fails when the two differ. All tables are external, partitioned
Parquet.
"""


def render() -> str:
    """The whole page as Markdown: one section per table, from raw data to reports, with columns and checks."""
    sections = [_section(table) for table in ALL.values()]
    return "\n".join([HEAD, *sections])


def _section(table: Table) -> str:
    rows = [f"| `{column.name}` | {column.type} | {column.comment} |" for column in table.columns]
    checks = "; ".join(check_text(check) for check in table.all_checks) or "none"
    head = [f"## {table.name}", "", f"{table.description}. Partitioned by `{table.partition}`.", ""]
    return "\n".join([*head, "| column | type | description |", "|---|---|---|", *rows, "", f"Checks: {checks}.", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
