"""The whole day, as a user runs it; again with the same numbers; and real ratings through the whole recommender."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import DEMO_SETTINGS, FinishedDay, Millrace, chromium_dom, run_front_door

from etl.report.charts import CHARTS
from recsys.recall.channels import CHANNELS

MODELS_OF_A_DAY = {
    *("deepfm", "fm", "lightgbm", "mf", "best_possible", "best_learnable", "blend", "published", "ease", "two_tower")
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_walks_the_whole_day(finished_day: FinishedDay) -> None:
    home, told = finished_day.millrace, finished_day.counts
    assert 0.55 < told["fm_auc"] < told["best_possible_auc"] < 0.95
    assert 0.55 < told["lightgbm_auc"] < told["best_possible_auc"]
    assert 0.55 < told["deepfm_auc"] < told["best_possible_auc"]
    assert 0.55 < told["mf_auc"] < told["best_possible_auc"]
    assert told["blend_auc"] > max(told[f"{model}_auc"] for model in ("fm", "lightgbm", "mf")) - 0.005
    # One session for both queries; `shlex` splits the lines.
    asked = home.in_one_session(*(f'sql "{query}" --format json' for query in (_VALUES, _COUNTS)))
    assert asked.returncode == 0, asked.stderr[-3000:]
    value_rows, (counts,) = map(json.loads, asked.stdout.splitlines())
    _answers_without_spark(home, value_rows)
    values = {row["model"]: row["value"] for row in value_rows}
    # What is published earns most of what can be learned, and more than what recall alone would show.
    assert values["merged"] < values["published"] < values["best_learnable"] < 1
    assert values["published"] > 0.75 * values["best_learnable"]
    _draws(home.home / f"reports/{finished_day.day}.html")
    assert set(counts["models"].split()) >= MODELS_OF_A_DAY
    assert counts["runs"] == 11
    assert counts["champions"] == 3
    assert counts["trials"] == 4
    assert counts["lists"] == counts["users"] * 20
    assert counts["unaccounted"] == 0
    assert counts["channels"] == len(CHANNELS) + 1  # and the merged list
    assert counts["interests"] > 0
    assert counts["hours"] > 24  # progressive log loss of each hour
    code, judged, _ = run_front_door("recsys", "evaluate", "--off-policy", home=home.home)
    assert code == 0
    _judges(json.loads(judged))
    code, recommended, _ = run_front_door("recsys", "recommend", "u1", home=home.home)
    assert code == 0
    assert [row["rank"] for row in json.loads(recommended)] == list(range(1, 21))
    code, recommended, message = run_front_door("recsys", "recommend", "nobody", home=home.home)
    assert (code, "user 'nobody' was not in dim_user" in message) == (0, True)
    assert [row["channels"] for row in json.loads(recommended)] == ["hot"] * 20
    code, listed, _ = run_front_door("runs", "list", home=home.home)
    assert code == 0
    champion = next(row for row in json.loads(listed) if (row["model"], row["part"]) == ("fm", "champion"))
    code, shown, _ = run_front_door("runs", "show", champion["run_id"], home=home.home)
    assert code == 0
    sources = {(row["table"], row["partition"]): row["location"] for row in json.loads(shown)["inputs"][0]["sources"]}
    for day in ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"):
        assert list(Path(sources["dwd_impression", day].removeprefix("file:")).glob("*.parquet"))
    assert ("dim_item", "2026-01-04") in sources


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_a_day_again_has_the_same_numbers(finished_day: FinishedDay) -> None:
    millrace = finished_day.millrace
    done = millrace("run", "--date", finished_day.day, "--from", "features", "--to", "publish", *DEMO_SETTINGS)
    assert done.returncode == 0, done.stderr[-3000:]
    numbers = json.loads(millrace("sql", _NUMBERS, "--format", "json").stdout)
    assert {row["model"] for row in numbers} >= MODELS_OF_A_DAY
    assert all((row["runs"], row["different"]) == (2, 1) for row in numbers), numbers
    counts = json.loads(millrace("sql", _COUNTS, "--format", "json").stdout)[0]
    assert counts["runs"] == 9 + 7  # each run of both, once; only the demo searches, with metrics and trials
    assert counts["trials"] == 4


def _judges(report: dict[str, Any]) -> None:
    """By the propensities that the simulator logs; a site as small as this one can't judge every list."""
    assert (report["propensities"], report["estimator"]) == ("logged", "snips")
    names = {*report["estimates"], *report["unanswered"]}
    assert names >= {"logged", "recall:ease", "recall:mf", "merged", "coarse", "fine", "mf", "blend", "published"}
    assert report["rows_out"] == 5 * (len(names) - 1) + 1
    shown = report["estimates"]["logged"]
    assert 0 < shown["low"] < shown["value"] < shown["high"] < 10


