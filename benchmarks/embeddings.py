"""CPU milliseconds of a DeepFM step by the rows of its tables: gradients of whole tables, and of a batch's rows alone.

python -m benchmarks.embeddings --scale 1     # 39 fields, dimension 16, batches of 4096 uniform ids, one thread
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import report, scale_option
from benchmarks.train import BATCH, FIELDS, config_of
from training.inputs.batch import Batch, Columns
from training.inputs.schema import Inputs
from training.loop.job import Job
from training.loop.state import build_objective
from training.nn.layers import use_sparse_gradients
from training.nn.sharded_embedding import clip_grad_norm
from training.optim.optimizers import make_optimizer
from training.settings import OptimizerSettings, TrainSettings

TABLE_ROWS = (100_000, 1_000_000, 5_000_000, 20_000_000)
STEPS = 12  # the first two, which allocate the optimizer's moments, are left out


def main() -> None:
    scale = scale_option(__doc__)
    torch.set_num_threads(1)
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for rows in (int(size * scale) for size in TABLE_ROWS):
            for name, is_sparse in (("whole_tables", False), ("rows_of_batch", True)):
                times[f"{name}_{rows}"] = step_ms(Path(scratch), rows, is_sparse=is_sparse)
    largest = int(TABLE_ROWS[-1] * scale)
    figures = {"ratio_at_largest": times[f"whole_tables_{largest}"] / times[f"rows_of_batch_{largest}"]}
    report(f"A step of DeepFM, batches of {BATCH}", times, "CPU ms", figures)


def step_ms(folder: Path, rows: int, *, is_sparse: bool) -> float:
    """Median CPU time of a step with tables of `rows` rows in all, by clipping and Adam of the training loop."""
    buckets = rows // len(FIELDS)
    inputs = Inputs(FIELDS, (buckets,) * len(FIELDS), ("zero",))
    config = config_of(folder)
    objective = build_objective(Job(config, "deepfm", folder, folder, inputs, Columns(FIELDS, ("zero",)))).train()
    if is_sparse:
        use_sparse_gradients(objective)
    groups = [{"params": list(objective.parameters())}]
    train, chosen = config.get(TrainSettings), config.get(OptimizerSettings)
    optimizer = make_optimizer(groups, train, chosen, by_rows=is_sparse)
    rng, times = np.random.default_rng(0), []
    for _ in range(STEPS):
        batch = random_batch(rng, buckets)
        started = time.process_time()
        optimizer.zero_grad()
        (objective(batch).sum() / BATCH).backward()
        clip_grad_norm(objective, train.clip_norm)
        optimizer.step()
        times.append(1000 * (time.process_time() - started))
    return float(np.median(times[2:]))


def random_batch(rng: np.random.Generator, buckets: int) -> Batch:
    """Uniform ids, the worst case: hardly any row comes twice."""
    ids = rng.integers(0, buckets, (BATCH, len(FIELDS)))
    labels = (rng.random(BATCH) < 0.5).astype(np.float32)
    return Batch(
        sparse=torch.from_numpy(ids),
        dense=torch.zeros(BATCH, 1),
        label=torch.from_numpy(labels),
        weight=torch.ones(BATCH),
    )


if __name__ == "__main__":
    main()
