"""ADS: what people and services read."""

from etl.table import InRange, NotNull, OneOf, Table, columns

pv_hourly = Table(
    name="ads_pv_hourly",
    description="One row per hour of the day with its page views",
    partition="datestr",
    key=("month", "day", "hour"),
    columns=columns(
        ("month", "string", "MM"),
        ("day", "string", "dd"),
        ("hour", "string", "HH"),
        ("pvs", "bigint", "page views: valid rows of ods_weblog_detail"),
    ),
    checks=(InRange("pvs", 1),),
)

ctr_daily = Table(
    name="ads_ctr_daily",
    description="One row per day with its impressions and clicks",
    columns=columns(
        ("impressions", "bigint", "items shown"),
        ("clicks", "bigint", "of them clicked"),
        ("ctr", "double", "clicks / impressions"),
        ("users", "bigint", "users who saw anything"),
    ),
    checks=(InRange("ctr", 0, 1),),
)

recall_daily = Table(
    name="ads_recall_daily",
    description="One row per recall channel and k, measured on the day's clicks with what was known before the day",
    key=("channel", "k"),
    columns=columns(
        ("channel", "string", "channel, or merged for their union"),
        ("k", "int", "length of the list"),
        ("recall", "double", "mean over users of hits / clicked items"),
        ("users", "bigint", "users with a click on the day"),
    ),
    checks=(InRange("recall", 0, 1),),
)

recommendation = Table(
    name="ads_recommendation",
    description="One row per user and place of the list recommended after the day",
    key=("user_id", "rank"),
    columns=columns(
        ("user_id", "string", "for whom"),
        ("rank", "int", "place in the list, from 1"),
        ("item_id", "string", "what"),
        ("score", "double", "predicted probability of a click"),
        ("channels", "string", "recall channels that proposed it, joined by +"),
    ),
    checks=(NotNull(("item_id", "score")), InRange("rank", 1)),
)

model_metric = Table(
    name="ads_model_metric",
    description="One row per metric of a run",
    columns=columns(
        ("run_id", "string", "the run: folder runs/<run_id>"),
        ("model", "string", "fm, lightgbm, deepfm, recommend, best_possible …"),
        ("stage", "string", "recall, coarse, fine, train, evaluate"),
        ("split", "string", "train, valid, test or holdout"),
        ("metric", "string", "auc, log_loss, recall, ndcg, map …"),
        ("k", "int", "length of the list, null when the metric has none"),
        ("value", "double", "the number"),
        ("rows", "bigint", "examples or users it was measured on"),
        ("trained_at", "timestamp", "when the run ended, UTC"),
    ),
    checks=(NotNull(("run_id", "model", "metric", "value")),),
)

tuning_trial = Table(
    name="ads_tuning_trial",
    description="One row per trial of a search",
    key=("run_id", "trial"),
    columns=columns(
        ("run_id", "string", "the search"),
        ("model", "string", "what was searched"),
        ("trial", "int", "number of the trial, from 0"),
        ("parameters", "string", "its values, as JSON"),
        ("metric", "string", "what was measured, on the validation split"),
        ("value", "double", "the number"),
        ("seed", "bigint", "seed of the trial"),
        ("seconds", "double", "its duration"),
        ("status", "string", "done or failed"),
    ),
    checks=(OneOf("status", ("done", "failed")),),
)

tuning_best = Table(
    name="ads_tuning_best",
    description="One row per search with its best trial, chosen on the validation split",
    key=("run_id",),
    columns=columns(
        ("run_id", "string", "the search"),
        ("model", "string", "what was searched"),
        ("trial", "int", "the best trial"),
        ("parameters", "string", "its values, as JSON"),
        ("metric", "string", "what was measured"),
        ("value", "double", "the number"),
    ),
)
