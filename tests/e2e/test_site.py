"""A site of one's own, from its files and one declaration to lists: what no built-in column says is learned."""

import json
from pathlib import Path

import pytest
from data.shop import DAYS, write_shop
from support import FEW_CHANNELS, ROOT, Millrace


@pytest.mark.slow
def test_a_declared_site_walks_the_whole_day(tmp_path: Path) -> None:
    site, millrace = write_shop(tmp_path / "shop"), Millrace(tmp_path / "home")
    day = DAYS[-1]
    lines = [
        "ingest site",
        *(f"run --date {day} --only {stage}" for stage in ("features", "mf", "recall", "coarse", "fine", "evaluate")),
        f"run --date {day} --only promote",
        "etl results",
        f"features audit --date {day}",
        f"run --date {day} --to events",  # a site without web logs, events and a database of the landing zone
    ]
    done = millrace.in_one_session(*lines, MILLRACE_SITE=str(site), **FEW_CHANNELS)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert printed[0]["rows_in"] == printed[0]["rows_out"] > 5000
    # The same values offline and for a request, own columns among them.
    assert printed[-2]["requests"] == 200

    def rows(query: str) -> list[dict[str, object]]:
        return json.loads(millrace("sql", query, "--format", "json").stdout)

    # Loaded again, nothing is added.
    loads = rows(
        "select sum(rows_invalid) as known, count(*) as n from ops_run where stage = 'ingest' and rows_invalid > 0"
    )
    assert loads[0]["known"] > 5000
    aucs = {row["model"]: row["value"] for row in rows(_AUC)}
    # By position, user and item alone no model can be far from .5.
    assert aucs["lightgbm"] > 0.7
    assert aucs["fm"] > 0.7
    index = {row["feature"]: row for row in rows("select * from dim_feature_index")}
    own = {name for name, row in index.items() if row["index"] >= 65536}
    assert own == {
        "item_price_eur", "item_brand", "item_uses_1", "item_uses_2", "user_plan", "context_weather",
        "plan_brand_weather", "user_plan_item_brand_rate", "wet_rate", "city_rate",
        "dear_for_plan",
    }  # fmt: skip
    assert rows("select count(*) as n, count(distinct action) as kinds from dwd_interaction")[0]["kinds"] == 1
    assert rows("select count(distinct user_id) as n from ads_recommendation")[0]["n"] == 100
    # The server knows own columns, too.
    served = millrace.script(ROOT / "tests/served_features.py", MILLRACE_SITE=str(site))
    assert served.returncode == 0, served.stderr[-3000:]
    assert int(served.stdout) > 1000


_AUC = "select model, max(value) as value from ads_model_metric where metric = 'auc' and split = 'test' group by model"
