"""Served lists, as the server logs them, in dwd_served: every item once, by which model, with its features."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from conf import Config, Paths
from conf.clock import day_start
from etl.events import served
from etl.settings import SiteSettings
from etl.tables import dwd, ods
from etl.warehouse.store import Warehouse
from features.catalog import DENSE, SPARSE
from features.compute.request_batch import FeatureBatch
from recsys.serve.engine import Answer, Entry
from recsys.serve.served_log import ServedLog

DAY = date(2031, 3, 2)
CLICK_RATE = next(n for n, feature in enumerate(DENSE) if feature.name != "position")


def answer(request_id: str, items: list[str], rates: list[float]) -> Answer:
    unscaled = np.zeros((len(items), len(DENSE)), np.float32)
    unscaled[:, CLICK_RATE] = rates
    features = FeatureBatch(np.ones((len(items), len(SPARSE)), np.int64), unscaled, unscaled)
    # The last of the rows is ranked first.
    rows = range(len(items) - 1, -1, -1)
    entries = [Entry(items[row], 0.5 - row / 10, ["hot"], row, 0.25) for row in rows]
    return Answer(entries, "deep", None, features=features, request_id=request_id)


def test_items_of_a_days_lists_are_loaded_once_with_model_arm_and_features(spark: SparkSession, config: Config) -> None:
    warehouse = Warehouse(spark, config)
    late = day_start(DAY + timedelta(days=1), config.get(SiteSettings).zone) - timedelta(minutes=30)
    folder = config.get(Paths).landing("served", late.astimezone(UTC).date()) / "hour=23" / "host=a"
    log = ServedLog(folder, "a-1", most=2)
    about = {"kind": "recommend", "model": "recommend-1", "rung": "deep", "user_id": "u1", "device": None}
    asked = "2029-01-01T00:00:00+00:00"  # lists may be of any moment
    arm = {"experiment": {"name": "order", "arm": "blend"}}
    log.add(
        answer("r1", ["i1", "i2", "i3"], [0.1, 0.2, float("nan")]),
        {**about, **arm, "served_at": late.isoformat(), "ts": asked},
    )
    log.add(answer("r2", ["i1"], [0.3]), {**about, "served_at": (late + timedelta(hours=1)).isoformat(), "ts": asked})
    log.close()
    (path,) = folder.glob("*.log")
    whole = path.read_bytes()
    # A part of a line, and a list that a killed landing has left twice.
    exposure = json.dumps({"request_id": "r9", "user_id": "u1", "items": ["i1"], **arm}).encode()
    path.write_bytes(whole + b"\n".join([whole[:100], whole.split(b"\n")[0], exposure, b""]))

    assert served.load(warehouse, config, [DAY]) == {DAY: 2}
    items = sorted(warehouse.read(dwd.served, [DAY]).collect(), key=lambda row: row["position"])
    assert [(row["impression_id"], row["item_id"], row["score"]) for row in items] == [
        ("r1-1", "i3", pytest.approx(0.3)),
        ("r1-2", "i2", pytest.approx(0.4)),
    ]
    first = items[0].asDict()
    assert {name: first[name] for name in ("kind", "model", "rung", "experiment", "arm", "device", "propensity")} == {
        "kind": "recommend", "model": "recommend-1", "rung": "deep", "experiment": "order", "arm": "blend",
        "device": None, "propensity": 0.25,
    }  # fmt: skip
    assert first["at"] == datetime(2029, 1, 1)
    assert first["served_at"] == late.astimezone(UTC).replace(tzinfo=None)
    assert DENSE[CLICK_RATE].name not in first["features"]  # it was NaN
    assert items[1]["features"][DENSE[CLICK_RATE].name] == pytest.approx(0.2)
    assert "position" not in first["features"]
    torn = warehouse.read(ods.quarantine, [DAY]).where("stage = 'served'").collect()
    assert [(row["reason"], row["line_number"], row["line"]) for row in torn] == [("bad_line", 3, whole[:100].decode())]

    # The list of after midnight belongs to the next day, whose folder is empty; and a day without lists keeps its own.
    assert served.load(warehouse, config, [DAY + timedelta(days=1)]) == {DAY + timedelta(days=1): 1}
    path.write_bytes(exposure + b"\n")
    assert served.load(warehouse, config, [DAY]) == {}
    assert warehouse.read(dwd.served, [DAY]).count() == 2
