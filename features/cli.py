"""Command line of the features."""

from typing import Annotated, Any

import typer

from conf.cli import one_of, parse_day, settings_of

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Features and training sets.")
Day = Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")]


@app.command("build")
def command(
    context: typer.Context,
    date: Day,
    split: Annotated[str, typer.Option(help="day, or time, random, leave-one-out over all data")] = "day",
) -> dict[str, Any]:
    """Training set of a day, as Parquet with Petastorm's metadata."""
    from etl.session import spark_session
    from features.dataset import build
    from features.dataset.splits import SPLITS

    one_of("split", split, ("day", *SPLITS))
    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return build.run(spark, config, day, split)


@app.command("oracle")
def oracle_command(
    context: typer.Context,
    date: Day,
) -> dict[str, float]:
    """Best possible AUC and log loss of a generated day, for comparison; nothing on real data."""
    from etl.session import spark_session
    from features.inspect import oracle

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return oracle.run(spark, config, day)


@app.command("profile")
def profile_command(
    context: typer.Context,
    date: Day,
) -> dict[str, Any]:
    """Interests of users in topics, counted and learned, to dws_user_interest."""
    from etl.session import spark_session
    from features import profile

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return profile.run(spark, config, day)


@app.command("covers")
def covers_command(
    context: typer.Context,
    date: Day,
) -> dict[str, Any]:
    """Covers of the items with their topic, for image models."""
    from etl.session import spark_session
    from features.dataset import media

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return media.run_covers(spark, config, day)


@app.command("titles")
def titles_command(
    context: typer.Context,
    date: Day,
) -> dict[str, Any]:
    """Words of the items' titles with their topic, for text models."""
    from etl.session import spark_session
    from features.dataset import media

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return media.run_titles(spark, config, day)


@app.command("report")
def report_command(
    context: typer.Context,
    date: Day,
) -> dict[str, Any]:
    """Missing values, drift, collinearity and worth of the features of a day's training set."""
    from features.inspect import report

    return report.run(settings_of(context), parse_day(date))
