"""The stages of a day, once, in order, as plain data: `millrace run` walks them, `dags/daily.py` makes the DAG of them.

A stage is a command line. Standard library only: Airflow parses this file again and again.
"""

from dataclasses import dataclass
from typing import Literal

POOL = "millrace_metastore"
"""Airflow's pool of the Spark tasks: as many slots as the metastore serves sessions."""


@dataclass(frozen=True)
class Stage:
    """One command of the day; `{date}` in it stands for the day. Inputs and outputs name tables and data sets."""

    name: str
    command: str
    about: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    engine: Literal["spark", "ray", "none"] = "none"
    minutes: int = 60
    takes_since: bool = False

    def arguments(self, date: str, since: str | None = None) -> list[str]:
        """Words of the command line after `millrace`."""
        words = self.command.format(date=date).split()
        return [*words, "--since", since] if since and self.takes_since else words


STAGES: tuple[Stage, ...] = (
    Stage(
        "collect",
        "etl collect --once",
        "new lines of the log files of collect.patterns, into the landing zone",
        outputs=("landing/weblog",),
    ),
    Stage(
        "weblog",
        "etl weblog --date {date}",
        "web logs to requests, visits, visitors and the analysts' tables",
        inputs=("landing/weblog",),
        outputs=(
            "dwd_weblog_request",
            "ods_weblog_origin",
            "ods_weblog_detail",
            "ods_quarantine",
            "ods_click_stream_pageviews",
            "ods_click_stream_visit",
            "dim_page",
            "dim_referrer",
            "dim_user_agent",
            "dim_visitor",
            "ads_pv_hourly",
            "ads_pv_daily",
            "ads_pv_referer_hourly",
            "ads_pv_ref_host_hourly",
            "ads_ref_host_top3_hourly",
            "ads_page_top10",
            "ads_visitor_daily",
            "ads_new_visitor",
            "ads_returning_visitor",
            "ads_funnel",
        ),
        engine="spark",
        takes_since=True,
    ),
    Stage(
        "import",
        "etl import --date {date}",
        "users, items and relational.imports from databases",
        outputs=("dim_user", "dim_item"),
        engine="spark",
    ),
    Stage(
        "events",
        "etl events --date {date}",
        "events to impressions and interactions",
        # ods_quarantine has rows of several stages: it is no stage's input, and so no edge.
        outputs=("dwd_impression", "dwd_interaction", "dwd_served", "ods_quarantine", "ads_ctr_daily"),
        engine="spark",
        takes_since=True,
    ),
    Stage(
        "site",
        "ingest site --date {date}",
        # Without a site of one's own it does nothing.
        "files that the site declares to users, items, interactions and impressions",
        # After the events, which replace their days whole; what a site's files have is added.
        inputs=("dwd_impression", "dwd_interaction", "dim_user", "dim_item"),
        outputs=("dim_user", "dim_item", "dwd_impression", "dwd_interaction", "ods_quarantine"),
        engine="spark",
    ),
    Stage(
        "features",
        "features build --date {date}",
        "training set with a stable feature index",
        inputs=("dwd_impression", "dwd_interaction", "dim_user", "dim_item"),
        outputs=("dim_feature_index", "examples"),
        engine="spark",
    ),
    Stage(
        "profile",
        "features profile --date {date}",
        "interests of users in topics",
        inputs=("dwd_impression", "dwd_interaction", "dim_item"),
        outputs=("dws_user_interest",),
        engine="spark",
    ),
    Stage(
        "feature_report",
        "features report --date {date}",
        "missing values, drift and collinearity of the features",
        inputs=("examples",),
        outputs=("runs/features",),
    ),
    Stage(
        "mf",
        "recsys mf --date {date}",
        "Bayesian matrix factorisation, a ranker and a recall channel",
        inputs=("examples",),
        outputs=("runs/mf",),
    ),
    Stage(
        "recall",
        "recsys recall --date {date}",
        "candidates from all channels",
        inputs=("examples", "runs/mf", "dim_user", "dim_item"),
        outputs=("dws_recall_candidate", "candidates"),
        engine="spark",
    ),
    Stage("coarse", "recsys coarse --date {date}", "LightGBM", inputs=("examples",), outputs=("runs/lightgbm",)),
    Stage("fine", "recsys fine --date {date}", "online FM", inputs=("examples",), outputs=("runs/fm",)),
    Stage(
        "train",
        "train deepfm --date {date} --daily",
        "DeepFM, on Horovod unless train.backend says otherwise",
        inputs=("examples",),
        outputs=("runs/deepfm",),
        engine="ray",
        minutes=240,
    ),
    Stage(
        "evaluate",
        "recsys rank --date {date}",
        "ranked lists, measured and to serve",
        inputs=("candidates", "runs/mf", "runs/lightgbm", "runs/fm"),
        outputs=("runs/recommend",),
    ),
    Stage(
        "oracle",
        "features oracle --date {date}",
        # On real data there is no truth, and the stage does nothing.
        "what models can reach at best, and what each list is worth, on generated data",
        inputs=("examples", "runs/recommend"),
        outputs=("runs/best_possible", "runs/best_learnable"),
        engine="spark",
    ),
    Stage(
        "promote",
        "recsys promote --date {date}",
        "champions: whether the new models replace them, and whose lists are published",
        inputs=("runs/recommend", "runs/lightgbm", "runs/fm"),
        outputs=("runs/promoted",),
    ),
    Stage(
        "publish",
        "etl results",
        "run folders to Hive tables",
        # It loads all run folders; named are those that no other stage waits for, so that it comes after all.
        inputs=("runs/promoted", "runs/deepfm", "runs/best_possible", "runs/features"),
        outputs=(
            "ads_model_metric",
            "ads_recommendation",
            "ads_recall_daily",
            "ads_recall_funnel",
            "ads_tuning_trial",
            "ads_tuning_best",
            "ads_prediction",
            "dim_model",
        ),
        engine="spark",
    ),
    Stage(
        "export",
        "etl export --date {date}",
        "result tables to where relational.exports says",  # nothing, as long as it is empty
        inputs=("ads_pv_daily", "ads_ctr_daily", "ads_model_metric", "ads_recommendation"),
        engine="spark",
    ),
    Stage(
        "report",
        "report --date {date}",
        "the day's stages, rows and metrics, and its page",
        inputs=("ads_model_metric", "ops_run"),  # ops_run is written by every stage on Spark, and is no edge
        engine="spark",
    ),
)

NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)

# Weekly rather than daily, and part of the demo.
TUNE = Stage(
    "tune",
    "tune fm --date {date} --search random --trials 4",
    "random search of the FM's rate and penalties on Ray Tune",
    inputs=("examples",),
    outputs=("runs/tune-fm",),
    engine="ray",
)


# Of the demo: the search comes before `publish`, which loads its trials; nothing is exported.
DEMO: tuple[Stage, ...] = (
    *STAGES[: NAMES.index("publish")],
    TUNE,
    *(stage for stage in STAGES if stage.name in ("publish", "report")),
)


# The last of each may not write a table that starts the DAG again.
WEEKLY: tuple[Stage, ...] = (
    *(
        Stage(
            f"tune_{model}",
            f"tune {model} --date {{date}} --search bayes --trials {trials} --apply",
            f"search of the settings of {model}, used from the next day on",
            inputs=("examples",),
            outputs=(f"runs/tune-{model}",),
            engine="ray",
            minutes=240,
        )
        for model, trials in (("fm", 40), ("lightgbm", 30))
    ),
    Stage(
        "publish",
        "etl results",
        "trials to Hive tables",
        inputs=("runs/tune-fm", "runs/tune-lightgbm"),
        outputs=("ads_tuning_trial", "ads_tuning_best"),
        engine="spark",
    ),
)

HOURLY: tuple[Stage, ...] = tuple(
    Stage(
        name.replace("-", "_"),
        f"etl stream {name} --once",
        f"{what} mentioned most in rolling windows",
        outputs=(table,),
        engine="spark",
        minutes=50,  # over before the next hour's run, which may not start beside it
    )
    for name, what, table in (
        ("hot-topics", "topics", "ads_hot_topic"),
        ("hot-products", "products", "ads_hot_product"),
    )
)

PREDICTIONS: tuple[Stage, ...] = (
    Stage(
        "predict",
        "predict deepfm --date {date}",
        "predictions for the test rows",
        inputs=("examples", "runs/deepfm"),
        outputs=("runs/predict-deepfm",),
    ),
    Stage(
        "publish",
        "etl results",
        "predictions into ads_prediction",
        inputs=("runs/predict-deepfm",),
        outputs=("ads_prediction",),
        engine="spark",
    ),
)


def upstream(stage: Stage, stages: tuple[Stage, ...]) -> list[Stage]:
    """Those of `stages` that write what `stage` reads: the edges of the DAG that lead to it."""
    others = [other for other in stages if other is not stage]
    return [other for other in others if set(other.outputs) & set(stage.inputs)]
