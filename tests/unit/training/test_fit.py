"""The loop on constructed data with a known answer, without Ray or Spark."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from conf import Config, UserError, load
from training import checkpoint
from training.fit import Job, fit
from training.models import MODELS, builder_of
from training.models.deepfm import DeepFM
from training.settings import DeepFMSettings
from training.workers import LocalWorker


def make_job(folder: Path, *overrides: str, rows: int = 4000) -> Job:
    """Clicks follow from one category and one number: learnable to an AUC near 0.9."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        (folder / "data" / split).mkdir(parents=True, exist_ok=True)
        a, b, x = rng.integers(1, 8, rows), rng.integers(1, 50, rows), rng.normal(size=rows).astype(np.float32)
        p = 1 / (1 + np.exp(-(a - 4.0 + 2 * x)))
        label = (rng.random(rows) < p).astype(np.float32)
        table = pa.table({"a": a, "b": b, "x": x, "label": label})
        pq.write_table(table, folder / "data" / split / "part-0.parquet", row_group_size=500)
    config: Config = load(overrides=["train.batch_size=256", "train.learning_rate=0.02", *overrides], environment={})
    run = folder / "run"
    for part in ("model", "checkpoints"):
        (run / part).mkdir(parents=True, exist_ok=True)
    return Job(config, "deepfm", folder / "data", run, ("a", "b"), ("x",), (8, 64))


def weights(job: Job) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(job.run_folder / "model/deepfm.pt", weights_only=True)
    return state


def test_the_loop_learns_what_can_be_learned(tmp_path: Path) -> None:
    numbers = fit(LocalWorker(), make_job(tmp_path, "train.epochs=3"))
    assert numbers["test_auc"] > 0.88
    assert numbers["test_rows"] == 4000


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    whole = make_job(tmp_path / "whole", "train.epochs=3")
    fit(LocalWorker(), whole)
    broken = make_job(tmp_path / "broken", "train.epochs=3")
    fit(LocalWorker(), make_job(tmp_path / "broken", "train.epochs=1"))
    fit(LocalWorker(), broken)
    last = [checkpoint.load_newest(job.run_folder / "checkpoints") for job in (whole, broken)]
    assert last[0] is not None
    assert last[1] is not None
    assert last[0]["epoch"] == last[1]["epoch"] == 2
    for name, tensor in last[0]["model"].items():
        assert torch.equal(tensor, last[1]["model"][name]), name


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path / name) for name in ("a", "b")]
    for job in jobs:
        fit(LocalWorker(), job)
    assert all(torch.equal(a, b) for a, b in zip(*(weights(job).values() for job in jobs), strict=True))


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    bad = pa.table({"a": [1], "b": [1], "x": np.array([np.nan], np.float32), "label": np.array([1], np.float32)})
    pq.write_table(bad, tmp_path / "data/train/part-0.parquet")
    with pytest.raises(UserError, match="the loss is nan at step 0 of epoch 0"):
        fit(LocalWorker(), job)


def test_a_corrupt_checkpoint_is_refused_and_the_one_before_taken(tmp_path: Path) -> None:
    for epoch in range(3):
        checkpoint.save(tmp_path, epoch, 0.5 - epoch / 10, {"epoch": epoch}, keep_best=2)
    newest = next(tmp_path.glob("weights.02-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-5])
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["epoch"] == 1


def test_the_best_and_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    for epoch, loss in enumerate([0.3, 0.2, 0.4, 0.5]):
        checkpoint.save(tmp_path, epoch, loss, {}, keep_best=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "weights.00-0.3000.pt",
        "weights.01-0.2000.pt",
        "weights.03-0.5000.pt",
    ]
    assert checkpoint.best(tmp_path) == tmp_path / "weights.01-0.2000.pt"


def test_deepfm_pairs_are_the_sum_over_all_pairs() -> None:
    model = DeepFM([5, 6, 7], 2, DeepFMSettings(dim=4, hidden=(3,), dropout=0.0))
    torch.nn.init.normal_(model.embedding.weight)
    torch.nn.init.zeros_(model.deep[-1].weight)
    torch.nn.init.zeros_(model.deep[-1].bias)
    sparse, dense = torch.tensor([[1, 2, 3], [0, 0, 0]]), torch.zeros((2, 2))
    v = model.embedding(sparse + model.offsets)
    pairs = sum((v[:, i] * v[:, j]).sum(1) for i in range(3) for j in range(i + 1, 3))
    assert torch.allclose(model(sparse, dense), pairs + model.linear_dense.bias, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_maps_rows_to_logits_and_learns(name: str) -> None:
    """What every entry of MODELS promises."""
    model = builder_of(name)(load(environment={}), (5, 9), 3)
    logits = model(torch.tensor([[1, 2], [4, 8]]), torch.randn(2, 3))
    assert logits.shape == (2,)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
