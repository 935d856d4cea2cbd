"""The whole day, as a user runs it, twice: the same numbers; and the real ratings through the whole recommender."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from recsys.recall import CHANNELS

KEYS = ("deepfm_auc", "fm_auc", "lightgbm_auc", "best_possible_auc")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_twice_with_the_same_numbers(millrace: object) -> None:
    told = []
    for _ in range(2):
        done = millrace("demo", "--days", "4", "--scale", "0.2", "--set", "train.epochs=1")  # type: ignore[operator]
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(done.stdout.strip().splitlines()) == 1
        told.append(json.loads(done.stdout))
    first, second = ({key: run[key] for key in KEYS} for run in told)
    assert first == second
    assert 0.55 < first["fm_auc"] < first["best_possible_auc"] < 0.95
    assert 0.55 < first["lightgbm_auc"] < first["best_possible_auc"]
    done = millrace("sql", _COUNTS, "--format", "json")  # type: ignore[operator]
    counts = json.loads(done.stdout)[0]
    assert counts["runs"] == 2 * 8  # each of the eight runs of both demos, once
    assert counts["trials"] == 8
    assert counts["lists"] == counts["users"] * 20
    assert counts["unaccounted"] == 0
    assert counts["channels"] == len(CHANNELS) + 1  # and the merged list
    assert counts["interests"] > 0
    assert counts["hours"] > 24  # progressive log loss of each hour
    listed = millrace("recsys", "recommend", "u1")  # type: ignore[operator]
    assert [row["rank"] for row in json.loads(listed.stdout)] == list(range(1, 21))
    unknown = millrace("recsys", "recommend", "nobody")  # type: ignore[operator]
    assert (unknown.returncode, "no list for user 'nobody'" in unknown.stderr) == (1, True)


_COUNTS = """
select (select count(distinct run_id) from ads_model_metric) + (select count(distinct run_id) from ads_tuning_trial) runs,
       (select count(*) from ads_tuning_trial) trials,
       (select count(*) from ads_recommendation) lists,
       (select count(*) from dim_user) users,
       (select count(distinct channel) from ads_recall_daily) channels,
       (select count(*) from dws_user_interest) interests,
       (select count(distinct split) from ads_model_metric where metric = 'progressive_log_loss') hours,
       (select count(*) from ops_run where rows_in <> rows_out + rows_invalid + rows_quarantined) unaccounted
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
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
    assert json.loads(done.stdout)["rows_out"] == 100_000
    done = millrace("recsys", "evaluate", "--split", "random", "--k", "10", "--set", "features.negatives=1")  # type: ignore[operator]
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    # At least what the best of the public benchmark's models has (BiVAE), and at least the best single channel.
    for metric, best in (("map", 0.146), ("ndcg", 0.475), ("precision", 0.412), ("recall", 0.219)):
        assert told[f"blend_{metric}@10"] > best
        assert told[f"blend_{metric}@10"] > 0.99 * max(
            told[f"{name}_{metric}@10"] for name in ("ease", "als", "user_cf")
        )
    assert told["fine_test_auc"] > 0.75
    assert told["coarse_test_auc"] > 0.75


@pytest.mark.slow
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
