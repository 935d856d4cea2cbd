"""Are features honest? `millrace features audit --date D` looks for leaks from the future and for serving skew.

Leaks: see `features/inspect/leaks.py`. Skew: features of some impressions of the day are computed once on Spark, as for
a training set, and once by `RequestFeatures`, as for a request; both must be equal.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.settings import SiteSettings
from etl.tables import dim
from etl.warehouse.store import Warehouse
from features import catalog
from features.catalog import OWN_GROUPS
from features.compute.request_rows import RequestFeatures
from features.compute.spark_rows import LOGGED, item_ids, unscaled_features, with_dimensions, with_item_lists
from features.compute.training_statistics import TrainingStatistics
from features.counts.counts_before import fit_click_rates
from features.counts.running_counts import load_running_counts
from features.dataset.acts import load_acts
from features.dataset.examples import CONTEXT, load_examples
from features.dataset.sampling import hash_uniform
from features.dataset.splits import split_by_day
from features.inspect.leaks import find_leaks, find_list_leaks
from features.item_lists import last_ids
from features.settings import FeatureSettings

NUM_REQUESTS = 200  # impressions of the day that are computed both ways
TOLERANCE = 1e-6  # of numbers, in units of the larger one or 1


def run(spark: SparkSession, config: Config, day: date, share: float = 1.0) -> dict[str, Any]:
    """Audit the catalog on the impressions of the window that ends with `day`.

    Args:
        spark: the session.
        config: section features is read, and `site.timezone`.
        day: the last one.
        share: of the users whose impressions are used; leaks of a count show in a sample, too, at less cost.

    Returns:
        rows, the examples that were used, and requests, those computed both ways.

    Raises:
        UserError: that names every feature that leaks or differs, or says that there are no examples.
    """
    warehouse, settings, zone = Warehouse(spark, config), config.get(FeatureSettings), config.get(SiteSettings).zone
    # Without logged values: they would hide what a feature computes.
    examples = load_examples(warehouse, settings, day).where(F.col("day") <= F.lit(day)).drop(LOGGED)
    examples = examples.where(hash_uniform("user_id") < share).persist()
    try:
        rates = fit_click_rates(split_by_day(examples, settings, day).where("split = 'train'"), settings.prior_strength)
        users, items = warehouse.newest_snapshot(dim.user, day), warehouse.newest_snapshot(dim.item, day)
        acts = load_acts(warehouse, settings, day, "day", examples)

        def compute(rows: DataFrame) -> DataFrame:
            return unscaled_features(rows, users, items, rows, rates, settings, zone, acts=acts)

        rows, days = examples.count(), sorted(r["day"] for r in examples.select("day").distinct().collect())
        if len(days) < 2:
            raise UserError(f"{len(days)} days of examples up to {day}: an audit needs an earlier and a later one")
        leaks = find_leaks(examples, compute, days[-2])
        if acts is not None:
            leaks += find_list_leaks(examples, acts, lambda rows, known: with_item_lists(rows, known, items))
        if leaks:
            raise UserError(f"features of {day} change with later days, so they know the future: {', '.join(leaks)}")
        offline = compute(examples).where(F.col("day") == F.lit(days[-1])).orderBy("example_id").limit(NUM_REQUESTS)
        contexts = examples.select("example_id", *CONTEXT)
        requests = offline.withColumn("at", F.col("at").cast("double")).join(contexts, "example_id").collect()
        statistics = replace(TrainingStatistics.from_rates(rates), timezone=zone)
        skew = _skew(_request_features(examples, users, items, days[-1], statistics, requests), requests)
        if acts is not None:
            skew |= _list_skew(acts, items, requests)
    finally:
        examples.unpersist()
    if skew:
        differences = ", ".join(f"{name} by {gap:.3g}" for name, gap in skew.items())
        raise UserError(f"features of {day} differ between training and requests: {differences}")
    return {"rows": rows, "requests": len(requests)}


def _request_features(
    examples: DataFrame,
    users: DataFrame,
    items: DataFrame,
    day: date,
    statistics: TrainingStatistics,
    requests: Sequence[Row],
) -> RequestFeatures:
    """What a server of `day` would have in memory for these requests."""
    pairs = examples.sparkSession.createDataFrame(
        [(row["user_id"], row["item_id"]) for row in requests], "user_id string, item_id string"
    )
    user_rows = users.join(F.broadcast(pairs.select("user_id").distinct()), on="user_id", how="left_semi").collect()
    # As seconds: collected timestamps are in the machine's time zone, which need not be UTC.
    seconds = F.col("published_at").cast("double")
    item_rows = (
        items.join(F.broadcast(pairs.select("item_id").distinct()), on="item_id", how="left_semi")
        .select("item_id", "category", "author", seconds.alias("published_at"), "attributes")
        .collect()
    )
    impressions = with_dimensions(examples, users if OWN_GROUPS else None, items)
    return RequestFeatures(
        statistics,
        load_running_counts(impressions, statistics.rates, day, pairs),
        {row["user_id"]: row.asDict() for row in user_rows},
        {row["item_id"]: row.asDict() | {"published_at": _utc(row["published_at"])} for row in item_rows},
    )


def _skew(online: RequestFeatures, requests: Sequence[Row]) -> dict[str, float]:
    """{feature: largest difference of a request from the training set's row}, for features that differ at all."""
    gaps: dict[str, float] = {}
    for request in requests:
        fields = {name: request[name] for name in ("user_id", "item_id", "position", "device", *CONTEXT)}
        unscaled = online.unscaled({**fields, "at": _utc(request["at"])})
        for feature in catalog.COLUMNS:
            gap = _gap(unscaled[feature.name], request[f"f_{feature.name}"])
            if gap > TOLERANCE:
                gaps[feature.name] = max(gap, gaps.get(feature.name, 0.0))
    return gaps


def _list_skew(acts: DataFrame, items: DataFrame, requests: Sequence[Row]) -> dict[str, float]:
    """{list: ∞}, for lists of which a request's differs from the training set's row.

    Acts of the requests' users come to the driver, and are chosen and put in order anew.
    """
    users = acts.sparkSession.createDataFrame([(row["user_id"],) for row in requests], "user_id string").distinct()
    known = with_dimensions(acts.join(F.broadcast(users), on="user_id", how="left_semi"), None, items)
    codes = [item_ids(one.field).alias(one.name) for one in catalog.LISTS]
    by_user = defaultdict(list)
    for act in known.select("user_id", F.col("at").cast("double").alias("at_s"), "action", "value", *codes).collect():
        by_user[act["user_id"]].append(act.asDict())
    return {
        one.name: math.inf
        for one in catalog.LISTS
        for request in requests
        if last_ids(one, by_user[request["user_id"]], request["at"]) != request[one.column]
    }


def _gap(online: Any, offline: Any) -> float:
    if online == offline:
        return 0.0
    if not isinstance(online, float) or not isinstance(offline, float):  # ids, text, or one of them missing
        return math.inf
    if math.isnan(online) and math.isnan(offline):
        return 0.0
    return abs(online - offline) / max(abs(online), abs(offline), 1.0)


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
