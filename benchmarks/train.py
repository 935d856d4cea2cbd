"""Rows a second of DeepFM fed from Parquet, on every backend, beside tensors already in memory and FuxiCTR's DeepFM.

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
from training.loop import HISTORY, Job, build_objective, fit
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
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder / "data", rows)
        rates = {"in_memory": in_memory(job_of(folder, "memory")), "from_parquet": local(job_of(folder, "local"))}
        rates["two_in_memory"] = two_in_memory(folder)
        rates |= {f"fuxictr_{kind}": fuxictr(folder, kind) for kind in ("npz", "parquet")}
        starts: dict[str, float] = {}
        with ray_session(config_of(folder)):
            for backend in CLUSTERS:
                for workers in (1, 2):
                    name = f"{backend}_{workers}"
                    rates[name], starts[f"start_s_{name}"] = launched(job_of(folder, name), backend, workers)
    peer = max(rates["fuxictr_npz"], rates["fuxictr_parquet"])
    figures = {"ratio_to_in_memory": rates["from_parquet"] / rates["in_memory"]}
    figures["ratio_to_fuxictr"] = rates["from_parquet"] / peer
    figures["two_process_limit"] = rates["two_in_memory"] / rates["in_memory"]
    figures |= {f"two_worker_speedup_{name}": rates[f"{name}_2"] / rates[f"{name}_1"] for name in CLUSTERS}
    report(f"DeepFM, {rows:,} rows, batches of {BATCH}, one thread a worker", rates, "rows/s", {**figures, **starts})


def config_of(folder: Path) -> Config:
    values = [f"train.batch_size={BATCH}", "train.epochs=3", "net.dim=16", "net.hidden=[400, 400]", "net.dropout=0.0"]
    return load(overrides=[*values, f"paths.home={folder}", "train.threads=1"], environment={})


def write(folder: Path, rows: int) -> None:
    """Clicks follow from the first fields; ids are drawn evenly, which is the worst case for caches."""
    rng = np.random.default_rng(0)
    for split, size in (("train", rows), ("valid", HELD_OUT), ("test", HELD_OUT)):
        (folder / split).mkdir(parents=True)
        ids = {name: rng.integers(0, VALUES, size) for name in FIELDS}
        score = sum(np.sin(ids[name]) for name in FIELDS[:4])
        label = (rng.random(size) < 1 / (1 + np.exp(-score))).astype(np.float32)
        table = pa.table({**ids, "none": np.zeros(size, np.float32), "label": label})
        pq.write_table(table, folder / split / "part-0.parquet", row_group_size=50_000)


def job_of(folder: Path, name: str) -> Job:
    run = folder / name
    for part in ("model", "checkpoints"):
        (run / part).mkdir(parents=True)
    inputs = Inputs(FIELDS, (VALUES,) * len(FIELDS), ("none",))
    return Job(config_of(folder), "deepfm", folder / "data", run, inputs, Columns(FIELDS, ("none",)))


def in_memory(job: Job) -> float:
    """The limit: the same objective and optimizer over batches that are tensors; the fastest of three epochs."""
    batches = list(read_epoch(job.feed("train", LocalWorker()), 0))
    objective = build_objective(job).train()
    config = job.config
    groups = [{"params": list(objective.parameters())}]
    optimizer = make_optimizer(groups, config.get(TrainSettings), config.get(OptimizerSettings))
    rows = sum(int((batch.weight > 0).sum()) for batch in batches)
    return max(rows / _seconds(objective, optimizer, batches) for _ in range(3))


def two_in_memory(folder: Path) -> float:
    """Two processes that share nothing: what two workers could reach together on this machine."""
    with get_context("spawn").Pool(2) as pool:
        return sum(pool.map(_in_memory_apart, [(folder, "memory_0"), (folder, "memory_1")], chunksize=1))


def _in_memory_apart(where: tuple[Path, str]) -> float:
    torch.set_num_threads(1)
    return in_memory(job_of(*where))


def _seconds(objective: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> float:
    started = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        ((objective(batch) * batch.weight).sum() / BATCH).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 10.0)
        optimizer.step()
    return time.perf_counter() - started


def local(job: Job) -> float:
    fit(LocalWorker(), job)
    return _best_rate(job)


def launched(job: Job, backend: str, workers: int) -> tuple[float, float]:
    """Rows a second over all workers, and seconds until the first step."""
    started = time.time()
    BACKENDS[backend]([job], workers)
    first = read_jsonl(job.run_folder / HISTORY)[0]["started_at"]
    return _best_rate(job), first - started


def _best_rate(job: Job) -> float:
    return max(float(row["rows_per_s"]) for row in read_jsonl(job.run_folder / HISTORY))


def fuxictr(folder: Path, kind: str) -> float:
    """FuxiCTR 2.3: DeepFM out of its own layers, as its model zoo has it, trained by its own loop and loader."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    import ray
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    features = FeatureMap("bench", str(folder))
    features.labels = ["label"]
    for i, name in enumerate(FIELDS):
        features.features[name] = {"source": "", "type": "categorical", "vocab_size": VALUES, "padding_idx": None}
        features.column_index[name] = i
    features.column_index["label"] = len(FIELDS)
    features.num_fields, features.input_length, features.default_emb_dim = len(FIELDS), len(FIELDS), 16

    class DeepFM(BaseModel):  # type: ignore[misc]
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
            v = self.embedding_layer(x)
            score = self.fm(x, v) + self.mlp(v.flatten(start_dim=1))
            return {"y_pred": self.output_activation(score)}

    source = _for_fuxictr(folder, kind)
    loader, _ = RankDataLoader(
        features, stage="train", train_data=source, batch_size=BATCH, shuffle=True, data_format=kind, num_workers=1
    )
    model = DeepFM()
    model._max_gradient_norm, model._eval_steps = 10.0, 10**9
    rows, durations = pq.read_metadata(folder / "data/train/part-0.parquet").num_rows, []
    for _ in range(2):
        started = time.perf_counter()
        model.train()
        for batch in loader:
            model.train_step(batch)
        durations.append(time.perf_counter() - started)
    ray.shutdown()  # its loader of Parquet starts one, which is not to be ours
    return float(rows / min(durations))


def _for_fuxictr(folder: Path, kind: str) -> str:
    path = folder / "data/train/part-0.parquet"
    if kind == "parquet":
        return str(path)
    table = pq.read_table(path)
    np.savez(folder / "train.npz", **{name: table[name].to_numpy() for name in (*FIELDS, "label")})
    return str(folder / "train.npz")


if __name__ == "__main__":
    main()
