"""Command lines of the warehouse: each verb opens a session, calls one job and returns its counts."""

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from conf import Paths, UsageError
from conf.cli import one_of, parse_day, parse_days, settings_of

etl = typer.Typer(no_args_is_help=True, add_completion=False, help="Raw data into warehouse tables.")
ingest = typer.Typer(no_args_is_help=True, add_completion=False, help="Data of other systems into the warehouse.")
warehouse = typer.Typer(no_args_is_help=True, add_completion=False, help="The warehouse itself.")
simulate = typer.Typer(add_completion=False)
sql = typer.Typer(add_completion=False)
metrics = typer.Typer(add_completion=False)
report = typer.Typer(add_completion=False)

Day = Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")]
Since = Annotated[str | None, typer.Option("--since", help="also the days from this one")]


class Output(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--format", help="how rows are printed")]


@simulate.command()
def simulate_command(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="number of days", min=1)] = 7,
    scale: Annotated[float, typer.Option(help="1 is some 200,000 impressions in 7 days", min=0.01)] = 1.0,
    seed: Annotated[int, typer.Option(help="same seed, same bytes", min=0)] = 7,
) -> dict[str, object]:
    """Write raw logs, events, users and items with known click probabilities into the landing zone."""
    from etl.simulator import simulate

    return simulate.run(settings_of(context), days=days, scale=scale, seed=seed)


@etl.command("weblog")
def weblog_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="the day, as 2026-01-07")] = None,
    since: Since = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="log files, plain or gz; default: the landing zone")
    ] = None,
    all_dates: Annotated[bool, typer.Option("--all-dates", help="every day found in the files of --source")] = False,
) -> dict[str, int]:
    """Web logs of nginx or Apache -> requests, dimensions, visits, and the page views, visitors and funnels of days."""
    from etl.session import spark_session
    from etl.weblog import job as weblog
    from etl.weblog.source import find_files

    if (date is None) != all_dates:
        raise UsageError("name one day (--date), or take --all-dates" if date is None else "--all-dates names no day")
    days, config = parse_days(date, since) if date else [], settings_of(context)
    find_files(config, days, source or ())
    with spark_session(config) as spark:
        return weblog.run(spark, config, days, source or ())


@etl.command("events")
def events_command(context: typer.Context, date: Day, since: Since = None) -> dict[str, int]:
    """Events of the site -> dwd_impression, dwd_interaction, ads_ctr_daily."""
    from etl.events import job as events
    from etl.session import spark_session

    days, config = parse_days(date, since), settings_of(context)
    with spark_session(config) as spark:
        return events.run(spark, config, days)


@etl.command("import")
def import_command(
    context: typer.Context,
    date: Day,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="users, items, relational.imports; default: all")
    ] = None,
) -> dict[str, int]:
    """Tables of relational databases -> dim_user, dim_item, and ods_NAME for those of relational.imports."""
    from etl.relational import imports
    from etl.session import spark_session

    day, config = parse_day(date), settings_of(context)
    for name in names or ():
        one_of("import", name, tuple(imports.names(config)))
    with spark_session(config) as spark:
        return imports.run(spark, config, day, names or ())


@etl.command("results")
def results_command(context: typer.Context) -> dict[str, int]:
    """Finished run folders -> ads_model_metric, ads_tuning_trial, ads_recommendation, each run once."""
    from etl.results import job as results
    from etl.session import spark_session

    config = settings_of(context)
    with spark_session(config) as spark:
        return results.run(spark, config)


@etl.command("collect")
def collect_command(
    context: typer.Context,
    pattern: Annotated[list[str] | None, typer.Argument(metavar="[PATTERN]...", help="files to follow")] = None,
    once: Annotated[bool, typer.Option("--once", help="take what there is and end")] = False,
) -> dict[str, int]:
    """Follow log files into the landing zone, by day, hour and host; no line lost, none twice."""
    from etl.collect import collector

    return collector.run(settings_of(context), pattern or (), once=once)


@etl.command("export")
def export_command(
    context: typer.Context,
    date: Day,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="relational.exports; default: all")
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="a run that the target holds is not exported again")] = None,
) -> dict[str, int]:
    """A day of result tables to a relational database or text files, as relational.exports says."""
    from etl.relational import exports
    from etl.session import spark_session
    from etl.stage import total_of

    day, config = parse_day(date), settings_of(context)
    chosen = exports.chosen(config, names or ())
    if not chosen:
        return total_of({})
    with spark_session(config) as spark:
        return exports.run(spark, config, chosen, day, run_id)


@etl.command("stream")
def stream_command(
    context: typer.Context,
    name: str,
    once: Annotated[bool, typer.Option("--once", help="take what has landed and end")] = False,
) -> dict[str, int]:
    """Rolling counts: hot-topics -> ads_hot_topic, hot-products -> ads_hot_product."""
    from etl.session import spark_session
    from etl.streams import hot

    config = settings_of(context)
    one_of("stream", name, tuple(hot.STREAMS))
    with spark_session(config) as spark:
        return hot.run(spark, config, name, once=once)


@ingest.callback()
def ingest_group() -> None:
    """Keeps `interactions` a sub-command although it is the only one."""


