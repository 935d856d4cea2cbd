"""ADS, the application layer: tables that people, reports and services read."""

from etl.table import InRange, NotNull, OneOf, Table, Unique, columns
from etl.tables.ods import VISITOR_ID

# Texts with leading zeros, and no year: queries of the web-log reports join and sort by them within a datestr.
_MONTH = ("month", "string", "MM")
_DAY = ("day", "string", "dd")
_HOUR = ("hour", "string", "HH")
_PVS = ("pvs", "bigint", "page views: requests with valid = 'true'")
_PVS_HUMAN = ("pvs_human", "bigint", "of them not HEAD, and not by a known crawler, feed reader or monitor")
_REF_HOST = ("ref_host", "string", "host of the referrer")

pv_hourly = Table(
    name="ads_pv_hourly",
    description="One row per hour of the day with its page views",
    partition="datestr",
    key=("month", "day", "hour"),
    columns=columns(_MONTH, _DAY, _HOUR, _PVS, _PVS_HUMAN),
    checks=(InRange("pvs", 1), InRange("pvs_human", 0)),
)

pv_daily = Table(
    name="ads_pv_daily",
    description="One row per day with its page views: the sum of its hours",
    partition="datestr",
    key=("month", "day"),
    columns=columns(_MONTH, _DAY, _PVS, _PVS_HUMAN),
    checks=(InRange("pvs", 1), InRange("pvs_human", 0)),
)

pv_referer_hourly = Table(
    name="ads_pv_referer_hourly",
    description="One row per hour and referring URL that has a host",
    partition="datestr",
    key=("month", "day", "hour", "http_referer"),
    columns=columns(_MONTH, _DAY, _HOUR, ("http_referer", "string", "referring URL"), _REF_HOST, _PVS),
    checks=(NotNull(("ref_host",)), InRange("pvs", 1)),
)

pv_ref_host_hourly = Table(
    name="ads_pv_ref_host_hourly",
    description="One row per hour and host of the referrer",
    partition="datestr",
    key=("month", "day", "hour", "ref_host"),
    columns=columns(_MONTH, _DAY, _HOUR, _REF_HOST, _PVS),
    checks=(InRange("pvs", 1),),
)

ref_host_top3_hourly = Table(
    name="ads_ref_host_top3_hourly",
    description="One row per hour and rank of the three referrer hosts with most page views; ties by host name",
    partition="datestr",
    key=("month", "day", "hour", "rank"),
    columns=columns(_MONTH, _DAY, _HOUR, _REF_HOST, _PVS, ("rank", "int", "from 1, most page views first")),
    checks=(NotNull(("ref_host",)), InRange("rank", 1, 3)),
)

page_top10 = Table(
    name="ads_page_top10",
    description="One row per rank of the ten URLs with most page views of the day, and per site; ties by URL",
    partition="datestr",
    columns=columns(
        ("request", "string", "URL with its query"),
        _PVS,
        ("rank", "int", "from 1, most page views first"),
        ("site", "string", "site of the page views by weblog.site_from; null without that setting, and for none"),
    ),
    # No key: the site may be null.
    checks=(NotNull(("request", "rank")), Unique(("site", "rank")), InRange("rank", 1, 10)),
)

visitor_daily = Table(
    name="ads_visitor_daily",
    description="One row per day with its visitors (by weblog.visitor_key) with a page view and their visits",
    partition="datestr",
    columns=columns(
        _PVS,
        ("visitors", "bigint", "visitors with a page view on the day"),
        ("pages_per_visitor", "double", "pvs / visitors"),
        # Against dim_visitor, the visitors of all days before, not of a window.
        ("new_visitors", "bigint", "visitors without a page view before the day"),
        ("returning_visitors", "bigint", "visitors who began more than one visit on the day"),
        ("visits", "bigint", "visits begun on the day"),
        ("visits_per_visitor", "double", "visits / visitors who began one on the day"),
    ),
    checks=(InRange("visitors", 1), InRange("new_visitors", 0), InRange("visits", 0)),
)

