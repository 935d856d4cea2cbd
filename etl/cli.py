"""`millrace etl`: the commands that turn raw data into warehouse tables; each is defined beside its job."""

import typer

from etl.collect import cli as collect
from etl.events import cli as events
from etl.relational import cli as relational
from etl.results import cli as results
from etl.streams import cli as streams
from etl.weblog import cli as weblog

etl = typer.Typer(no_args_is_help=True, add_completion=False, help="Raw data into warehouse tables.")
# Their modules import Typer alone: `millrace etl --help` and a wrong argument must not wait for Spark.
for subject in (weblog, events, relational, results, collect, streams):
    etl.add_typer(subject.app)  # without a name, its commands become commands of `millrace etl`
