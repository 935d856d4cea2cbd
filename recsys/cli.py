"""Commands of the recommender: `millrace recsys …` and `millrace runs …`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from conf import Config, UsageError
from conf.console.cli import DayOption, one_of, parse_day, settings_of

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Recall, rank, recommend, evaluate.")
runs = typer.Typer(no_args_is_help=True, add_completion=False, help="Trained models and the champions among them.")

# Jobs are imported inside the commands: Spark, LightGBM and Numba take seconds, and `--help` needs none of them.


@app.command("recall")
def recall_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Propose candidates for every user from all channels, with their features."""
    from etl.session import spark_session
    from recsys.recall import candidates

    day, config = parse_day(date), settings_of(context)
    with spark_session(config) as spark:
        return candidates.run(spark, config, day)


@app.command("mf")
def mf_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Train the Bayesian matrix factorisation, a ranker and a recall channel."""
    from recsys.mf import train as mf

    return mf.run(settings_of(context), parse_day(date))


@app.command("coarse")
def coarse_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Train the coarse ranker (LightGBM)."""
    from recsys.coarse import train as coarse

    return coarse.run(settings_of(context), parse_day(date))


@app.command("fine")
def fine_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Train the fine ranker (an online factorisation machine)."""
    from recsys.fine import train as fine

    return fine.run(settings_of(context), parse_day(date))


@app.command("rank")
def rank_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Rank the candidates by the day's models, and measure the held-out lists."""
    from recsys.blend import rank

    return rank.run(settings_of(context), parse_day(date))


@app.command("promote")
def promote_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Promote the day's models and lists, if they are good enough."""
    from recsys.registry import promote

    return promote.run(settings_of(context), parse_day(date))


@app.command("run")
def run_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Run mf, recall, coarse, fine, rank and promote, one after the other."""
    from etl.session import spark_session
    from recsys.blend import rank
    from recsys.coarse import train as coarse
    from recsys.fine import train as fine
    from recsys.mf import train as mf
    from recsys.recall import candidates
    from recsys.registry import promote

    day, config = parse_day(date), settings_of(context)
    rank.check_order(config)
    mf.run(config, day)
    with spark_session(config) as spark:
        candidates.run(spark, config, day)
    # The session has ended: a training process never shares its memory with a JVM.
    coarse.run(config, day)
    fine.run(config, day)
    report = rank.run(config, day)
    promote.run(config, day)
    return report


@app.command("recommend")
def recommend_command(
    context: typer.Context,
    user: str,
    date: Annotated[str | None, typer.Option("--date", help="the day; default: the newest")] = None,
) -> None:
    """Print the list of one user as JSON; an unknown user gets what is hot and new.

    Ranks follow the blend and the re-ranking; `score` is the FM's click probability, so it need not fall with the rank.
    """
    from recsys.serve.recommend import recommend

    print(json.dumps(recommend(settings_of(context), user, parse_day(date) if date else None)))


@app.command("evaluate")
def evaluate_command(
    context: typer.Context,
    split: Annotated[str, typer.Option(help="random, time, leave-one-out or k-fold")] = "time",
    k: Annotated[int, typer.Option(help="length of the lists", min=1)] = 10,
    relevant_from: Annotated[float, typer.Option(help="least rating that is a positive; all by default")] = 0.0,
    seeds: Annotated[str, typer.Option(help="seeds of the split, as 1,2,3; metrics are means over them")] = "7",
    off_policy: Annotated[
        bool, typer.Option("--off-policy", help="judge the lists of a ranked day by the log of what the site showed")
    ] = False,
    date: Annotated[str | None, typer.Option("--date", help="that day; default: the newest")] = None,
) -> dict[str, Any]:
    """Measure precision, recall, nDCG and MAP of every channel and ranker on all data in the warehouse.

    With --off-policy: the clicks to expect of each list of a day, with intervals, into ads_off_policy.
    """
    from etl.session import spark_session
    from features.dataset.splits import SPLIT_METHODS
    from recsys.evaluation import evaluate

    one_of("split", split, SPLIT_METHODS)
    if not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise UsageError(f"--seeds must be whole numbers joined by commas, not '{seeds}'")
    config = settings_of(context)
    if off_policy:
        return _evaluate_off_policy(config, date, k)
    if date is not None:
        raise UsageError("--date is of --off-policy: other evaluations are of all data in the warehouse")
    with spark_session(config) as spark:
        numbers = [int(seed) for seed in seeds.split(",")]
        return evaluate.run(spark, config, split=split, k=k, relevant_from=relevant_from, seeds=numbers)


def _evaluate_off_policy(config: Config, date: str | None, k: int) -> dict[str, Any]:
    from etl.session import spark_session
    from recsys.evaluation import off_policy

    day = parse_day(date) if date else off_policy.newest_day(config)
    judgement = off_policy.judge(config, day, k)
    # Models have predicted: a training process never shares its memory with a JVM.
    with spark_session(config) as spark:
        return judgement.report | {"rows_out": off_policy.write(spark, config, day, judgement.rows)}


@app.command("answers")
def answers_command(
    context: typer.Context,
    date: DayOption,
    faq: Annotated[Path, typer.Option(help="file with the columns question and answer")],
    questions: Annotated[
        Path | None, typer.Option(help="file of questions to rank answers for; its own if none")
    ] = None,
) -> dict[str, Any]:
    """Rank the answers of an FAQ: fit, measure on held-out questions, and list the best of each question."""
    from recsys.answers import job

    return job.run(settings_of(context), parse_day(date), faq, questions)


@app.command("ask")
def ask_command(
    context: typer.Context,
    question: str,
    date: Annotated[str | None, typer.Option("--date", help="the day; default: the newest")] = None,
) -> None:
    """Print the best answers to a question as JSON, by the newest `recsys answers`."""
    from recsys.answers.job import ask

    print(json.dumps(ask(settings_of(context), question, parse_day(date) if date else None), ensure_ascii=False))


@runs.command("list")
def list_command(
    context: typer.Context,
    date: Annotated[str | None, typer.Option("--date", help="only this day")] = None,
    model: Annotated[str | None, typer.Option(help="only this model")] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="runs that go on or were killed, in place of finished ones")
    ] = False,
) -> None:
    """Print finished runs, newest first, as JSON: which are champions, were, or were rolled back."""
    from recsys.registry.runs import list_runs, list_unfinished

    rows = list_unfinished if unfinished else list_runs
    print(json.dumps(rows(settings_of(context), parse_day(date) if date else None, model), indent=2))


@runs.command("show")
def show_command(context: typer.Context, run_id: str) -> None:
    """Print a run's metrics and its lineage as JSON: data sets, the partitions behind them, other runs, code."""
    from recsys.registry.runs import describe_run

    print(json.dumps(describe_run(settings_of(context), run_id), indent=2))


@runs.command("rollback")
def rollback_command(context: typer.Context, date: DayOption) -> dict[str, Any]:
    """Take a day's promotion back: the champions before it are champions again, and their lists are published."""
    from recsys.registry.runs import rollback

    return rollback(settings_of(context), parse_day(date))
