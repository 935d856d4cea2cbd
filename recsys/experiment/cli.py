"""`millrace experiment read`: what an A/B experiment says."""

from pathlib import Path
from typing import Annotated, Any

import typer

from conf import UsageError
from conf.console.cli import DayOption, parse_day, settings_of

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A/B experiments: what they say.")


@app.callback()
def experiment() -> None:
    """A/B experiments: what they say."""


@app.command("read")
def read_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="of the experiment, as serving.experiment had it")],
    date: DayOption,
    days: Annotated[int, typer.Option(min=1, help="days up to that one")] = 7,
    users: Annotated[Path | None, typer.Option(help="a table with a row a user, instead of what was served")] = None,
    user: Annotated[str, typer.Option(help="its column of users")] = "user_id",
    arm: Annotated[str, typer.Option(help="its column of arms")] = "arm",
    control: Annotated[str | None, typer.Option(help="arm to compare with; the first by name")] = None,
    share: Annotated[list[str] | None, typer.Option(help="ARM=WEIGHT, planned; equal ones without")] = None,
    guardrail: Annotated[list[str] | None, typer.Option(help="METRIC=SHARE that it may lose, as clicks=0.02")] = None,
) -> dict[str, Any]:
    """Differences of the arms, with intervals, into ads_experiment_metric; whether their sizes can be trusted."""
    from etl.session import spark_session
    from recsys.experiment.read import ReadOptions, read_file, read_served

    config, day = settings_of(context), parse_day(date)
    options = ReadOptions(
        control=control, weights=_numbers("share", share or []), guardrails=_numbers("guardrail", guardrail or [])
    )
    with spark_session(config) as spark:
        if users is not None:
            return read_file(spark, config, name, day, users.absolute(), (user, arm), options)
        return read_served(spark, config, name, day, days, options)


def _numbers(option: str, texts: list[str]) -> dict[str, float]:
    numbers = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or not name or not numbers.get(name, -1.0) >= 0:
            raise UsageError(f"--{option} '{text}': write it as NAME=NUMBER")
    return numbers