new_visitor = Table(
    name="ads_new_visitor",
    description="One row per visitor without a page view before the day",
    partition="datestr",
    key=("visitor_id",),
    columns=columns(("remote_addr", "string", "address of the last page view of the day"), VISITOR_ID),
)

returning_visitor = Table(
    name="ads_returning_visitor",
    description="One row per visitor who began more than one visit on the day",
    partition="datestr",
    key=("visitor_id",),
    columns=columns(
        ("remote_addr", "string", "address of the last visit"),
        ("visits", "bigint", "visits begun on the day"),
        VISITOR_ID,
    ),
    checks=(InRange("visits", 2),),
)

_STEP = ("step", "string", "step1, step2 …; NAME.step1 … for funnels other than main")
_NUMBS = ("numbs", "bigint", "visitors who reached this step within one visit begun on the day")

# The name, and `numbs`, are those of the requirements, as queries of its users have them.
oute_nums = Table(
    name="dw_oute_nums",
    description="One row per step of a funnel with the visitors who reached it",
    partition="datestr",
    key=("step",),
    columns=columns(_STEP, _NUMBS),
    checks=(InRange("numbs", 0),),
)

funnel = Table(
    name="ads_funnel",
    description="One row per step of a funnel with its conversion rates",
    partition="datestr",
    key=("step",),
    columns=columns(
        _STEP,
        _NUMBS,
        ("absolute_rate", "double", "visitors of this step / of step1, null where step1 has none"),
        (
            "relative_rate",
            "double",
            "visitors of this step / of the step before (1 for step1), null where that has none",
        ),
    ),
    checks=(InRange("absolute_rate", 0, 1), InRange("relative_rate", 0, 1)),
)

# One row per day; the day is the partition, and so there is no key to check.
ctr_daily = Table(
    name="ads_ctr_daily",
    description="One row per day with its impressions and clicks",
    columns=columns(
        ("impressions", "bigint", "items shown"),
        ("clicks", "bigint", "of them clicked"),
        ("ctr", "double", "clicks / impressions"),
        ("users", "bigint", "users with an impression"),
    ),
    checks=(InRange("ctr", 0, 1),),
)

recall_daily = Table(
    name="ads_recall_daily",
    description="One row per recall channel and k: recall of the day's clicks by lists from the data before the day",
    key=("channel", "k"),
    columns=columns(
        ("channel", "string", "recall channel, or merged for the list merged from all channels"),
        ("k", "int", "length of the list"),
        ("recall", "double", "mean over users of hits / clicked items"),
        ("users", "bigint", "users with a click on the day"),
    ),
    checks=(InRange("recall", 0, 1),),
)

recall_funnel = Table(
    name="ads_recall_funnel",
    description="One row per step of the day's ranking, and channel of recall: held-out positives that survive it",
    key=("stage", "channel"),
    columns=columns(
        ("run_id", "string", "the run that ranked: folder runs/<run_id>"),
        ("step", "int", "order of the stages, from 1"),
        (
            "stage",
            "string",
            "recall, merged (all candidates), coarse (kept for the fine rankers), fine (the first of the list's length "
            "by the score that lists follow), published (after re-ranking)",
        ),
        ("channel", "string", "recall channel; all after recall"),
        ("positives", "bigint", "clicked or liked items of the test rows that were new to their users"),
        ("survivors", "bigint", "of them proposed, kept or listed"),
        ("share", "double", "survivors / positives"),
        ("low", "double", "lower end of its 95 % interval, by bootstrap over users"),
        ("high", "double", "upper end of it"),
        ("gain", "bigint", "of the survivors those that no other channel proposes; null after recall"),
        ("overlap", "double", "share of the survivors that other channels propose as well; null after recall"),
    ),
    checks=(
        NotNull(("run_id", "step", "positives", "survivors")),
        OneOf("stage", ("recall", "merged", "coarse", "fine", "published")),
        InRange("share", 0, 1),
        InRange("overlap", 0, 1),
    ),
)

