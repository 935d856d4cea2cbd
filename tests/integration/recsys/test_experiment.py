"""An experiment is read from what was served and clicked, or from a file of users."""

import json
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
from data.impressions import IMPRESSIONS
from pyspark.sql import SparkSession

from conf import Config, Paths, UserError
from etl.tables import ads, dwd
from etl.warehouse.store import Warehouse
from recsys.experiment.read import ReadOptions, read_file, read_served

DAY = date(2029, 7, 10)


def test_clicks_of_served_lists_are_compared_by_arm(spark: SparkSession, config: Config) -> None:
    rng = np.random.default_rng(1)
    folder = config.get(Paths).landing("served", DAY) / "hour=09" / "host=a"
    folder.mkdir(parents=True)
    served, shown = [], []
    for user in range(400):
        arm = "fine" if user % 2 else "blend"
        habit = rng.beta(2, 8)
        for number in range(5):  # the week before
            at = datetime(2029, 7, 5, 8, number)
            shown.append(
                (
                    f"b{user}-{number}",
                    "r",
                    f"u{user}",
                    "i",
                    1,
                    "phone",
                    at,
                    int(rng.random() < habit),
                    None,
                    "2029-07-05",
                )
            )
        request = f"q{user}"
        about = {"name": "order", "arm": arm}
        served.append({"request_id": request, "kind": "recommend", "user_id": f"u{user}", "experiment": about})
        for number in range(8):
            clicked = int(rng.random() < min(habit * (2 if arm == "fine" else 1), 1))
            at = datetime(2029, 7, 10, 9, number)
            shown.append(
                (f"s{user}-{number}", request, f"u{user}", "i", number + 1, "phone", at, clicked, None, str(DAY))
            )
    served += [{"request_id": "x", "user_id": "u0", "experiment": {"name": "other", "arm": "a"}}]
    served += [
        {"request_id": f"m{arm}", "user_id": "both", "experiment": {"name": "order", "arm": arm}}
        for arm in ("fine", "blend")
    ]
    (folder / "served.jsonl").write_text("".join(json.dumps(line) + "\n" for line in served))
    Warehouse(spark, config).write(dwd.impression, spark.createDataFrame(shown, IMPRESSIONS), [date(2029, 7, 5), DAY])
    options = ReadOptions(guardrails={"lists_per_user": 0.02})
    result = read_served(spark, config, "order", DAY, 3, options)
    assert result["arms"] == {"blend": 200, "fine": 200}
    assert result["sample_ratio_p"] == 1.0
    rows = {row["metric"]: row for row in Warehouse(spark, config).read(ads.experiment_metric, [DAY]).collect()}
    clicks = {
        arm: sum(row[7] for row in shown if row[9] == str(DAY) and (int(row[2][1:]) % 2 == 1) == (arm == "fine"))
        for arm in ("blend", "fine")
    }
    assert rows["click_rate"]["control"] == "blend"
    assert rows["click_rate"]["value_arm"] - rows["click_rate"]["value_control"] == pytest.approx(
        (clicks["fine"] - clicks["blend"]) / 1600, abs=0.02
    )
    assert rows["click_rate"]["low"] > 0
    assert rows["click_rate"]["sequential_p_value"] < 0.01
    assert rows["clicks_per_user"]["variance_reduction"] > 0.05
    assert (rows["lists_per_user"]["difference"], rows["lists_per_user"]["guardrail"]) == (0.0, "kept")
    # Read again, the rows are the same; another day has nothing.
    read_served(spark, config, "order", DAY, 3, options)
    assert Warehouse(spark, config).read(ads.experiment_metric, [DAY]).count() == 3
    with pytest.raises(UserError, match="no list of the experiment gone was served from 2029-07-10 to 2029-07-10"):
        read_served(spark, config, "gone", DAY, 1, options)


def test_a_public_experiment_is_read_from_its_file(spark: SparkSession, config: Config, real_data: Path) -> None:
    file, columns = real_data / "cookie-cats" / "cookie_cats.csv.gz", ("userid", "test_version")
    options = ReadOptions(control="gate_30", guardrails={"retention_7": 0.01})
    result = read_file(spark, config, "gate", date(2029, 7, 11), file, columns, options)
    assert result["arms"] == {"gate_30": 44700, "gate_40": 45489}
    assert result["sample_ratio_p"] == pytest.approx(0.0086, abs=0.00005)
    rows = {row["metric"]: row for row in result["metrics"]}
    assert set(rows) == {"sum_gamerounds", "retention_1", "retention_7"}
    assert rows["retention_7"]["p_value"] == pytest.approx(0.0016, abs=0.0001)
    assert rows["retention_7"]["guardrail"] == "lost"
    assert rows["retention_1"]["p_value"] > 0.05


@pytest.mark.parametrize(
    ("text", "options", "fault"),
    [
        ("user_id,arm,x\n1,a,1\n1,b,2\n", ReadOptions(), "2 rows of 1 users: write one for each"),
        ("user_id,arm,x\n1,a,1\n2,a,2\n", ReadOptions(), "has the arms a: it takes two or more, a among them"),
        ("user_id,arm,x\n1,a,1\n2,b,2\n", ReadOptions(control="c"), "has the arms a, b: it takes two or more, c among"),
        ("user_id,arm,x\n1,a,good\n2,b,bad\n", ReadOptions(), "no column of numbers, or of yes and no"),
        ("user_id,group,x\n1,a,1\n", ReadOptions(), "no column arm; found user_id, group, x"),
        ("user_id,arm,x\n1,a,1\n2,b,2\n", ReadOptions(guardrails={"y": 0.1}), "no metric y; there are x"),
        (
            "user_id,arm,x\n1,a,1\n2,b,2\n",
            ReadOptions(weights={"a": 1.0}),
            "shares are planned of a, and there are users of a, b",
        ),
    ],
)
def test_what_can_not_be_read_is_told_in_a_line(
    spark: SparkSession, config: Config, tmp_path: Path, text: str, options: ReadOptions, fault: str
) -> None:
    file = tmp_path / "users.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=fault):
        read_file(spark, config, "x", date(2029, 7, 12), file, ("user_id", "arm"), options)
