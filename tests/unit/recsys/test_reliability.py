"""Probabilities that are right on average, and wrong by place or by exposure."""

import numpy as np
import pandas as pd
import pytest

from conf import load
from conf.runs import read_jsonl, start_run
from features.catalog import DENSE, SPARSE
from recsys.blend.judge import POSITION, position_id
from recsys.blend.reliability import buckets, group_error, log_reliability, noise_floor
from recsys.dataset import Rows


def test_the_error_of_groups_is_their_mean_distance_by_rows():
    label, predicted = np.array([1.0, 0, 0, 0, 1, 1]), np.full(6, 0.5)
    assert group_error(label, predicted, np.zeros(6, int)) == 0  # right on average
    # Rates of 1/4 and 1: distances of 1/4 and 1/2 for four rows and two.
    assert group_error(label, predicted, np.array([1, 1, 1, 1, 8, 8])) == pytest.approx((4 / 4 + 2 / 2) / 6)


def test_the_floor_is_what_right_probabilities_have_by_chance():
    rng = np.random.default_rng(0)
    predicted, group = rng.beta(1, 7, 5_000), rng.integers(0, 5, 5_000)
    errors = [group_error((rng.random(5_000) < predicted).astype(float), predicted, group) for _ in range(200)]
    assert noise_floor(predicted, group) == pytest.approx(np.mean(errors), rel=0.05)


def test_rows_are_in_the_bucket_that_starts_at_or_before_their_value(tmp_path):
    sparse = np.zeros((4, len(SPARSE)), np.int64)
    sparse[:, POSITION] = [position_id(1), position_id(4), position_id(5), 0]
    rows = Rows(sparse, np.zeros((4, len(DENSE)), np.float32), np.array([1, 0, 0, 1], np.float32), {})
    found = buckets(rows, np.array([0, 9, 10, 5_000]))
    assert found["position"].tolist() == [1, 3, 5, 1]  # without a place: as if it was shown first
    assert found["exposure"].tolist() == [0, 1, 10, 3000]
    config = load(overrides=[f"paths.home={tmp_path}"], environment={})
    with start_run(config, "recommend", pd.Timestamp("2031-03-01").date()) as run:
        errors = log_reliability(run, "blend", rows.label, np.array([0.8, 0.2, 0.2, 0.4]), found)
    # Places 1, 3 and 5: |1.2 − 2| + .2 + .2 over four rows.
    assert errors["ece_by_position"] == pytest.approx(1.2 / 4)
    logged = {(row["metric"], row["k"]): row["value"] for row in read_jsonl(run.folder / "metrics.jsonl")}
    assert logged["position_predicted", 1] == pytest.approx(0.6)
    assert logged["exposure_clicked", 3000] == 1
