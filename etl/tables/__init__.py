"""Every table of the warehouse, one module per layer; `ALL` has them by name."""

from conf import UsageError
from etl.table import Table
from etl.tables import ads, dim, dwd, dws, ods, ops

# `vars` keeps the order of declaration, which the data dictionary follows.
ALL: dict[str, Table] = {
    table.name: table
    for module in (ods, dwd, dim, dws, ads, ops)
    for table in vars(module).values()
    if isinstance(table, Table)
}

SCHEMA_VERSION = 2
"""Of the names and types of all columns: one more whenever they change between releases; 0 is of those without one."""
SCHEMA_PROPERTY = "millrace.schema"
"""Their version, as a property of the metastore's database: beside the tables, for homes can share a metastore."""


def table_named(name: str) -> Table:
    """The table called `name`, for commands. Raises UsageError that lists all tables when there is none."""
    if name not in ALL:
        raise UsageError(f"unknown table '{name}'; tables are {', '.join(sorted(ALL))}")
    return ALL[name]
