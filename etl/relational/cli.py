"""`millrace etl import` and `millrace etl export`: tables from and to relational databases."""

from typing import Annotated

import typer

from conf.console.cli import DayOption, one_of, parse_day, settings_of
from conf.site import current_site

app = typer.Typer()


@app.command("import")
def import_command(
    context: typer.Context,
    date: DayOption,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="users, items, relational.imports; default: all")
    ] = None,
) -> dict[str, int]:
    """Tables of relational databases -> dim_user, dim_item, and ods_NAME for those of relational.imports."""
    from etl.relational import imports
    from etl.session import spark_session

    day, config = parse_day(date), settings_of(context)
    choices = imports.find_imports(config)
    for name in names or ():
        one_of("import", name, choices)
    if not names and current_site() is not None and not imports.has_databases(config):
        return {"rows_in": 0}  # the site declares its sources
    with spark_session(config) as spark:
        return imports.run(spark, config, day, names or ())


@app.command("export")
def export_command(
    context: typer.Context,
    date: DayOption,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="relational.exports; default: all")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option(help="an id of your own; a run that the target already has is not exported again")
    ] = None,
) -> dict[str, int]:
    """A day of result tables to a relational database or text files, as relational.exports says."""
    from etl.relational import exports
    from etl.session import spark_session
    from etl.stage import total_counts

    day, config = parse_day(date), settings_of(context)
    selected = exports.select_exports(config, names or ())
    if not selected:
        return total_counts({})
    with spark_session(config) as spark:
        return exports.run(spark, config, selected, day, run_id)
