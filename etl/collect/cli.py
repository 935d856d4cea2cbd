"""`millrace etl collect`: follow log files into the landing zone."""

from typing import Annotated

import typer

from conf.console.cli import settings_of

app = typer.Typer()


@app.command("collect")
def collect_command(
    context: typer.Context,
    pattern: Annotated[list[str] | None, typer.Argument(metavar="[PATTERN]...", help="files to follow")] = None,
    once: Annotated[bool, typer.Option("--once", help="stop when the files are read to their ends")] = False,
) -> dict[str, int]:
    """Follow log files into the landing zone, by day, hour and host; no line is lost or collected twice."""
    from etl.collect import collector

    return collector.run(settings_of(context), pattern or (), once=once)
