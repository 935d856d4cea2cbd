"""The smallest sites, through the stages of a day in one session: each works, or refuses in one clear line."""

from collections.abc import Sequence
from datetime import date, datetime

import pytest
from data.impressions import IMPRESSIONS
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from conf.runs import read_jsonl
from etl.results import job as results
from etl.tables import ads, dim, dwd
from etl.warehouse.store import Warehouse
from features.dataset.build import run as build
from features.dataset.examples import from_interactions, load_examples
from features.dataset.splits import split_by_method
from features.inspect import report
from features.settings import FeatureSettings
from recsys.blend import rank
from recsys.coarse import train as coarse
from recsys.evaluation import off_policy
from recsys.fine import train as fine
from recsys.recall import candidates
from recsys.registry import promote
from recsys.serve.recommend import recommend
from training.finished import predict
from training.train import TrainOptions
from training.train import run as train

DAYS = [date(2026, 9, day) for day in range(1, 6)]
SMALL = {
    "recall.als_rank": 2, "recall.als_iterations": 1, "recall.tower_dim": 2, "recall.tower_epochs": 1,
    "recall.keep": 4, "coarse.rounds": 3, "fm.bits": 10, "features.files": 1, "net.hidden": [4], "train.epochs": 1,
    "train.batch_size": 16,
}  # fmt: skip

Shown = tuple[int, str, str, int]  # day from 1, user, item, is_clicked
SITES: dict[str, list[Shown]] = {
    "one user, one item, one click": [(day, "u", "i", int(day == 1)) for day in range(1, 6)],
    # And a day without a row in the middle.
    "nothing but clicks": [(day, f"u{n % 2}", f"i{day + n}", 1) for day in (1, 2, 4, 5) for n in range(2)],
    # No clicks in one part, nothing else in another.
    "three rows": [(3, "u1", "i1", 1), (4, "u1", "i2", 0), (5, "u2", "i1", 1)],
}


def write_site(spark: SparkSession, warehouse: Warehouse, rows: Sequence[Shown]) -> None:
    shown = [
        (f"e{n}", "r", user, item, 1, "phone", datetime(2026, 9, day, 12, n), clicked, None, str(DAYS[day - 1]))
        for n, (day, user, item, clicked) in enumerate(rows)
    ]
    warehouse.write(dwd.impression, spark.createDataFrame(shown, IMPRESSIONS), DAYS)
    users = [(user, None, None, None, datetime(2026, 1, 1), None, str(DAYS[-1])) for user in {row[1] for row in rows}]
    warehouse.write(dim.user, spark.createDataFrame(users, dim.user.partitioned_schema_text), DAYS[-1:])
    items = [(item, None, None, None, None, None, None, str(DAYS[-1])) for item in {row[2] for row in rows}]
    warehouse.write(dim.item, spark.createDataFrame(items, dim.item.partitioned_schema_text), DAYS[-1:])


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "site",
    [
        "nothing but clicks",
        *[pytest.param(site, marks=pytest.mark.wide) for site in SITES if site != "nothing but clicks"],
    ],
)
def test_the_smallest_sites_go_through_all_stages(spark: SparkSession, config: Config, site: str) -> None:
    config, rows = config.with_values(SMALL), SITES[site]
    warehouse, day = Warehouse(spark, config), DAYS[-1]
    write_site(spark, warehouse, rows)
    counts = build(spark, config, day)
    assert counts["rows_in"] == counts["rows_out"] == len(rows)
    report.run(config, day)
    candidates.run(spark, config, day)
    for stage in (coarse, fine):
        metrics = stage.run(config, day)
        assert not {"valid_auc", "test_auc"} & set(metrics)  # of one class: left out, and not 0
    assert train(config, ["deepfm"], day, TrainOptions())["test_rows"] == sum(shown == 5 for shown, *_ in rows)
    assert predict.run(config, "deepfm", day, run_id=None, split="test", k=3)["rows_out"] > 0
    rank.run(config, day)
    with pytest.raises(UserError, match="the log of 2026-09-05 can't judge lists"):
        off_policy.judge(config, day, 10)
    decision = promote.run(config, day)
    clicked = [clicked for shown, *_, clicked in rows if shown == 4]
    valid = "every validation row is a click" if all(clicked) else "no validation row is a click"
    assert decision["reasons"] == [f"{valid}: nothing tells whether the models are better than the constant click rate"]
    results.run(spark, config)
    for run in config.get(Paths).runs.glob("*/metrics.jsonl"):
        shares = [row["value"] for row in read_jsonl(run) if row["metric"] in ("recall", "precision", "ndcg", "map")]
        assert all(0 <= value <= 1 for value in shares)
    stored = {row["channel"] for row in warehouse.read(ads.recall_daily, [day]).collect()}
    # Recall is measured on positives that are new to their users: the other sites have none.
    assert "merged" in stored or site == "one user, one item, one click"
    with pytest.raises(UserError, match="no promoted lists for 2026-09-05"):
        recommend(config, "u", day)


def test_what_is_too_small_for_a_training_set_is_refused_in_one_line(spark: SparkSession, config: Config) -> None:
    """An empty last or second last day; ratings of 0 and 1, none of which is 4; events without a value."""
    config = config.with_values(SMALL)
    warehouse = Warehouse(spark, config)
    for rows, missing in (
        ([(1, "u", "i", 1), (4, "u", "i", 1)], "no test rows for 2026-09-05"),
        ([(1, "u", "i", 1), (5, "u", "i", 1)], "no valid rows for 2026-09-05"),
        ([(1, "u", "i", 1)], "no valid and no test rows for 2026-09-05"),
    ):
        write_site(spark, warehouse, rows)
        with pytest.raises(UserError, match=f"^{missing}: load more days"):
            build(spark, config, DAYS[-1])
    write_site(spark, warehouse, [(day, "u", "i", 0) for day in range(1, 6)])
    with pytest.raises(UserError, match="a split by time needs positives"):
        split_by_method(load_examples(warehouse, FeatureSettings(), DAYS[-1]), FeatureSettings(), "time")
    schema = (
        "event_id string, user_id string, item_id string, action string, value double, acted_at timestamp, dt string"
    )
    ratings = spark.createDataFrame(
        [(f"e{n}", "u", f"i{n}", "rating", float(n % 2), datetime(2026, 9, 1), "2026-09-01") for n in range(3)], schema
    )
    with pytest.raises(UserError, match=r"ratings run from 0 to 1, and one counts from features\.min_rating=4 on"):
        from_interactions(ratings, FeatureSettings())
    without_value = ratings.withColumn("value", F.lit(None).cast("double"))
    with pytest.raises(UserError, match="no row with a value"):
        from_interactions(without_value, FeatureSettings())
    assert from_interactions(ratings, FeatureSettings(min_rating=1.0)).count() == 1  # the only item has no negative
