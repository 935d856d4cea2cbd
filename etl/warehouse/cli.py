"""`millrace warehouse` and `millrace sql`: the tables themselves, their metastore, queries."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from conf.console.cli import FormulasOption, OutputFormat, OutputOption, settings_of
from conf.console.terminal import print_rows

warehouse = typer.Typer(no_args_is_help=True, add_completion=False, help="Tables, metastore, files.")
sql = typer.Typer(add_completion=False)


class SqlEngine(StrEnum):
    """What answers a statement."""

    auto = "auto"
    spark = "spark"


@warehouse.command("tables")
def tables_command(format: OutputOption = OutputFormat.table) -> None:
    """List every table with its kind, its partition column, and its grain: what one row stands for."""
    from etl.tables import ALL

    rows = [(table.name, table.kind, table.partition, table.description) for table in ALL.values()]
    print_rows(["table", "kind", "partition", "description"], rows, format)


@warehouse.command("describe")
def describe_command(table: str, format: OutputOption = OutputFormat.table) -> None:
    """Show the columns of a table with types and comments, and the checks that its partitions pass."""
    from etl.table import check_text
    from etl.tables import table_named

    description = table_named(table)
    if format is OutputFormat.table:
        print(f"{description.name}: {description.description}")
        print(f"{description.kind}, partitioned by {description.partition}\n")
    rows = [(column.name, column.type, column.comment) for column in description.columns]
    print_rows(["column", "type", "comment"], rows, format)
    if format is OutputFormat.table:
        print("\nchecks: " + ("; ".join(check_text(check) for check in description.all_checks) or "none"))


@warehouse.command("check")
def check_command(context: typer.Context, table: str) -> dict[str, int]:
    """Run a table's checks on all its partitions, and count their rows. Exit code 1 when one fails."""
    from etl.session import spark_session
    from etl.tables import table_named
    from etl.warehouse.store import Warehouse

    description, config = table_named(table), settings_of(context)
    with spark_session(config) as spark:
        return Warehouse(spark, config).check(description)


@warehouse.command("vacuum")
def vacuum_command(
    context: typer.Context,
    older_than_h: Annotated[float, typer.Option(help="only folders older than this many hours", min=0)] = 24.0,
) -> dict[str, int]:
    """Remove files of replaced partitions, and folders of runs that were killed, that are older than that."""
    from conf import Paths
    from conf.atomic import remove_staged
    from conf.unfinished import remove_unfinished
    from etl.session import spark_session
    from etl.warehouse.store import Warehouse
    from etl.warehouse.vacuum import remove_session_folders, vacuum_all

    config = settings_of(context)
    paths, older_than_s = config.get(Paths), older_than_h * 3600
    unfinished_runs = remove_unfinished(paths.runs, older_than_s=older_than_s)
    # Not in the folders with as many files as there are data.
    skipped = ("warehouse", "landing", "metastore", "business")
    staged = remove_staged(paths.root, older_than_s=older_than_s, skipped=skipped)
    sessions = remove_session_folders(paths.hive_scratch, older_than_s=older_than_s)
    with spark_session(config) as spark:
        folders = vacuum_all(Warehouse(spark, config), older_than_s=older_than_s)
    removed = staged + sessions + folders
    return {"removed": removed, "unfinished_runs": unfinished_runs}


@warehouse.command("init")
def init_command(context: typer.Context) -> dict[str, int]:
    """Create the metastore's schema in PostgreSQL (metastore.url) and all tables. Again, it changes nothing."""
    from etl.warehouse import init

    return init.run(settings_of(context))


@warehouse.command("upgrade")
def upgrade_command(context: typer.Context) -> dict[str, int]:
    """Give tables of an earlier release the columns that they lack. Every command does so on an embedded metastore."""
    from etl.metastore.versions import upgrade
    from etl.session import spark_session

    with spark_session(settings_of(context), is_upgrading=True) as spark:
        return upgrade(spark)


@warehouse.command("move")
def move_command(context: typer.Context) -> dict[str, int]:
    """Copy tables and partitions of the embedded metastore to the one of metastore.url; files stay."""
    from etl.warehouse import move

    return move.run(settings_of(context))


@warehouse.command("serve")
def serve_command(context: typer.Context) -> dict[str, object]:
    """Serve the tables to Hive clients (JDBC, ODBC, beeline) at serve.host and serve.port, until stopped."""
    from etl.warehouse import serve

    return serve.run(settings_of(context))


@sql.command()
def sql_command(
    context: typer.Context,
    statement: str,
    format: OutputOption = OutputFormat.table,
    formulas_as_text: FormulasOption = False,
    engine: Annotated[
        SqlEngine,
        typer.Option(help="auto: DuckDB where it has the same result as Spark, which takes ten times as long"),
    ] = SqlEngine.auto,
) -> None:
    """Run a SQL statement on the warehouse and print its rows. Text that a terminal would obey is printed escaped."""
    config = settings_of(context)
    # A command of a day's run is inside its session; whether one is open is asked of a module that imports PySpark.
    has_session = "etl.session" in sys.modules and sys.modules["etl.session"].is_session_open()
    if engine is SqlEngine.auto and not has_session:
        from etl.warehouse.duckdb_query import answer

        if (answered := answer(config, statement)) is not None:
            print_rows(answered.columns, answered.rows, format, formulas_as_text=formulas_as_text)
            return
    from etl.session import spark_session
    from etl.warehouse.query import query, rows_of

    with spark_session(config) as spark:
        frame = query(spark, statement)
        print_rows(frame.columns, rows_of(frame), format, formulas_as_text=formulas_as_text)
