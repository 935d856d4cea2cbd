"""`millrace etl results`: finished run folders into warehouse tables."""

import typer

from conf.console.cli import settings_of

app = typer.Typer()


@app.command("results")
def results_command(context: typer.Context) -> dict[str, int]:
    """Finished run folders -> ads_model_metric, ads_tuning_trial, ads_recommendation …, each run once."""
    from etl.results import job as results
    from etl.session import spark_session

    config = settings_of(context)
    with spark_session(config) as spark:
        return results.run(spark, config)
