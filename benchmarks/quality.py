"""AUC, log loss and seconds an epoch of FM and DeepFM beside FuxiCTR's, on the training set of a site.

cd frappe_x1 && millrace ingest site --site frappe-x1 && millrace features build --site frappe-x1 --date 2015-03-03
MILLRACE_SITE=frappe-x1 python -m benchmarks.quality --date 2015-03-03

Both read the same rows and have the same settings: Adam, batches of 4096, embeddings of 10, Xavier's weights in
layers, the best epoch by the validation AUC, a tenth of the rate when it is no better, then the end: after one epoch
and two by FuxiCTR, after two and three by us.
"""

import argparse
import json
import logging
import tempfile
import warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from conf import Config, load
from conf.runs import read_jsonl
from features.metrics.classification import auc, log_loss
from training.inputs.dataset import TaskDataset, open_dataset
from training.loop.fit import fit
from training.loop.job import HISTORY, Job
from training.settings import TrainSettings
from training.tasks.click import Click
from training.workers import LocalWorker

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Recipe:
    """What is set for a model, of ours and of FuxiCTR's."""

    rate: float
    decay: float
    """L2 of embeddings and linear weights: Adam's weight decay, which is FuxiCTR's regularisation term."""
    std: float = 0.01
    """Deviation of our embeddings at the start; FuxiCTR's is 0.0001."""
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0


RECIPES = {
    "fm": Recipe(rate=0.01, decay=5e-6),
    "deepfm": Recipe(rate=0.001, decay=0.05, std=0.0001, hidden=(400, 400, 400), dropout=0.2),
}


def main() -> None:
    """Train each model, ours and theirs, and print one JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", type=date.fromisoformat, required=True, help="of the training set")
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--epochs", type=int, default=60, help="at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for model in arguments.models:
        recipe = RECIPES[model]
        config = config_of(recipe, arguments.epochs)
        dataset = open_dataset(config, Click(), arguments.date)
        for measure in (measure_ours, measure_fuxictr):
            with tempfile.TemporaryDirectory() as scratch:
                figures = measure(model, recipe, config, dataset, Path(scratch))
            rounded = {name: round(value, 4) for name, value in figures.items()}
            print(json.dumps({"model": model, "by": measure.__name__.removeprefix("measure_"), **rounded}), flush=True)


def config_of(recipe: Recipe, epochs: int) -> Config:
    """Settings of our loop and model."""
    values = [
        "net.dim=10", f"net.embedding_std={recipe.std}", f"net.hidden={list(recipe.hidden)}",
        f"net.dropout={recipe.dropout}", "train.initialise=xavier", "train.batch_size=4096",
        f"train.learning_rate={recipe.rate}", "train.weight_decay=0", f"train.embedding_decay={recipe.decay}",
        # Training sets are in the order of users: with a smaller buffer batches are of few. FuxiCTR shuffles all rows.
        "train.shuffle_rows=1000000",
        f"train.epochs={epochs}", "train.monitor=auc", "train.patience=3",
        "schedule.name=plateau", "schedule.factor=0.1", "schedule.patience=2",
    ]  # fmt: skip
    return load(overrides=values)


def measure_ours(model: str, recipe: Recipe, config: Config, dataset: TaskDataset, scratch: Path) -> dict[str, float]:
    """Test AUC and log loss of the best epoch, seconds of the median epoch, and the number of epochs."""
    job = Job.prepared(config, model, dataset, scratch / "run")
    metrics = fit(LocalWorker(), job)
    seconds = [row["seconds"] for row in read_jsonl(job.run_folder / HISTORY)]
    return {
        "auc": metrics["test_auc"],
        "log_loss": metrics["test_log_loss"],
        "epoch_s": float(np.median(seconds)),
        "epochs": len(seconds),
    }


def measure_fuxictr(
    model: str, recipe: Recipe, config: Config, dataset: TaskDataset, scratch: Path
) -> dict[str, float]:
    """The same of FuxiCTR's layers and loop, fed from arrays in memory."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    from fuxictr.pytorch.dataloaders import RankDataLoader

    fields = _write_arrays(dataset, scratch)
    features = _feature_map(fields, scratch)
    arrays = {f"{split}_data": str(scratch / f"{split}.npz") for split in SPLITS}
    train, valid, test = RankDataLoader(features, **arrays, batch_size=4096, data_format="npz", num_workers=1)
    net = _fuxictr_net(features, recipe, scratch)
    durations: list[float] = []
    evaluate = net.eval_step
    started = perf_counter()

    def timed_evaluation() -> None:  # at the end of each epoch
        nonlocal started
        durations.append(perf_counter() - started)
        evaluate()
        started = perf_counter()

    net.eval_step = timed_evaluation
    net.fit(train, epochs=config.get(TrainSettings).epochs, validation_data=valid)
    predictions = np.asarray(net.predict(test), np.float64)
    labels = np.load(scratch / "test.npz")["label"]
    return {
        "auc": auc(labels, predictions),
        "log_loss": log_loss(labels, predictions),
        "epoch_s": float(np.median(durations)),
        "epochs": len(durations),
    }


