"""Command line of deep training."""

from typing import Annotated, Any

import typer

from conf.cli import NotBuiltYet, parse_day, settings_of

app = typer.Typer(add_completion=False)


@app.command()
def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="deepfm, or module:builder")],
    date: Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")],
    backend: Annotated[str, typer.Option(help="local, ray, horovod or spark")] = "local",
    workers: Annotated[int, typer.Option(help="processes that train together", min=1)] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="go on in the newest unfinished run")] = False,
    check: Annotated[bool, typer.Option("--check", help="checks before a long run (not built yet)")] = False,
) -> dict[str, Any]:
    """Train a deep model on a day's training set."""
    if check:
        raise NotBuiltYet("millrace train --check")
    from training.train import run

    return run(settings_of(context), model, parse_day(date), backend=backend, workers=workers, resume=resume)
