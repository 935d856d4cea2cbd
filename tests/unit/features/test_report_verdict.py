"""The verdict of `features report`: healthy days pass, whatever grows by construction; a shifted feature is named."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from conf import Config, Paths, load
from conf.runs import read_jsonl
from conf.versions import publish_version
from features.catalog import COLUMNS, Sparse
from features.dataset.names import EXAMPLES
from features.inspect import report

DAY = date(2026, 1, 6)
OF_USERS = ("gender", "age_group", "city", "user_tag")
Rows = dict[str, NDArray[Any]]


def rows_of_day(rng: np.random.Generator, day: int, users: NDArray[np.int64], rows: int) -> Rows:
    """Impressions of a day: `item_rate` follows the label, `item_shown` counts all days before."""
    user = rng.choice(users, rows)
    columns: Rows = {}
    for feature in COLUMNS:
        if isinstance(feature, Sparse):
            size = min(feature.buckets, 8)
            # Of one user all rows have the same.
            columns[feature.name] = user * 7 % size if feature.name in OF_USERS else rng.integers(0, size, rows)
        else:
            columns[feature.name] = rng.normal(size=rows)
    label = (rng.random(rows) < 0.1).astype(np.float32)
    grown = np.log1p(100 * day * rng.lognormal(sigma=0.2, size=rows))
    return columns | {
        "user_id": user,
        "item_rate": columns["item_rate"] + 3 * label,
        "item_shown": grown,
        "label": label,
    }


def training_set(tmp_path: Path, *, users: int = 300, rows: int = 1500, **shift: float) -> Config:
    """A home with a training set of six days, of which the last tests; `shift` adds to features of the test rows."""
    config, rng = load(overrides=[f"paths.home={tmp_path}"], environment={}), np.random.default_rng(0)
    days = [rows_of_day(rng, day, rng.choice(10 * users, users, replace=False), rows) for day in range(6)]
    days[5] |= {name: days[5][name] + value for name, value in shift.items()}
    with publish_version(config.get(Paths).datasets(EXAMPLES, DAY), {}) as folder:
        for split, part in (("train", days[:4]), ("valid", days[4:5]), ("test", days[5:])):
            write(folder / split, {name: np.concatenate([day[name] for day in part]) for name in part[0]})
    return config


def write(folder: Path, columns: Rows) -> None:
    folder.mkdir()
    names = {name: name if name in ("label", "weight") else f"f_{name}" for name in columns}
    pq.write_table(pa.table({names[name]: values for name, values in columns.items()}), folder / "part-0.parquet")


@pytest.mark.parametrize(("users", "rows"), [(300, 1500), (10, 60), (1, 3)])
def test_healthy_days_pass_few_rows_and_growing_counts_as_well(tmp_path: Path, users: int, rows: int) -> None:
    result = report.run(training_set(tmp_path, users=users, rows=rows), DAY)
    assert (result["verdict"], result["drifted"]) == ("ok", {})


def test_a_shifted_feature_is_named_and_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = training_set(tmp_path, device=4, user_rate=1.5)
    result = report.run(config, DAY)
    assert result["verdict"] == "2 features to look at: device, user_rate"
    assert caplog.messages[-1] == "verdict: 2 features to look at: device, user_rate"
    metrics = {
        row["metric"]: row["value"] for row in read_jsonl(config.get(Paths).runs / result["run_id"] / "metrics.jsonl")
    }
    assert metrics["psi device"] > 3 * metrics["psi_floor device"]
    assert metrics["psi item_shown"] < 3 * metrics["psi_floor item_shown"]


def test_rows_count_by_their_weights(tmp_path: Path) -> None:
    """Of the training rows one in twenty negatives is there, with weight 20; unweighted, what follows the label drifts."""
    config = training_set(tmp_path)
    folder = next(config.get(Paths).datasets(EXAMPLES, DAY).glob("v-*"))
    table = pq.read_table(folder / "train/part-0.parquet")
    columns = {name.removeprefix("f_"): table[name].to_numpy() for name in table.column_names}
    is_sampled = (columns["label"] > 0) | (np.arange(len(table)) % 20 == 0)
    sampled = {name: values[is_sampled] for name, values in columns.items()}
    weight = np.where(sampled["label"] > 0, 1.0, 20.0).astype(np.float32)
    for path in (folder / "train").iterdir():
        path.unlink()
    (folder / "train").rmdir()
    write(folder / "train", sampled | {"weight": weight})
    assert report.run(config, DAY)["verdict"] == "ok"
    (folder / "train/part-0.parquet").unlink()
    (folder / "train").rmdir()
    write(folder / "train", sampled)
    assert "item_rate" in report.run(config, DAY)["drifted"]
