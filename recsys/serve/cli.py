"""`millrace serve`: recommendations by HTTP."""

from typing import Annotated, Any

import typer

from conf.console.cli import settings_of

serve = typer.Typer(add_completion=False)


@serve.command()
def serve_command(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; other than loopback needs a token")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free one; 8080 by default", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="processes that answer; 1 by default", min=1)] = None,
) -> dict[str, Any]:
    """Answer by HTTP: recommend, rank, similar, events; what is promoted is taken up while it runs."""
    from recsys.serve import server

    values = {"serving.host": host, "serving.port": port, "serving.workers": workers}
    config = settings_of(context).with_values({name: value for name, value in values.items() if value is not None})
    return server.run(config)
