"""Rows a second from Parquet to batches: Arrow alone (the limit), Petastorm's loader, Ray Data and Millrace's feed.

python -m benchmarks.feed --scale 1     # 2,000,000 rows × 13 float32 + 26 int64 + label
"""

import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.harness import best_seconds, report, scale_option
from conf import load
from training.inputs.batch import Columns
from training.inputs.feed import FeedSpec, read_epoch
from training.inputs.petastorm_readers import make_batch_reader
from training.launch.ray_session import ray_session

DENSE = tuple(f"d{i}" for i in range(13))
SPARSE = tuple(f"s{i}" for i in range(26))
BATCH = 4096
ROW_GROUP = 50_000
SHUFFLE_ROWS = 200_000


def main() -> None:
    rows = int(2_000_000 * scale_option(__doc__))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder, rows)
        spec = FeedSpec(folder, Columns(SPARSE, DENSE), BATCH)
        shuffled = replace(spec, shuffle_rows=SHUFFLE_ROWS)
        seconds = {
            "arrow": best_seconds(lambda: read_by_arrow(folder)),
            # Once: at their rates a run is long enough to be steady.
            "petastorm": best_seconds(lambda: read_by_petastorm(folder, 0), 1),
            "petastorm_shuffled": best_seconds(lambda: read_by_petastorm(folder, SHUFFLE_ROWS), 1),
            "feed": best_seconds(lambda: read_by_feed(spec)),
            "feed_shuffled": best_seconds(lambda: read_by_feed(shuffled)),
        }
        seconds["ray_data"] = seconds_of_ray_data(folder)
    rates = {name: rows / duration for name, duration in seconds.items()}
    ratio = rates["feed"] / rates["arrow"]
    ratio_shuffled = rates["feed_shuffled"] / rates["arrow"]
    title = f"Parquet to batches of {BATCH}, {rows:,} rows"
    report(title, rates, "rows/s", {"ratio_to_limit": ratio, "ratio_to_limit_shuffled": ratio_shuffled})


def write(folder: Path, rows: int) -> None:
    """One file in the shape of Criteo's display advertising data: 13 numbers, 26 ids, a label."""
    rng = np.random.default_rng(0)
    columns: dict[str, NDArray[Any]] = {name: rng.standard_normal(rows).astype(np.float32) for name in DENSE}
    columns |= {name: rng.integers(0, 1_000_000, rows) for name in SPARSE}
    table = pa.table({**columns, "label": rng.integers(0, 2, rows).astype(np.float32)})
    pq.write_table(table, folder / "part-0.parquet", row_group_size=ROW_GROUP)


def read_by_arrow(folder: Path) -> None:
    """The limit: record batches of a row group, columns stacked, nothing else."""
    for batch in ds.dataset(folder).to_batches(batch_size=ROW_GROUP):
        torch.from_numpy(np.stack([batch[name].to_numpy() for name in DENSE], axis=1))
        torch.from_numpy(np.stack([batch[name].to_numpy() for name in SPARSE], axis=1))


def read_by_petastorm(folder: Path, shuffle: int) -> None:
    """Petastorm's own loader for torch, with as many reading threads as the feed has."""
    from petastorm.pytorch import BatchedDataLoader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with make_batch_reader(f"file://{folder}", num_epochs=1, workers_count=2) as reader:
            loader = BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=shuffle)
            for batch in loader:
                torch.stack([batch[name] for name in DENSE], dim=1)
                torch.stack([batch[name] for name in SPARSE], dim=1)


def seconds_of_ray_data(folder: Path) -> float:
    """Seconds of Ray Data's own batches, columns stacked; starting Ray is not counted."""
    import ray

    with ray_session(load(environment={})):
        ray.data.DataContext.get_current().enable_progress_bars = False
        started = time.perf_counter()
        for batch in ray.data.read_parquet(str(folder)).iter_torch_batches(batch_size=BATCH):
            torch.stack([batch[name] for name in DENSE], dim=1)
            torch.stack([batch[name] for name in SPARSE], dim=1)
        return time.perf_counter() - started


def read_by_feed(spec: FeedSpec) -> int:
    """Rows of an epoch of the feed, whose batches are read and thrown away."""
    return sum(len(batch.label) for batch in read_epoch(spec, 0))


if __name__ == "__main__":
    main()
