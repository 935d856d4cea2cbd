"""Command line of searches."""

from typing import Annotated, Any

import typer

from conf.console.cli import DayOption, parse_day, settings_of

app = typer.Typer(add_completion=False)


@app.command()
def tune(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="fm, lightgbm, recall, or a deep model")],
    date: DayOption,
    search: Annotated[str, typer.Option(help="grid, random, bayes, evolution or pbt")] = "random",
    trials: Annotated[int, typer.Option(help="number of trials", min=1)] = 4,
    zoom: Annotated[bool, typer.Option("--zoom", help="wide and cheap first, then around the best")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on in the search that was broken off")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="use the best from now on: tuned/MODEL.yaml")] = False,
) -> dict[str, Any]:
    """Search settings on Ray Tune; what, how and within which limits is in the section tune."""
    # Imported when it runs: `--help` must not wait for Ray and Optuna.
    from tuning.run import Search, run

    return run(settings_of(context), model, parse_day(date), Search(search, trials, zoom, resume, apply))
