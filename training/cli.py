"""Commands of deep training: `millrace train`, `millrace predict` and `millrace model …`.

Each imports what it runs when it runs: `--help` must not wait for torch.
"""

from typing import Annotated, Any

import typer

from conf.console.cli import DayOption, parse_day, settings_of

app = typer.Typer(add_completion=False)
predict = typer.Typer(add_completion=False)
model = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Models of finished runs: export, compress, combine, choose."
)
Run = Annotated[str, typer.Argument(help="run id, as `train` prints it")]


@app.command()
def train(
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(help="deepfm, din … (an unknown name lists all), or module:builder")],
    date: DayOption,
    backend: Annotated[str | None, typer.Option(help="local, ray, horovod or spark; else train.backend")] = None,
    workers: Annotated[
        int | None, typer.Option(help="processes that train together; else train.workers", min=1)
    ] = None,
    daily: Annotated[
        bool, typer.Option("--daily", help="horovod with 2 workers, unless options or settings have others")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue the newest unfinished run")] = False,
    check: Annotated[bool, typer.Option("--check", help="check model and settings before a long run")] = False,
    teacher: Annotated[
        str | None, typer.Option(help="run whose predictions are soft targets beside the labels")
    ] = None,
) -> dict[str, Any]:
    """Train deep models on a day's data set."""
    config, day = settings_of(context), parse_day(date)
    if check:
        from training import checks

        checked = [checks.run(config, name, day) for name in models]
        return checked[0] if len(checked) == 1 else {"checked": checked}
    from training.train import TrainOptions, choose_backend, run

    options = TrainOptions(*choose_backend(config, backend, workers, daily=daily), resume, teacher)
    return run(config, models, day, options)


@predict.command()
def predict_command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="predict by its newest run for the day")],
    date: DayOption,
    run_id: Annotated[str | None, typer.Option("--run", help="predict by this run instead of the newest")] = None,
    split: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    k: Annotated[int, typer.Option(help="items for each row, by models that rank items", min=1)] = 20,
) -> dict[str, Any]:
    """Predict the rows of a split; `etl results` loads the predictions into ads_prediction."""
    from training.finished.predict import run

    return run(settings_of(context), model, parse_day(date), run_id=run_id, split=split, k=k)


@model.command("export")
def export_command(context: typer.Context, run_id: Run) -> dict[str, Any]:
    """Export a model to ONNX: model.onnx beside the weights, checked against the model."""
    from training.finished.export import export
    from training.finished.trained import load_trained_model

    return {"run_id": run_id, "file": str(export(load_trained_model(settings_of(context), run_id)))}


@model.command("compress")
def compress_command(
    context: typer.Context,
    run_id: Run,
    how: Annotated[str, typer.Option(help="prune, factorise, float16 or int8")],
    amount: Annotated[
        float, typer.Option(help="share of weights to prune, or of the rank to keep", min=0, max=1)
    ] = 0.5,
) -> dict[str, Any]:
    """Compress a model into a run of its own; metrics, size and latency before and after."""
    from training.finished.compress import run

    return run(settings_of(context), run_id, how, amount)


@model.command("ensemble")
def ensemble_command(
    context: typer.Context,
    run_ids: Annotated[list[str], typer.Argument(help="two runs or more")],
    how: Annotated[str, typer.Option(help="average or stack")] = "average",
) -> dict[str, Any]:
    """Combine several models into one, by mean or by stacking."""
    from training.finished.ensemble import run

    return run(settings_of(context), run_ids, how)


@model.command("choose")
def choose_command(
    context: typer.Context,
    date: DayOption,
    best: Annotated[str, typer.Option(help="validation metric to optimise")] = "log_loss",
    limit: Annotated[list[str] | None, typer.Option(help="constraint, as latency_ms<=5; may be repeated")] = None,
) -> dict[str, Any]:
    """Choose the best of a day's deep models within all limits."""
    from training.finished.compare import choose

    return choose(settings_of(context), parse_day(date), best, limit or [])


@model.command("gap")
def gap_command(
    context: typer.Context,
    run_id: Run,
    best_possible: Annotated[float, typer.Option(help="expected log loss of the true probabilities")] = 0.0,
) -> dict[str, Any]:
    """Split a run's loss into bias, variance and data mismatch; it was trained with train.train_dev."""
    from training.finished.compare import gap

    return gap(settings_of(context), run_id, best_possible)
