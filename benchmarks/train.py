"""Rows a second of DeepFM fed from Parquet, on every backend, beside tensors in memory (the limit) and FuxiCTR.

python -m benchmarks.train --scale 1     # 200,000 rows × 39 fields of 2,000 values; dimension 16, layers 400-400
"""

import logging
import tempfile
import time
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.harness import report, scale_option
from conf import Config, load
from conf.runs import read_jsonl
from training.inputs.batch import Batch, Columns
from training.inputs.feed import read_epoch
from training.inputs.schema import Inputs
from training.launch.backends import BACKENDS
from training.launch.ray_session import ray_session
from training.loop.fit import fit
from training.loop.job import HISTORY, Job
from training.loop.state import build_objective
from training.optim.optimizers import make_optimizer
from training.settings import OptimizerSettings, TrainSettings
from training.workers import LocalWorker

FIELDS = tuple(f"c{i}" for i in range(39))
VALUES = 2_000
BATCH = 4096
HELD_OUT = 4096
CLUSTERS = ("ray", "horovod", "spark")


def main() -> None:
    rows = int(200_000 * scale_option(__doc__))
    torch.set_num_threads(1)  # two workers on two cores must not compete for them
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder / "data", rows)
        rates = {
            "in_memory": in_memory_rate(job_of(folder, "memory")),
            "from_parquet": local_rate(job_of(folder, "local")),
        }
        rates["two_in_memory"] = two_in_memory_rate(folder)
        rates |= {f"fuxictr_{kind}": fuxictr_rate(folder, kind) for kind in ("npz", "parquet")}
        starts: dict[str, float] = {}
        with ray_session(config_of(folder)):
            for backend in CLUSTERS:
                for workers in (1, 2):
                    name = f"{backend}_{workers}"
                    rates[name], starts[f"start_s_{name}"] = cluster_rate(job_of(folder, name), backend, workers)
    peer = max(rates["fuxictr_npz"], rates["fuxictr_parquet"])
    figures = {"ratio_to_in_memory": rates["from_parquet"] / rates["in_memory"]}
    figures["ratio_to_fuxictr"] = rates["from_parquet"] / peer
    figures["two_process_limit"] = rates["two_in_memory"] / rates["in_memory"]
    figures |= {f"two_worker_speedup_{name}": rates[f"{name}_2"] / rates[f"{name}_1"] for name in CLUSTERS}
    report(f"DeepFM, {rows:,} rows, batches of {BATCH}, one thread a worker", rates, "rows/s", {**figures, **starts})


def config_of(folder: Path) -> Config:
    """Settings of the model and the loop that FuxiCTR has below, too."""
    values = [f"train.batch_size={BATCH}", "train.epochs=3", "net.dim=16", "net.hidden=[400, 400]", "net.dropout=0.0"]
    return load(overrides=[*values, f"paths.home={folder}", "train.threads=1"], environment={})


