"""`millrace etl events`: events of the site into warehouse tables."""

import typer

from conf import Paths
from conf.console.cli import DayOption, SinceOption, parse_days, settings_of

app = typer.Typer()


@app.command("events")
def events_command(context: typer.Context, date: DayOption, since: SinceOption = None) -> dict[str, int]:
    """Events of the site -> dwd_impression, dwd_interaction, ads_ctr_daily; served lists -> dwd_served."""
    from etl.events import job as events
    from etl.session import spark_session
    from etl.sources.lines import has_other_sources

    days, config = parse_days(date, since), settings_of(context)
    if has_other_sources(config.get(Paths), "events", days):
        return {"rows_in": 0}
    with spark_session(config) as spark:
        return events.run(spark, config, days)
