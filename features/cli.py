"""The commands `millrace features …`."""

from typing import Annotated, Any

import typer

from conf.console.cli import DayOption, one_of, parse_day, settings_of

# Jobs are imported inside their commands: `--help` needs no Spark.
app = typer.Typer(no_args_is_help=True, add_completion=False, help="Features and training sets.")


@app.command("build")
def build_command(
    context: typer.Context,
    date: DayOption,
    split: Annotated[
        str, typer.Option(help="day, or time, random, leave-one-out, k-fold over all data of the warehouse")
    ] = "day",
) -> dict[str, Any]:
    """Training set of a day, as Parquet with Petastorm's metadata."""
    from etl.session import spark_session
    from features.dataset import build
    from features.dataset.splits import SPLIT_METHODS

    one_of("split", split, ("day", *SPLIT_METHODS))
    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return build.run(spark, config, day, split)


@app.command("oracle")
def oracle_command(context: typer.Context, date: DayOption) -> dict[str, float]:
    """Measure what models can reach on a generated day, and what its lists are worth; nothing on real data."""
    from etl.session import spark_session
    from features.oracle import job

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return job.run(spark, config, day)


@app.command("profile")
def profile_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Interests of users in topics, counted and learned, to dws_user_interest."""
    from etl.session import spark_session
    from features import interests

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return interests.run(spark, config, day)


@app.command("covers")
def covers_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Covers of the items with their topic, for image models."""
    from etl.session import spark_session
    from features.dataset import covers

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return covers.run(spark, config, day)


@app.command("titles")
def titles_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Words of the items' titles with their topic, for text models."""
    from etl.session import spark_session
    from features.dataset import titles

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return titles.run(spark, config, day)


@app.command("report")
def report_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Missing values, drift, collinearity and information of the features of a day's training set."""
    from features.inspect import report

    return report.run(settings_of(context), parse_day(date))


@app.command("audit")
def audit_command(
    context: typer.Context,
    date: DayOption,
    share: Annotated[float, typer.Option(help="share of the users whose impressions are used", min=0.0, max=1.0)] = 1.0,
) -> dict[str, Any]:
    """Fail when a feature changes with later days (a leak), or is another one for a request than for training."""
    from etl.session import spark_session
    from features.inspect import audit

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return audit.run(spark, config, day, share)


@app.command("select")
def select_command(
    context: typer.Context,
    date: DayOption,
    method: Annotated[str, typer.Option(help="filter, wrapper or embedded")] = "filter",
    features: Annotated[int, typer.Option(help="how many to select at most", min=1)] = 10,
) -> dict[str, Any]:
    """Dense features of a day's training set worth keeping, and those to drop."""
    from features.inspect import selection

    return selection.run(settings_of(context), parse_day(date), method, features)
