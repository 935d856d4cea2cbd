"""`millrace report` and `millrace metrics`: a day's stages and row counts, and how good its models are."""

from typing import Annotated

import typer

from conf.console.cli import DayOption, OutputFormat, OutputOption, parse_day, settings_of
from conf.console.terminal import print_rows

report = typer.Typer(add_completion=False)
metrics = typer.Typer(add_completion=False)


@report.command()
def report_command(context: typer.Context, date: DayOption) -> dict[str, object]:
    """The stages, rows and metrics of a day, and a page of charts: reports/DAY.html."""
    from etl.report import job as report
    from etl.report import page
    from etl.session import spark_session

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return {**report.run(spark, config, day), "page": str(page.write(spark, config, day))}


@metrics.command()
def metrics_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="only this day")] = None,
    format: OutputOption = OutputFormat.table,
) -> None:
    """The newest metrics of every model."""
    from etl.report.job import newest_metrics
    from etl.session import spark_session

    day, config = parse_day(date) if date else None, settings_of(context)
    with spark_session(config) as spark:
        frame = newest_metrics(spark, config, day).orderBy("dt", "stage", "model", "split", "metric", "k")
        print_rows(frame.columns, frame.collect(), format)
