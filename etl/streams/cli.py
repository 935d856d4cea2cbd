"""`millrace etl stream`: hottest topics and products of the events as they land."""

from typing import Annotated

import typer

from conf.console.cli import one_of, settings_of

app = typer.Typer()


@app.command("stream")
def stream_command(
    context: typer.Context,
    name: str,
    once: Annotated[bool, typer.Option("--once", help="stop after the events that have landed")] = False,
) -> dict[str, int]:
    """Rolling counts over sliding windows: hot-topics -> ads_hot_topic, hot-products -> ads_hot_product."""
    from etl.session import spark_session
    from etl.streams import hot

    config = settings_of(context)
    one_of("stream", name, hot.STREAMS)
    with spark_session(config) as spark:
        return hot.run(spark, config, name, once=once)
