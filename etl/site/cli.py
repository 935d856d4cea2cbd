"""`millrace init`: draft the declaration of a site."""

from pathlib import Path
from typing import Annotated

import typer

init = typer.Typer(add_completion=False, help="Draft the declaration of your data.")


@init.command()
def init_command(
    paths: Annotated[
        list[str], typer.Option("--from", help="file, folder or pattern with *; several, one after the other")
    ],
    more: Annotated[list[str] | None, typer.Argument(help="more of them", metavar="[PATHS]...")] = None,
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("site.py"),
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
) -> dict[str, object]:
    """Look at files and write what they seem to be: Python, with the figures of each guess, for you to correct."""
    from etl.site import job

    return job.run([*paths, *(more or [])], out, replaces=force)