recommendation = Table(
    name="ads_recommendation",
    description="One row per user and rank of the list recommended after the day",
    key=("user_id", "rank"),
    columns=columns(
        ("user_id", "string", "user that the list is for"),
        ("rank", "int", "position in the list, from 1"),
        ("item_id", "string", "item recommended"),
        ("score", "double", "click probability by the FM; ranks follow the blend and re-ranking, so it needn't fall"),
        ("channels", "string", "recall channels that proposed it, joined by +"),
    ),
    checks=(NotNull(("item_id", "score")), InRange("rank", 1)),
)

# Each model's newest run replaces its older rows of the day; other models' rows stay.
prediction = Table(
    name="ads_prediction",
    description="One row per predicted value of each deep model's newest prediction run",
    key=("model", "key", "answer"),
    columns=columns(
        ("run_id", "string", "the run that predicted: folder runs/<run_id>"),
        ("model", "string", "deepfm, din, resnet …"),
        ("key", "string", "id of the example or item that the prediction is for"),
        ("answer", "string", "predicted label, topic or item that the score belongs to"),
        ("score", "double", "probability; for items the score that they are ranked by"),
    ),
    checks=(NotNull(("run_id", "model", "key", "answer", "score")),),
)

# One name, one meaning: losses over two outcomes, several labels, classes or all items can't be compared. All are means
# over rows of -log of the probability given to what happened. Hive's schema allows a comment 256 characters.
_METRICS = (
    "auc, recall, ndcg …; log_loss: of clicks; log_loss_LABEL, log_loss_sum: of a multi-task model; cross_entropy: "
    "over classes; softmax_loss: over items; value_share: of a list, from random items (0) to the best (1); "
    "off_policy_*: clicks a list by the log"
)

# No key: a run may report a metric again after it was resumed, and both rows are true.
experiment_metric = Table(
    name="ads_experiment_metric",
    description="One row per experiment, metric and arm that is compared with the control",
    key=("experiment", "metric", "arm"),
    columns=columns(
        ("experiment", "string", "name of the experiment"),
        ("metric", "string", "click_rate, clicks_per_user, lists_per_user, or a column of a file of users"),
        ("control", "string", "arm that is compared with"),
        ("arm", "string", "arm that is compared"),
        ("users_control", "bigint", "users of the control with a value of the metric"),
        ("users_arm", "bigint", "users of the arm with one"),
        ("value_control", "double", "mean or ratio of the control, without what the week before explains"),
        ("value_arm", "double", "the same of the arm"),
        ("difference", "double", "value_arm - value_control"),
        ("relative", "double", "difference as a share of value_control"),
        ("low", "double", "lower end of the 95 % interval of the difference"),
        ("high", "double", "upper end of it"),
        ("p_value", "double", "of no difference, if read once at a time set beforehand"),
        ("sequential_p_value", "double", "of no difference, however often it is read"),
        ("variance_reduction", "double", "share of the variance that the week before explains (CUPED)"),
        ("guardrail", "string", "kept, lost or unclear: whether it lost no more than it may; null without a bound"),
        ("sample_ratio_p", "double", "of the arms' sizes, if users were assigned as planned; below 0.001 distrust all"),
    ),
    checks=(NotNull(("experiment", "metric", "control", "arm")), Unique(("experiment", "metric", "arm"))),
)

off_policy = Table(
    name="ads_off_policy",
    description="One row per list and estimator: the clicks to expect of a list, by the log of what the site showed",
    key=("list", "estimator"),
    columns=columns(
        (
            "list",
            "string",
            "recall:CHANNEL, merged, a ranker, blend, published (without RULE); logged for the site's own lists",
        ),
        (
            "estimator",
            "string",
            "ips, snips, dr, sndr, direct (the click model alone), all by places; mean of the site's own lists",
        ),
        ("k", "int", "length of the lists"),
        ("value", "double", "clicks a list of k items; null where the log can't answer"),
        ("low", "double", "lower end of the 95 % interval, by bootstrap over users"),
        ("high", "double", "upper end of it"),
        ("lists", "bigint", "logged lists that it is judged by"),
        ("users", "bigint", "users of them"),
        (
            "coverage",
            "double",
            "share of the logged lists whose users have a judged one",
        ),
        ("effective_sample_size", "double", "as many lists of equal weight say as much"),
        ("clipped_share", "double", "share of the logged lists whose weight was clipped"),
        ("mean_weight", "double", "mean weight over its expectation: far from 1, propensities are wrong"),
        ("propensity_source", "string", "logged, estimated, or both: where a propensity is missing it is estimated"),
    ),
    checks=(NotNull(("k", "lists", "users")), InRange("coverage", 0, 1), InRange("clipped_share", 0, 1)),
)

