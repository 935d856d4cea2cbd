"""Command lines over whole days: run, demo, dags, submit, and config."""

from typing import Annotated, Any

import typer
import yaml

from conf.cli import NotBuiltYet, parse_days, settings_of

run = typer.Typer(add_completion=False)
demo = typer.Typer(add_completion=False)
dags = typer.Typer(no_args_is_help=True, add_completion=False, help="A local Airflow with Millrace's DAGs.")
submit = typer.Typer(add_completion=False)
config = typer.Typer(no_args_is_help=True, add_completion=False, help="Settings.")


@run.command()
def run_command(
    context: typer.Context,
    date: Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")],
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
) -> dict[str, Any]:
    """The whole day on generated data, then a summary and where to look."""
    from dags import demonstrate

    return demonstrate.run(settings_of(context), days=days, scale=scale, seed=seed)


@dags.command("up")
def up_command() -> None:
    """Start a local Airflow (not built yet)."""
    raise NotBuiltYet(
        "millrace dags up",
        "point Airflow at the folder `dags/`: AIRFLOW__CORE__DAGS_FOLDER=$PWD/dags airflow standalone",
    )


@dags.command("down")
def down_command() -> None:
    """Stop the local Airflow (not built yet)."""
    raise NotBuiltYet("millrace dags down")


@submit.command()
def submit_command(job: str) -> None:
    """Send a job to a cluster (not built yet)."""
    raise NotBuiltYet(f"millrace submit {job}", "set spark.master or ray.address and run the job's own command")


@config.callback()
def config_group() -> None:
    """Keeps `show` a sub-command although it is the only one."""


@config.command("show")
def show_command(context: typer.Context) -> None:
    """Every setting with its value, secrets masked, as YAML."""
    found = settings_of(context)
    print(f"# profile: {found.profile}\n" + yaml.safe_dump(found.resolved(), sort_keys=False), end="")