def write(folder: Path, rows: int) -> None:
    """Three splits whose clicks follow from the first four fields; ids are uniform, the worst case for caches."""
    rng = np.random.default_rng(0)
    for split, size in (("train", rows), ("valid", HELD_OUT), ("test", HELD_OUT)):
        (folder / split).mkdir(parents=True)
        ids = {name: rng.integers(0, VALUES, size) for name in FIELDS}
        logit = sum(np.sin(ids[name]) for name in FIELDS[:4])
        label = (rng.random(size) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        # The model reads a number, too, and FuxiCTR none: a constant one costs next to nothing.
        table = pa.table({**ids, "zero": np.zeros(size, np.float32), "label": label})
        pq.write_table(table, folder / split / "part-0.parquet", row_group_size=50_000)


def job_of(folder: Path, name: str) -> Job:
    """A job of DeepFM whose run folder is `name`."""
    run = folder / name
    for part in ("model", "checkpoints"):
        (run / part).mkdir(parents=True)
    inputs = Inputs(FIELDS, (VALUES,) * len(FIELDS), ("zero",))
    return Job(config_of(folder), "deepfm", folder / "data", run, inputs, Columns(FIELDS, ("zero",)))


def in_memory_rate(job: Job) -> float:
    """The limit: the same loss and optimizer over batches that are tensors in memory; the fastest of three epochs."""
    batches = list(read_epoch(job.feed("train", LocalWorker()), 0))
    objective = build_objective(job).train()
    config = job.config
    groups = [{"params": list(objective.parameters())}]
    optimizer = make_optimizer(groups, config.get(TrainSettings), config.get(OptimizerSettings))
    rows = sum(int((batch.weight > 0).sum()) for batch in batches)
    return max(rows / _epoch_seconds(objective, optimizer, batches) for _ in range(3))


def two_in_memory_rate(folder: Path) -> float:
    """Two processes that share nothing: what two workers could reach together on this machine."""
    with get_context("spawn").Pool(2) as pool:
        return sum(pool.map(_in_memory_process, [(folder, "memory_0"), (folder, "memory_1")], chunksize=1))


def _in_memory_process(where: tuple[Path, str]) -> float:
    torch.set_num_threads(1)  # spawned: the parent's setting is not inherited
    return in_memory_rate(job_of(*where))


def _epoch_seconds(objective: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> float:
    started = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        ((objective(batch) * batch.weight).sum() / BATCH).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 10.0)
        optimizer.step()
    return time.perf_counter() - started


def local_rate(job: Job) -> float:
    """Rows a second of the loop in this process, fed from Parquet."""
    fit(LocalWorker(), job)
    return _best_rate(job)


def cluster_rate(job: Job, backend: str, workers: int) -> tuple[float, float]:
    """Rows a second over all workers, and seconds until the first step."""
    started = time.time()
    BACKENDS[backend]([job], workers)
    first_step = read_jsonl(job.run_folder / HISTORY)[0]["started_at"]
    return _best_rate(job), first_step - started


def _best_rate(job: Job) -> float:
    # The fastest epoch: the first one also pays for warming up.
    return max(float(row["rows_per_s"]) for row in read_jsonl(job.run_folder / HISTORY))


def fuxictr_rate(folder: Path, kind: str) -> float:
    """Rows a second of FuxiCTR 2.3's loop and loader; `kind` of its input is `npz`, all in memory, or `parquet`."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    import ray
    from fuxictr.pytorch.dataloaders import RankDataLoader

    features, source = _fuxictr_features(folder), _fuxictr_input(folder, kind)
    loader, _ = RankDataLoader(
        features, stage="train", train_data=source, batch_size=BATCH, shuffle=True, data_format=kind, num_workers=1
    )
    model = _fuxictr_deepfm(features, folder)
    # What its `fit` sets before it calls `train_step`: clipping as ours, and no evaluation within an epoch.
    model._max_gradient_norm, model._eval_steps = 10.0, 10**9
    rows, durations = pq.read_metadata(folder / "data/train/part-0.parquet").num_rows, []
    for _ in range(2):
        started = time.perf_counter()
        model.train()
        for batch in loader:
            model.train_step(batch)
        durations.append(time.perf_counter() - started)
    ray.shutdown()  # its loader of Parquet starts a Ray of its own, which ours would join
    return float(rows / min(durations))


def _fuxictr_features(folder: Path) -> Any:
    """FuxiCTR's description of the data set, which it would otherwise read from a file."""
    from fuxictr.features import FeatureMap

    features = FeatureMap("bench", str(folder))
    features.labels = ["label"]
    for i, name in enumerate(FIELDS):
        features.features[name] = {"source": "", "type": "categorical", "vocab_size": VALUES, "padding_idx": None}
        features.column_index[name] = i
    features.column_index["label"] = len(FIELDS)
    features.num_fields, features.input_length, features.default_emb_dim = len(FIELDS), len(FIELDS), 16
    return features


def _fuxictr_deepfm(features: Any, folder: Path) -> Any:
    """DeepFM of FuxiCTR's own layers, as its model zoo has it."""
    from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    class FuxiDeepFM(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(features, "DeepFM", gpu=-1, verbose=0, model_root=str(folder), metrics=["AUC"])
            self.embedding_layer = FeatureEmbedding(features, 16)
            self.fm = FactorizationMachine(features)
            self.mlp = MLP_Block(
                input_dim=features.sum_emb_out_dim() if hasattr(features, "sum_emb_out_dim") else 16 * len(FIELDS),
                output_dim=1,
                hidden_units=[400, 400],
                hidden_activations="ReLU",
                output_activation=None,
            )
            self.compile("adam", "binary_crossentropy", 0.002)
            self.reset_parameters()

        def forward(self, inputs: Any) -> dict[str, torch.Tensor]:
            x = self.get_inputs(inputs)
            v = self.embedding_layer(x)  # (B, F, D)
            logit = self.fm(x, v) + self.mlp(v.flatten(start_dim=1))  # (B, 1)
            return {"y_pred": self.output_activation(logit)}

    return FuxiDeepFM()


def _fuxictr_input(folder: Path, kind: str) -> str:
    path = folder / "data/train/part-0.parquet"
    if kind == "parquet":
        return str(path)
    table = pq.read_table(path)
    np.savez(folder / "train.npz", **{name: table[name].to_numpy() for name in (*FIELDS, "label")})
    return str(folder / "train.npz")


if __name__ == "__main__":
    main()
