"""`millrace ingest`: data of other systems into the warehouse."""

from pathlib import Path
from typing import Annotated

import typer

from conf.console.cli import settings_of

ingest = typer.Typer(no_args_is_help=True, add_completion=False, help="Data of other systems into the warehouse.")


@ingest.callback()
def ingest_group() -> None:
    """Keeps `interactions` a sub-command: Typer would make a single command the application itself."""


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
    from etl.ingest.formats import check_files
    from etl.session import spark_session

    check_files(format, ratings, items, users)
    config = settings_of(context)
    with spark_session(config) as spark:
        return job.run(spark, config, ratings=ratings, items=items, users=users, format_name=format)
