"""A site of one's own, from its files and one declaration to lists: what no built-in column says is learned."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data.shop import DAYS, write_shop
from support import FEW_CHANNELS, ROOT, Millrace

from conf.versions import current_version

QUERIES = (
    "select model, max(value) as value from ads_model_metric where metric = 'auc' and split = 'test' group by model",
    "select feature, index, definition from dim_feature_index",
    "select (select count(distinct action) from dwd_interaction) as actions,"
    " (select count(distinct user_id) from ads_recommendation) as users,"
    " (select count(item_price_eur) from site_item where array_contains(item_uses, 'road')) as priced,"
    " (select count(*) from ads_off_policy where propensity_source = 'estimated') as judged,"
    " (select count(*) from ads_recall_funnel where stage = 'recall' and survivors > 0) as channels,"
    " (select sum(rows_invalid) from ops_run where stage = 'ingest') as loaded_before",
)


@pytest.mark.slow
@pytest.mark.parametrize("is_wide", [False, pytest.param(True, marks=pytest.mark.wide)], ids=["lists", "all stages"])
def test_a_declared_site_walks_the_day(tmp_path: Path, is_wide: bool) -> None:
    """All stages: with factors of users and items, the audit of its features, and its files loaded once more."""
    site, millrace = write_shop(tmp_path / "shop"), Millrace(tmp_path / "home")
    day = DAYS[-1]
    stages = ("features", *(["mf"] if is_wide else []), "recall", "coarse", "fine", "evaluate", "promote")
    # A site without web logs, events and a database of the landing zone; loaded again, nothing is added.
    more = [f"features audit --date {day}", f"run --date {day} --to site"] if is_wide else []
    lines = [
        "ingest site",
        *(f"run --date {day} --only {stage}" for stage in stages),
        f"recsys evaluate --off-policy --date {day} --k 5",
        "etl results",
        *more,
        *(f'sql "{query}" --format json' for query in QUERIES),
    ]
    done = millrace.in_one_session(*lines, MILLRACE_SITE=str(site), **FEW_CHANNELS)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert printed[0]["rows_in"] == printed[0]["rows_out"] > 5000
    if is_wide:
        # The same values offline and for a request, own columns among them.
        assert next(row for row in printed if "requests" in row)["requests"] == 200
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    metrics, index, (counts,) = answers[-len(QUERIES) :]
    aucs = {row["model"]: row["value"] for row in metrics}
    # By position, user and item alone no model can be far from .5.
    assert aucs["lightgbm"] > 0.7
    assert aucs["fm"] > 0.7
    assert {row["feature"] for row in index if row["index"] >= 65536} == {
        "item_price_eur", "item_brand", "item_uses_1", "item_uses_2", "item_label_1", "item_label_2", "user_plan", "context_weather",
        "plan_brand_weather", "user_plan_item_brand_rate", "wet_rate", "city_rate",
        "item_brand_rate_2d", "dear_for_plan", "last_add_to_cart", "clicked_brands",
    }  # fmt: skip
    # How its columns are read is part of a feature, also of one that only counts by them.
    definition = next(row["definition"] for row in index if row["feature"] == "user_plan_item_brand_rate")
    assert definition.endswith("; item_brand: Category item 'brand'; user_plan: Category user 'plan'")
    if is_wide:
        assert counts["loaded_before"] > 5000
    assert counts["actions"] == 1
    # Each channel and list by five estimators, and the site's own lists by their mean.
    judged = next(row for row in printed if "propensities" in row)
    assert (
        counts["judged"]
        == judged["rows_out"]
        == 5 * len({*judged["estimates"], *judged["unanswered"]} - {"logged"}) + 1
    )
    assert {"logged", "published", "merged", "blend"} <= {*judged["estimates"], *judged["unanswered"]}
    assert counts["channels"] > 1
    assert counts["users"] == 100
    assert counts["priced"] == 39  # of forty one is "on request"
    # What came of a click is a label of its own, and rows weigh what the site says.
    folder, _ = current_version(millrace.home / f"datasets/examples/dt={day}", command="")
    rows = pq.read_table(folder / "train", columns=["label", "label_review", "weight"]).to_pandas()
    assert rows.label_review[rows.label == 0].isna().all()
    assert 0.2 < rows.label_review[rows.label == 1].mean() < 0.4
    assert set(rows.weight) == {1.0, 1.5, 2.0}
    # The server knows own columns, too.
    served = millrace.script(ROOT / "tests/served_features.py", MILLRACE_SITE=str(site))
    assert served.returncode == 0, served.stderr[-3000:]
    assert int(served.stdout) > 1000