@ingest.command("interactions")
def interactions_command(
    context: typer.Context,
    ratings: Annotated[Path, typer.Option(help="file of ratings or interactions")],
    format: Annotated[str, typer.Option("--format", help="movielens, movielens-csv, recbole or events")],
    items: Annotated[Path | None, typer.Option(help="file of items")] = None,
    users: Annotated[Path | None, typer.Option(help="file of users")] = None,
) -> dict[str, object]:
    """Ratings or interactions of another system -> dwd_interaction, dim_user, dim_item."""
    from etl.ingest import job
    from etl.session import spark_session

    job.check_files(format, ratings, items, users)
    config = settings_of(context)
    with spark_session(config) as spark:
        return job.run(spark, config, ratings=ratings, items=items, users=users, format_name=format)


@sql.command()
def sql_command(context: typer.Context, statement: str, format: OutputOption = Output.table) -> None:
    """Query the warehouse."""
    from etl.session import spark_session
    from etl.tables import ALL
    from etl.warehouse.store import query

    with spark_session(settings_of(context)) as spark:
        frame = query(spark, statement, list(ALL))
        print_rows(frame.columns, [row.asDict(recursive=True) for row in frame.toLocalIterator()], format)


@metrics.command()
def metrics_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="only this day")] = None,
    format: OutputOption = Output.table,
) -> None:
    """Newest numbers of every model."""
    from etl.report.job import newest_metrics
    from etl.session import spark_session

    day, config = parse_day(date) if date else None, settings_of(context)
    with spark_session(config) as spark:
        frame = newest_metrics(spark, config, day).orderBy("dt", "stage", "model", "split", "metric", "k")
        print_rows(frame.columns, [row.asDict() for row in frame.collect()], format)


@report.command()
def report_command(context: typer.Context, date: Day) -> dict[str, object]:
    """The stages, rows and metrics of a day, and a page with pictures: reports/DAY.html."""
    from etl.report import job as report
    from etl.report import page
    from etl.session import spark_session

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return {**report.run(spark, config, day), "page": str(page.write(spark, config, day))}


@warehouse.command("tables")
def tables_command(format: OutputOption = Output.table) -> None:
    """Every table with its grain."""
    from etl.tables import ALL

    rows = [
        {"table": table.name, "kind": table.kind, "partition": table.partition, "description": table.description}
        for table in ALL.values()
    ]
    print_rows(["table", "kind", "partition", "description"], rows, format)


@warehouse.command("describe")
def describe_command(table: str, format: OutputOption = Output.table) -> None:
    """Columns and checks of a table."""
    from etl.tables import table_named

    found = table_named(table)
    if format is Output.table:
        print(f"{found.name}: {found.description}\n{found.kind}, partitioned by {found.partition}\n")
    rows = [{"column": column.name, "type": column.type, "comment": column.comment} for column in found.columns]
    print_rows(["column", "type", "comment"], rows, format)
    if format is Output.table:
        print("\nchecks: " + ("; ".join(str(check) for check in found.all_checks) or "none"))


@warehouse.command("check")
def check_command(context: typer.Context, table: str) -> dict[str, int]:
    """Run a table's checks on all its partitions."""
    from etl.session import spark_session
    from etl.tables import table_named
    from etl.warehouse.store import Warehouse

    found, config = table_named(table), settings_of(context)
    with spark_session(config) as spark:
        return Warehouse(spark, config.get(Paths)).check(found)


@warehouse.command("vacuum")
def vacuum_command(
    context: typer.Context,
    older_than_h: Annotated[float, typer.Option(help="leave folders younger than this many hours", min=0)] = 24.0,
) -> dict[str, int]:
    """Remove files of replaced partitions."""
    from etl.session import spark_session
    from etl.tables import ALL
    from etl.warehouse.store import Warehouse

    config = settings_of(context)
    with spark_session(config) as spark:
        house = Warehouse(spark, config.get(Paths))
        written = [table for table in ALL.values() if spark.catalog.tableExists(table.name)]
        return {"removed": sum(house.vacuum(table, older_than_s=older_than_h * 3600) for table in written)}


@warehouse.command("init")
def init_command(context: typer.Context) -> dict[str, int]:
    """Make the metastore's schema in PostgreSQL (metastore.url), once."""
    from etl.metastore import schema

    return schema.run(settings_of(context))


@warehouse.command("move")
def move_command(context: typer.Context) -> dict[str, int]:
    """Copy tables and partitions of the embedded metastore to the one of metastore.url; files stay."""
    from etl.metastore import move

    return move.run(settings_of(context))


@warehouse.command("serve")
def serve_command(context: typer.Context) -> dict[str, object]:
    """A HiveServer2 endpoint, until stopped; where: serve.host and serve.port."""
    from etl.warehouse import serve

    return serve.run(settings_of(context))


def print_rows(columns: list[str], rows: list[dict[str, Any]], output: Output) -> None:
    """Rows to stdout, and nothing else: a table, CSV, or one JSON array."""
    if output is Output.json:
        print(json.dumps(rows, default=str, ensure_ascii=False))
    elif output is Output.csv:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
    elif output is Output.table:
        from rich.console import Console
        from rich.table import Table

        table = Table(*columns)
        for row in rows:
            table.add_row(*["" if row[name] is None else str(row[name]) for name in columns])
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    else:
        raise UsageError(f"unknown format {output}")