model_metric = Table(
    name="ads_model_metric",
    description="One row per metric of a run",
    columns=columns(
        ("run_id", "string", "the run: folder runs/<run_id>"),
        (
            "model",
            "string",
            "fm, lightgbm, mf, deepfm, recommend, a channel, a list (merged, coarse, blend, published …); of generated "
            "days best_possible (true probabilities) and best_learnable",
        ),
        ("stage", "string", "report, recall, mf, coarse, fine, train, tune or evaluate"),
        ("split", "string", "train, valid, test, holdout, or serve (the lists to publish)"),
        ("metric", "string", _METRICS),
        ("k", "int", "length of the list, null when the metric has none"),
        ("value", "double", "value of the metric"),
        ("rows", "bigint", "number of examples or users it was measured on"),
        ("trained_at", "timestamp", "when the run ended, UTC"),
    ),
    checks=(NotNull(("run_id", "model", "metric", "value")),),
)

tuning_trial = Table(
    name="ads_tuning_trial",
    description="One row per trial of a search",
    key=("run_id", "trial"),
    columns=columns(
        ("run_id", "string", "run of the search"),
        ("model", "string", "model that was tuned"),
        ("trial", "int", "number of the trial, from 0"),
        ("parameters", "string", "hyper-parameters, as JSON"),
        ("metric", "string", "metric that the search optimises, on the validation split"),
        ("value", "double", "value of the metric"),
        ("seed", "bigint", "random seed of the trial"),
        ("seconds", "double", "duration"),
        ("status", "string", "done, stopped (worse than the others, or measured on a part of the data) or failed"),
        ("steps", "int", "number of times the metric was reported"),
        ("metrics", "string", "all metrics, as JSON"),
        ("error", "string", "why the trial failed, null otherwise"),
    ),
    checks=(OneOf("status", ("done", "stopped", "failed")),),
)

# Measured on the validation rows that chose it: its value is too good as an estimate for new data.
tuning_best = Table(
    name="ads_tuning_best",
    description="One row per search with its best trial, chosen on the validation split",
    key=("run_id",),
    columns=columns(
        ("run_id", "string", "run of the search"),
        ("model", "string", "model that was tuned"),
        ("trial", "int", "number of the best trial"),
        ("parameters", "string", "its hyper-parameters, as JSON"),
        ("metric", "string", "metric that the search optimises"),
        ("value", "double", "value of the metric"),
    ),
)

_WINDOW = (
    ("window_start", "timestamp", "start of the window, UTC"),
    ("window_end", "timestamp", "end of the window, exclusive"),
    ("rank", "int", "from 1, most frequent first"),
)

# A window belongs to the partition of the day that it starts on.
hot_topic = Table(
    name="ads_hot_topic",
    description="One row per window and rank of the topics mentioned most in it; ties by topic",
    key=("window_start", "window_end", "rank"),
    columns=columns(*_WINDOW, ("topic", "string", "text between two #"), ("count", "bigint", "mentions")),
    checks=(NotNull(("topic",)), InRange("count", 1), InRange("rank", 1)),
)

hot_product = Table(
    name="ads_hot_product",
    description="One row per window and rank of the items with most clicks, likes and purchases in it; ties by item",
    key=("window_start", "window_end", "rank"),
    columns=columns(*_WINDOW, ("item_id", "string", "the item"), ("count", "bigint", "clicks, likes and purchases")),
    checks=(NotNull(("item_id",)), InRange("count", 1), InRange("rank", 1)),
)
