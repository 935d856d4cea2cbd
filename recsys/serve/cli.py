"""`millrace serve`: recommendations by HTTP."""

from typing import Annotated, Any, Literal

import typer

from conf.console.cli import settings_of
from recsys.serve.settings import ServingSettings

serve = typer.Typer(add_completion=False)


@serve.command()
def serve_command(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; other than loopback needs a token")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free one; 8080 by default", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="processes that answer; 1 by default", min=1)] = None,
    on: Annotated[
        Literal["workers", "ray"] | None, typer.Option(help="processes of this machine, or replicas under Ray Serve")
    ] = None,
) -> dict[str, Any]:
    """Answer by HTTP: recommend, rank, similar, events; what is promoted is taken up while it runs."""
    values = {"serving.host": host, "serving.port": port, "serving.workers": workers, "serving.on": on}
    config = settings_of(context).with_values({name: value for name, value in values.items() if value is not None})
    if config.get(ServingSettings).on == "ray":
        from recsys.serve.on_ray import server as ray_server

        return ray_server.run(config)
    from recsys.serve import server

    return server.run(config)
