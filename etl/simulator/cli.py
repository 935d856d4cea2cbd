"""`millrace simulate`: write a generated site's raw data into the landing zone."""

from typing import Annotated

import typer

from conf.console.cli import settings_of

simulate = typer.Typer(add_completion=False)


@simulate.command()
def simulate_command(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="number of days", min=1)] = 7,
    scale: Annotated[float, typer.Option(help="1 is some 200,000 impressions in 7 days", min=0.01)] = 1.0,
    seed: Annotated[int, typer.Option(help="same seed, same bytes", min=0)] = 7,
) -> dict[str, object]:
    """Write raw logs, events, users and items with known click probabilities into the landing zone."""
    from etl.simulator import simulate

    return simulate.run(settings_of(context), days=days, scale=scale, seed=seed)
