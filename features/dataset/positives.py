"""The positives of a day's training set on their own: what sequence and retrieval models learn from.

Made from the published examples, a row group at a time, when a model first asks for them; needs no Spark.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.versions import current_version, publish_version
from features.dataset.kinds import EXAMPLES, PARTS, POSITIVES

ROWS = 8192  # rows of a row group


def run(config: Config, day: date) -> dict[str, Any]:
    """Publish the positives of the newest examples of `day`, unless they are there already; returns rows of each split.

    Raises UserError when a split has none.
    """
    paths = config.get(Paths)
    examples, _ = current_version(paths.datasets(EXAMPLES, day), command=f"millrace features build --date {day}")
    folder = paths.datasets(POSITIVES, day)
    if (folder / "current.json").exists():
        _, about = current_version(folder, command="")
        if about["examples"] == examples.name:
            return dict(about["rows"])
    about = {"examples": examples.name, "rows": {}}
    with publish_version(folder, about) as version:
        for split in PARTS:
            about["rows"][split] = _copy(examples / split, version / split)
        if missing := [split for split in PARTS if not about["rows"][split]]:
            raise UserError(f"no positives among the {' and '.join(missing)} rows of {day}")
    return dict(about["rows"])


def _copy(source: Path, target: Path) -> int:
    """Rows with label 1 of the files of a folder, file by file, in their order."""
    target.mkdir(parents=True)
    rows = 0
    for path in sorted(source.glob("*.parquet")):
        with pq.ParquetFile(path) as file, pq.ParquetWriter(target / path.name, file.schema_arrow) as out:
            for batch in file.iter_batches():
                chosen = batch.filter(pc.equal(batch["label"], 1.0))
                rows += len(chosen)
                if len(chosen):
                    out.write_batch(chosen, row_group_size=ROWS)
    return rows
