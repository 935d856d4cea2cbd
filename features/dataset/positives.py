"""The positives of a day's training set on their own: what retrieval and sequence models learn from.

Sequence models learn every step of a history at once; of their training rows each user's last ones say all.

Filtered from the published examples, a row group at a time, when a model first asks for them; needs no Spark.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.versions import CURRENT, current_version, publish_version
from features.catalog import HAS_COUNTS
from features.compatibility import TIMEZONE
from features.dataset.names import POSITIVES, SEQUENCES, SPLITS, examples_version

ROW_GROUP_ROWS = 8192
SECONDS_PER_DAY = 86_400


def run(config: Config, day: date, kind: str = POSITIVES) -> dict[str, Any]:
    """Publish the positives of the newest examples of `day`, unless that was done already.

    Args:
        config: where they are.
        day: of the training set.
        kind: POSITIVES, or SEQUENCES, of whose training rows each user has those of the last day alone.

    Returns:
        Rows of each split.

    Raises:
        UserError: when there is no training set of `day`, or a split of it has no positives.
    """
    examples, about = examples_version(config, day)
    folder = config.get(Paths).datasets(kind, day)
    if (folder / CURRENT).exists():
        _, published = current_version(folder, command="")
        if published["examples"] == examples.name:  # made from this very version
            return dict(published["rows"])
    row_counts: dict[str, int] = {}
    origin = {name: about[name] for name in ("features", TIMEZONE) if name in about}
    with publish_version(folder, {"examples": examples.name, "rows": row_counts, **origin}) as version:
        for split in SPLITS:
            last_days = _last_days(examples / split) if kind == SEQUENCES and split == "train" else None
            row_counts[split] = _copy_positives(examples / split, version / split, last_days)
        if missing := [split for split in SPLITS if not row_counts[split]]:
            raise UserError(f"no positives among the {' and '.join(missing)} rows of {day}")
    return row_counts


def _last_days(source: Path) -> pd.Series:
    """By user, the day of the last positive (the moment, where rows have no real days): one number a user."""
    last = pd.Series(dtype="float64")
    for path in sorted(source.glob("*.parquet")):
        rows = pq.read_table(path, columns=["user_id", "at_s"], filters=pc.field("label") == 1.0).to_pandas()
        last = pd.concat([last, _days(rows.set_index("user_id")["at_s"])]).groupby(level=0).max()
    return last


def _days(moments: pd.Series) -> pd.Series:
    return moments // SECONDS_PER_DAY if HAS_COUNTS else moments


def _copy_positives(source: Path, target: Path, last_days: pd.Series | None) -> int:
    """Copy the rows with label 1 of every file, in their order, of each user those of `last_days`; returns how many."""
    target.mkdir(parents=True)
    num_rows = 0
    for path in sorted(source.glob("*.parquet")):
        with pq.ParquetFile(path) as file, pq.ParquetWriter(target / path.name, file.schema_arrow) as writer:
            # A row group at a time: positives are few, examples need not fit into memory.
            for batch in file.iter_batches():
                positives = batch.filter(pc.equal(batch["label"], 1.0))
                if last_days is not None:
                    users, moments = (positives[name].to_pandas() for name in ("user_id", "at_s"))
                    positives = positives.filter(pa.array(users.map(last_days) == _days(moments)))
                num_rows += len(positives)
                if len(positives):  # Parquet would get an empty row group, which readers count as work
                    writer.write_batch(positives, row_group_size=ROW_GROUP_ROWS)
    return num_rows
