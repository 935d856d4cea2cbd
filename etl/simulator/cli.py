"""`millrace simulate`: write a generated site's raw data into the landing zone."""

from typing import Annotated

import typer

from conf import UsageError
from conf.console.cli import one_of, settings_of

simulate = typer.Typer(add_completion=False)

SCALE, SEED = 1.0, 7


@simulate.command()
def simulate_command(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="number of days", min=1)] = 7,
    scale: Annotated[
        float | None, typer.Option(help="1 is some 200,000 impressions in 7 days", min=0.01, show_default=str(SCALE))
    ] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same bytes", min=0, show_default=str(SEED))] = None,
    append: Annotated[bool, typer.Option("--append", help="add the days after those that are there")] = False,
    policy: Annotated[str, typer.Option(help="whose lists are shown: site, or published to a share of users")] = "site",
    share: Annotated[
        float | None, typer.Option(help="of the users who see published lists", show_default="0.5")
    ] = None,
    explore: Annotated[
        float | None, typer.Option(help="probability of a random item at a place of these", show_default="0.05")
    ] = None,
) -> dict[str, object]:
    """Write raw logs, events, users and items with known click probabilities into the landing zone."""
    from etl.simulator import simulate
    from etl.simulator.published import PublishedPolicy

    one_of("policy", policy, ("site", "published"))
    options = {name: value for name, value in (("share", share), ("explore", explore)) if value is not None}
    if policy == "site" and options:
        raise UsageError(f"--{min(options)} is of --policy published")
    chosen = PublishedPolicy(**options) if policy == "published" else None
    config = settings_of(context)
    if not append:
        scale, seed = SCALE if scale is None else scale, SEED if seed is None else seed
        return simulate.run(config, days=days, scale=scale, seed=seed, policy=chosen)
    if scale is not None or seed is not None:
        raise UsageError("--append goes on with the site that is there: leave out --scale and --seed")
    return simulate.append(config, days=days, policy=chosen)
