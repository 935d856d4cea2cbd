"""Command lines over whole days: run, demo, dags, submit, and config."""

from typing import Annotated, Any

import typer
import yaml

from conf.console.cli import DayOption, one_of, parse_days, settings_of
from dags.stages import NAMES

run = typer.Typer(add_completion=False)
demo = typer.Typer(add_completion=False)
dags = typer.Typer(no_args_is_help=True, add_completion=False, help="A local Airflow with Millrace's DAGs.")
submit = typer.Typer(add_completion=False)
config = typer.Typer(no_args_is_help=True, add_completion=False, help="Settings.")


@run.command()
def run_command(
    context: typer.Context,
    date: DayOption,
    since: Annotated[str | None, typer.Option("--since", help="load the days from this one first")] = None,
    first: Annotated[str | None, typer.Option("--from", help="first stage")] = None,
    last: Annotated[str | None, typer.Option("--to", help="last stage")] = None,
    only: Annotated[str | None, typer.Option("--only", help="this stage alone")] = None,
) -> dict[str, Any]:
    """Walk the stages of a day in one process."""
    from dags import walk

    parse_days(date, since)
    stages = walk.chosen(first, last, only)
    with walk.engines(settings_of(context)) as opened:
        done = walk.walk(opened, stages, date, since=since)
    return {"date": date, "seconds": {row["stage"]: row["seconds"] for row in done}}


@demo.command()
def demo_command(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="days to generate; the last one is run", min=3)] = 7,
    scale: Annotated[float, typer.Option(help="1 is some 200,000 impressions in 7 days", min=0.01)] = 1.0,
    seed: Annotated[int, typer.Option(help="same seed, same numbers", min=0)] = 7,
    loop: Annotated[int, typer.Option(help="days after these, that show half of the users published lists", min=0)] = 0,
) -> dict[str, Any]:
    """The whole day on generated data, then a summary and where to look."""
    if loop:
        from dags import loop as closed

        return closed.run(settings_of(context), days=days, loop=loop, scale=scale, seed=seed)
    from dags import demonstrate

    return demonstrate.run(settings_of(context), days=days, scale=scale, seed=seed)


@dags.command("up")
def up_command(context: typer.Context) -> dict[str, Any]:
    """Start a local Airflow with all DAGs, and tell where it is and how to log in."""
    from dags import local_airflow

    return local_airflow.up(settings_of(context))


@dags.command("down")
def down_command(context: typer.Context) -> dict[str, Any]:
    """Stop the local Airflow with all that it started."""
    from dags import local_airflow

    return local_airflow.down(settings_of(context))


@dags.command("backfill")
def backfill_command(
    context: typer.Context,
    date: Annotated[str, typer.Option("--date", help="the last day, as 2026-01-07")],
    since: Annotated[str | None, typer.Option("--since", help="the first day")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="this stage; may be repeated")] = None,
    backwards: Annotated[bool, typer.Option("--backwards", help="newest day first")] = False,
    again: Annotated[bool, typer.Option("--again", help="also days that were run before")] = False,
    at_once: Annotated[int, typer.Option(help="days at a time", min=1)] = 2,
) -> dict[str, int]:
    """Have the local Airflow run the daily DAG for past days."""
    from dags import local_airflow

    days, config, stages = parse_days(date, since), settings_of(context), only or []
    # Here, where the message can list the stages; Airflow's would be about a JSON schema.
    for stage in stages:
        one_of("stage", stage, NAMES)
    done = local_airflow.backfill(config, days, stages=stages, backwards=backwards, again=again, at_once=at_once)
    return {"days": done}


# No help option of its own: `--help` is Airflow's, too.
@dags.command(
    "airflow",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def airflow_command(context: typer.Context) -> None:
    """Airflow's own command line on the local Airflow: `millrace dags airflow dags list`."""
    from dags import local_airflow

    raise typer.Exit(local_airflow.airflow(settings_of(context), context.args))


# Options after the first word are of the command that is sent.
@submit.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def submit_command(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="any other command line of millrace")],
    on: Annotated[str | None, typer.Option("--on", help="ray or spark; by default what the command uses")] = None,
) -> dict[str, Any]:
    """Run a command on the Ray cluster (ray.jobs) or by spark-submit (spark.master), with its log here."""
    from dags.submit import run

    return run(settings_of(context), words, on)


@config.callback()
def config_group() -> None:
    """Keeps `show` a sub-command although it is the only one."""


@config.command("show")
def show_command(context: typer.Context) -> None:
    """Every setting with its value, secrets masked, as YAML."""
    resolved = settings_of(context, creates_home=False)
    print(f"# profile: {resolved.profile}\n" + yaml.safe_dump(resolved.resolved(), sort_keys=False), end="")