def _write_arrays(dataset: TaskDataset, scratch: Path) -> dict[str, int]:
    """Write a file of arrays for each split; returns the fields that have several values, with their sizes."""
    tables = {
        split: pq.read_table(dataset.folder / split, columns=[*dataset.columns.sparse, "label"]) for split in SPLITS
    }
    sizes = dict(zip(dataset.columns.sparse, dataset.inputs.buckets, strict=True))
    fields = {name: size for name, size in sizes.items() if len(tables["train"][name].unique()) > 1}
    for split, table in tables.items():
        np.savez(scratch / f"{split}.npz", **{name: table[name].to_numpy() for name in (*fields, "label")})
    return fields


def _feature_map(fields: dict[str, int], scratch: Path) -> Any:
    """FuxiCTR's description of the data set, which it would otherwise read from a file."""
    from fuxictr.features import FeatureMap

    features = FeatureMap("quality", str(scratch))
    features.labels = ["label"]
    for i, (name, size) in enumerate(fields.items()):
        features.features[name] = {"source": "", "type": "categorical", "vocab_size": size, "padding_idx": None}
        features.column_index[name] = i
    features.column_index["label"] = len(fields)
    features.num_fields, features.input_length, features.default_emb_dim = len(fields), len(fields), 10
    return features


def _fuxictr_net(features: Any, recipe: Recipe, scratch: Path) -> Any:
    """FM, or DeepFM where the recipe has hidden layers, of FuxiCTR's own layers, as its model zoo has them."""
    from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    class Net(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                features, "net", gpu=-1, verbose=0, model_root=str(scratch), metrics=["AUC", "logloss"],
                monitor="AUC", early_stop_patience=2, embedding_regularizer=recipe.decay,
            )  # fmt: skip
            self.embedding_layer = FeatureEmbedding(features, 10)
            self.fm = FactorizationMachine(features)
            self.mlp: nn.Module | None = None
            if recipe.hidden:
                self.mlp = MLP_Block(
                    input_dim=features.sum_emb_out_dim(),
                    output_dim=1,
                    hidden_units=list(recipe.hidden),
                    hidden_activations="ReLU",
                    output_activation=None,
                    dropout_rates=recipe.dropout,
                )
            self.compile("adam", "binary_crossentropy", recipe.rate)
            self.reset_parameters()

        def forward(self, inputs: Any) -> dict[str, torch.Tensor]:
            x = self.get_inputs(inputs)
            v = self.embedding_layer(x)  # (B, F, D)
            logit = self.fm(x, v)  # (B, 1)
            if self.mlp is not None:
                logit = logit + self.mlp(v.flatten(start_dim=1))
            return {"y_pred": self.output_activation(logit)}

    torch.manual_seed(7)
    (scratch / "quality").mkdir(exist_ok=True)
    return Net()


if __name__ == "__main__":
    main()
