"""Command lines of the recommender."""

import json
from typing import Annotated, Any

import typer

from conf import UsageError
from conf.cli import one_of, parse_day, settings_of

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Recall, rank, recommend, evaluate.")
runs = typer.Typer(no_args_is_help=True, add_completion=False, help="Models that were trained, and the champions.")
Day = Annotated[str, typer.Option("--date", help="the day, as 2026-01-07")]


@app.command("recall")
def recall_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Candidates of every user from all channels, with their features."""
    from etl.session import spark_session
    from recsys.recall import candidates

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return candidates.run(spark, config, day)


@app.command("coarse")
def coarse_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Train the coarse ranker (LightGBM)."""
    from recsys.coarse import train as coarse

    return coarse.run(settings_of(context), parse_day(date))


@app.command("fine")
def fine_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Train the fine ranker (online FM)."""
    from recsys.fine import train

    return train.run(settings_of(context), parse_day(date))


@app.command("rank")
def rank_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Rank the candidates with the day's models, and measure the held-out lists."""
    from recsys.blend import rank

    return rank.run(settings_of(context), parse_day(date))


@app.command("promote")
def promote_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Let the day's lists be published, if the models are good for anything."""
    from recsys.registry import promote

    return promote.run(settings_of(context), parse_day(date))


@app.command("run")
def run_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Recall, coarse, fine, rank and promote, one after the other."""
    from etl.session import spark_session
    from recsys.blend import rank
    from recsys.coarse import train as coarse
    from recsys.fine import train
    from recsys.recall import candidates
    from recsys.registry import promote

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        candidates.run(spark, config, day)
    coarse.run(config, day)
    train.run(config, day)
    report = rank.run(config, day)
    promote.run(config, day)
    return report


@app.command("recommend")
def recommend_command(
    context: typer.Context,
    user: str,
    date: Annotated[str | None, typer.Option("--date", help="the day; default: the newest")] = None,
) -> None:
    """The list of one user, as JSON."""
    from recsys.serve.recommend import recommend

    print(json.dumps(recommend(settings_of(context), user, parse_day(date) if date else None)))


@app.command("evaluate")
def evaluate_command(
    context: typer.Context,
    split: Annotated[str, typer.Option(help="random, time, leave-one-out or k-fold")] = "time",
    k: Annotated[int, typer.Option(help="length of the lists", min=1)] = 10,
    relevant_from: Annotated[float, typer.Option(help="ratings from here on are relevant; all by default")] = 0.0,
    seeds: Annotated[str, typer.Option(help="seeds of the split, as 1,2,3; numbers are means over them")] = "7",
) -> dict[str, Any]:
    """Precision, recall, nDCG and MAP of every channel and step over all that the warehouse holds."""
    from etl.session import spark_session
    from features.dataset.splits import SPLIT_METHODS
    from recsys.evaluation import evaluate

    one_of("split", split, SPLIT_METHODS)
    if not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise UsageError(f"--seeds wants numbers joined by commas, not '{seeds}'")
    config = settings_of(context)
    with spark_session(config) as spark:
        numbers = [int(seed) for seed in seeds.split(",")]
        return evaluate.run(spark, config, split=split, k=k, relevant_from=relevant_from, seeds=numbers)


@runs.command("list")
def list_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="only this day")] = None,
    model: Annotated[str | None, typer.Option(help="only this model")] = None,
) -> None:
    """Finished runs, newest first, as JSON: which are champions, were, or were rolled back."""
    from recsys.registry.registry import runs_of

    print(json.dumps(runs_of(settings_of(context), parse_day(date) if date else None, model), indent=2))


@runs.command("show")
def show_command(context: typer.Context, run_id: str) -> None:
    """Where a run's numbers came from, as JSON: data sets, the partitions behind them, other runs, code."""
    from recsys.registry.registry import show

    print(json.dumps(show(settings_of(context), run_id), indent=2))


@runs.command("rollback")
def rollback_command(context: typer.Context, date: Day) -> dict[str, Any]:
    """Take a day's promotion back: the champions before it are champions again, and their lists are published."""
    from recsys.registry.registry import rollback

    return rollback(settings_of(context), parse_day(date))
