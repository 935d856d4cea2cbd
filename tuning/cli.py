"""Command line of searches."""

from typing import Annotated, Any

import typer

from conf.cli import parse_day, settings_of

app = typer.Typer(add_completion=False)


@app.command()
def tune(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="fm")],
    date: Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")],
    search: Annotated[str, typer.Option(help="random; grid, bayes, evolution and pbt are not built yet")] = "random",
    trials: Annotated[int, typer.Option(help="number of trials", min=1)] = 4,
) -> dict[str, Any]:
    """Search hyper-parameters on Ray Tune."""
    from tuning.search import run

    return run(settings_of(context), model, parse_day(date), search=search, trials=trials)
