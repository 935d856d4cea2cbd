"""Whether the server computes what Spark computed for the same candidates; as a script, of the home in MILLRACE_HOME."""

from datetime import timedelta

import pyarrow.dataset as ds
import pytest

from conf import load
from conf.clock import day_start
from features.catalog import DENSE, SPARSE
from recsys.serve.snapshot import Snapshot, load_snapshot, published


def compare_with_candidates(snapshot: Snapshot) -> int:
    """Check every candidate of the day: ids are equal, numbers to a millionth, histories in order; returns the rows."""
    state, at = snapshot.state, day_start(snapshot.publication.day + timedelta(days=1), snapshot.state.zone)
    table = ds.dataset(snapshot.publication.candidates / "serve", format="parquet").to_table().to_pandas()
    for user_id, rows in table.sort_values(["user_id", "item_id"]).groupby("user_id"):
        user, codes = state.user(user_id), state.items.find(rows["item_id"].tolist())
        assert (state.candidates[user.code] == codes).all()
        batch = state.features(user, codes, None, at, None)
        for column, feature in enumerate(SPARSE):
            assert (batch.sparse[:, column] == rows[f"f_{feature.name}"]).all(), (user_id, feature.name)
        dense = rows[[f"f_{feature.name}" for feature in DENSE]].to_numpy()
        assert batch.dense == pytest.approx(dense, rel=1e-6, abs=1e-6)
        for name, ids in state.lists(user, snapshot.history_length, at).items():
            assert ids.tolist() == list(rows[name].iloc[0]), (user_id, name)
    return len(table)


if __name__ == "__main__":
    config = load()
    print(compare_with_candidates(load_snapshot(config, published(config))))
