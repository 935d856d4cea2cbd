"""Positives on their own, and of the training rows of sequence models each user's last ones."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from conf import Paths, load
from conf.versions import current_version, publish_version
from features.dataset import positives
from features.dataset.names import EXAMPLES, POSITIVES, SEQUENCES, SPLITS

DAY = date(2026, 5, 1)
NOON = 1_777_636_800  # seconds of DAY, 12:00


def test_a_users_last_days_positives_train_sequences(tmp_path: Path) -> None:
    config = load(overrides=[f"paths.home={tmp_path}"], environment={})
    paths = config.get(Paths)
    rows = {  # example -> user, seconds, label
        "early": ("a", NOON - 86_400, 1.0), "last 1": ("a", NOON, 1.0), "last 2": ("a", NOON + 60, 1.0),
        "shown": ("a", NOON + 120, 0.0), "only": ("b", NOON - 999_999, 1.0),
    }  # fmt: skip
    table = pa.table(dict(zip(("user_id", "at_s", "label"), map(list, zip(*rows.values(), strict=True)), strict=True)))
    table = table.add_column(0, "example_id", [list(rows)])
    with publish_version(paths.datasets(EXAMPLES, DAY), {"features": "f1"}) as version:
        for split in SPLITS:
            (version / split).mkdir()
            # A user's rows are in several files.
            for number, part in enumerate((table[:2], table[2:])):
                pq.write_table(part, version / split / f"part-{number}.parquet")
    assert positives.run(config, DAY) == {"train": 4, "valid": 4, "test": 4}
    assert positives.run(config, DAY, SEQUENCES) == {"train": 3, "valid": 4, "test": 4}
    folder, about = current_version(paths.datasets(SEQUENCES, DAY), command="")
    assert pq.read_table(folder / "train")["example_id"].to_pylist() == ["last 1", "last 2", "only"]
    assert about["features"] == "f1"
    folder, _ = current_version(paths.datasets(POSITIVES, DAY), command="")
    assert pq.read_table(folder / "train")["example_id"].to_pylist() == ["early", "last 1", "last 2", "only"]
