"""`millrace check`: judge a site's declaration on its data."""

import json
from typing import Annotated

import typer

from conf.console.cli import settings_of

check = typer.Typer(add_completion=False, help="Judge the declaration of your data on a sample of them.")


@check.command()
def check_command(
    context: typer.Context,
    rows: Annotated[
        int, typer.Option(min=1, help="of each source; more are sampled from all over its files")
    ] = 200_000,
) -> dict[str, object]:
    """Rows, columns, label and days of the declared files, and every fault at once; exit code 1 if there is one."""
    from conf import UserError
    from conf.site import current_site
    from conf.site.loading import site_folder
    from features.check import job

    site = current_site()
    if site is None:
        raise UserError("no site: name its file with --site site.py (or MILLRACE_SITE); millrace init drafts one")
    checked = job.run(settings_of(context), site, site_folder(), rows)
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