def _answers_without_spark(home: Millrace, value_rows: list[dict[str, object]]) -> None:
    """A query of plain columns gets the same rows from DuckDB: with so little memory Spark could not start."""
    done = home("sql", _VALUES, "--format", "json", MILLRACE__SPARK__DRIVER_MEMORY="1k")
    assert done.returncode == 0, done.stderr[-3000:]
    by_model = sorted(json.loads(done.stdout), key=lambda row: (row["model"], row["value"]))
    assert by_model == sorted(value_rows, key=lambda row: (row["model"], row["value"]))
    refused = home("sql", _VALUES, "--engine", "spark", MILLRACE__SPARK__DRIVER_MEMORY="1k")
    assert refused.returncode == 1


def _draws(page: Path) -> None:
    """Every chart of the page has drawn in a real browser, and nothing was complained of."""
    dom = chromium_dom(page)
    assert 'id="charts-state"' not in dom
    sections = dom.split('id="charts"')[1].split("<section>")[1:]
    assert len(sections) == len(CHARTS)
    for section, chart in zip(sections, CHARTS, strict=True):
        assert f"<h3>{chart.title}</h3>" in section
        # The demo's measured days may be one, which is numbers; features are a table.
        assert 'class="main-svg"' in section or "<dd>" in section or "<td" in section, f"{chart.title} did not draw"
    for name in ("Impressions", "Click rate", "Users", "Orders"):
        assert f'<div class="card">{name}<b>' in dom
    assert "The day's models were promoted." in dom


_NUMBERS = """
select model, metric, count(distinct run_id) runs, count(distinct value) different
from ads_model_metric
where stage <> 'tune' and (split = 'test' and metric in ('auc', 'log_loss') or split = 'holdout' and metric = 'recall' and k = 10)
group by model, metric, stage
"""

_VALUES = "select model, value from ads_model_metric where metric = 'value_share' and k = 10"

_COUNTS = """
select (select count(distinct run_id) from ads_model_metric) + (select count(distinct run_id) from ads_tuning_trial) runs,
       (select concat_ws(' ', collect_set(model)) from ads_model_metric where split in ('test', 'holdout', 'serve')) models,
       (select count(*) from ads_tuning_trial) trials,
       (select count(*) from dim_model where part = 'champion') champions,
       (select count(*) from ads_recommendation) lists,
       (select count(*) from dim_user) users,
       (select count(distinct channel) from ads_recall_daily) channels,
       (select count(*) from dws_user_interest) interests,
       (select count(distinct split) from ads_model_metric where metric = 'progressive_log_loss') hours,
       (select count(*) from ops_run where rows_in <> rows_out + rows_invalid + rows_quarantined) unaccounted
"""


FEW = "recall.quota={ease: 60, user_ease: 60, hot: 10}"  # the channels that matter there


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_movielens_goes_through_recall_ranking_and_evaluation(millrace: object, real_data: Path) -> None:
    folder = real_data / "ml-100k"
    files = [
        "--ratings",
        folder / "ml-100k.inter",
        "--items",
        folder / "ml-100k.item",
        "--users",
        folder / "ml-100k.user",
    ]
    done = millrace("ingest", "interactions", "--format", "recbole", *[str(file) for file in files])  # type: ignore[operator]
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["rows_out"] == 100_000 + 943 + 1_682  # ratings, users and items
    done = millrace(
        "recsys", "evaluate", "--split", "random", "--k", "10", "--set", "features.negatives=1", "--set", FEW,
        MILLRACE__SPARK__COMPILE_LITTLE="false",  # large enough for compiling to pay
    )  # type: ignore[operator]  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    # At least what the best of the public benchmark's models has (BiVAE), and at least the best single channel.
    for metric, best in (("map", 0.146), ("ndcg", 0.475), ("precision", 0.412), ("recall", 0.219)):
        assert told[f"blend_{metric}@10"] > best
        assert told[f"blend_{metric}@10"] > 0.99 * max(
            told[f"{name}_{metric}@10"] for name in ("ease", "user_ease", "hot")
        )
    assert told["fine_test_auc"] > 0.75
    assert told["coarse_test_auc"] > 0.75


@pytest.mark.slow
@pytest.mark.wide
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(millrace: object, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        millrace.home = small / "home"  # type: ignore[attr-defined]
        made = millrace("simulate", "--days", "3", "--scale", "0.1")  # type: ignore[operator]
        assert made.returncode == 0, made.stderr
        line = '1.1.1.1 - - [01/Jan/2026:00:00:00 +0000] "GET /{} HTTP/1.1" 200 1 "-" "a"\n'
        log = tmp_path / "large.log"
        log.write_text("".join(line.format(os.urandom(32).hex()) for _ in range(400_000)))  # does not compress
        done = millrace("etl", "weblog", "--date", "2026-01-01", "--source", str(log))  # type: ignore[operator]
        assert done.returncode == 1, done.stdout
        assert "the disk is full" in done.stderr.splitlines()[-1], done.stderr[-2000:]
        log.write_text(line.format("small"))
        again = millrace("etl", "weblog", "--date", "2026-01-01", "--source", str(log))  # type: ignore[operator]
        assert json.loads(again.stdout)["rows_out"] == 1, again.stderr
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
