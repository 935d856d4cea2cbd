"""`millrace check`: judge a site's declaration on its data."""

import json
from typing import Annotated

import typer

from conf.console.cli import parse_day, settings_of

check = typer.Typer(add_completion=False, help="Judge the declaration of your data on a sample of them.")


@check.command()
def check_command(
    context: typer.Context,
    date: Annotated[
        str | None, typer.Option("--date", help="the day of {date} in patterns and queries; every day without it")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="of each source; more are sampled from all over its files")
    ] = 200_000,
) -> dict[str, object]:
    """Rows, columns, label and days of the declared data, and every fault at once; exit code 1 if there is one."""
    from conf import UserError
    from conf.site import Query, current_site
    from conf.site.checks import site_parts
    from conf.site.loading import site_folder
    from features.check import job

    site = current_site()
    if site is None:
        raise UserError("no site: name its file with --site site.py (or MILLRACE_SITE); millrace init drafts one")
    config, day = settings_of(context), parse_day(date) if date else None
    if any(isinstance(part.source, Query) for part in site_parts(site)):
        from etl.ingest.sites.queries import query_files
        from etl.session import spark_session

        with spark_session(config) as spark, query_files(spark, config, site, site_folder(), day) as queried:
            checked = job.run(config, site, site_folder(), rows, day, queried)
    else:
        checked = job.run(config, site, site_folder(), rows, day)
    typer.echo("\n".join(checked.lines))
    counts = {
        "rows": checked.rows,
        "faults": checked.num_faults,
        "warnings": len(checked.findings) - checked.num_faults,
    }
    if checked.num_faults:
        typer.echo(json.dumps(counts))
        raise typer.Exit(1)
    return dict(counts)
