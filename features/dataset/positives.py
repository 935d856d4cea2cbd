"""The positives of a day's training set on their own: what sequence and retrieval models learn from.

Filtered from the published examples, a row group at a time, when a model first asks for them; needs no Spark.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.versions import CURRENT, current_version, publish_version
from features.compatibility import TIMEZONE
from features.dataset.names import POSITIVES, SPLITS, examples_version

ROW_GROUP_ROWS = 8192


def run(config: Config, day: date) -> dict[str, Any]:
    """Publish the positives of the newest examples of `day`, unless that was done already.

    Returns:
        Rows of each split.

    Raises:
        UserError: when there is no training set of `day`, or a split of it has no positives.
    """
    examples, about = examples_version(config, day)
    folder = config.get(Paths).datasets(POSITIVES, day)
    if (folder / CURRENT).exists():
        _, published = current_version(folder, command="")
        if published["examples"] == examples.name:  # made from this very version
            return dict(published["rows"])
    row_counts: dict[str, int] = {}
    origin = {name: about[name] for name in ("features", TIMEZONE) if name in about}
    with publish_version(folder, {"examples": examples.name, "rows": row_counts, **origin}) as version:
        for split in SPLITS:
            row_counts[split] = _copy_positives(examples / split, version / split)
        if missing := [split for split in SPLITS if not row_counts[split]]:
            raise UserError(f"no positives among the {' and '.join(missing)} rows of {day}")
    return row_counts


def _copy_positives(source: Path, target: Path) -> int:
    """Copy the rows with label 1 of every file, in their order; returns how many."""
    target.mkdir(parents=True)
    num_rows = 0
    for path in sorted(source.glob("*.parquet")):
        with pq.ParquetFile(path) as file, pq.ParquetWriter(target / path.name, file.schema_arrow) as writer:
            # A row group at a time: positives are few, examples need not fit into memory.
            for batch in file.iter_batches():
                positives = batch.filter(pc.equal(batch["label"], 1.0))
                num_rows += len(positives)
                if len(positives):  # Parquet would get an empty row group, which readers count as work
                    writer.write_batch(positives, row_group_size=ROW_GROUP_ROWS)
    return num_rows
