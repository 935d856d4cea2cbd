"""What every entry of MODELS promises, on data whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data.training_sets import make_job

from conf import UsageError
from training.checks import gradient_error, overfit_loss
from training.finished.export import OnnxNet, onnx_bytes
from training.inputs.batch import Batch
from training.inputs.feed import read_epoch
from training.loop.fit import fit
from training.loop.job import Job
from training.loop.state import build_objective
from training.models import MODELS, model_named
from training.saved import load_model
from training.tasks.objective import Objective
from training.workers import LocalWorker


@pytest.fixture(params=MODELS)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    return make_job(tmp_path, request.param, rows=240, groups=100)


def objective_and_batch(job: Job, rows: int) -> tuple[Objective, Batch]:
    batch = next(read_epoch(job.feed("train", LocalWorker()), 0))
    return build_objective(job), batch[:rows]


def test_shapes(job: Job) -> None:
    objective, batch = objective_and_batch(job, 7)
    costs, answers = objective(batch), objective.predict(batch)
    assert costs.shape == (7,)
    assert torch.isfinite(costs).all()
    assert answers.shape[0] == 7
    assert answers.ndim == 2
    costs.sum().backward()
    assert all(p.grad is not None for p in objective.parameters()), "a weight that nothing depends on"


def test_gradients_are_those_of_finite_differences(job: Job) -> None:
    objective, batch = objective_and_batch(job, 4)  # each weight that is tried costs eight forward passes
    assert gradient_error(objective, batch) < 1e-6


def test_a_tiny_batch_is_learned_by_heart(job: Job) -> None:
    """16 rows; linear models and what is drawn at random can't come to 0."""
    objective, batch = objective_and_batch(job, 16)
    with torch.no_grad():
        before = float(objective(batch).mean())
    # Thirteen convolutions, and batch norm rests here: at 0.01 Adam may end on a plateau, by CPU and by seed.
    rate = 0.002 if job.model == "vgg" else 0.01
    after = overfit_loss(objective, batch, rate, steps=150)
    assert after < (0.75 if job.model in ("lr", "two_tower", "gru4rec") else 0.35) * before


def test_a_trained_model_is_saved_and_loaded_with_equal_answers(job: Job) -> None:
    numbers = fit(LocalWorker(), job)
    assert np.isfinite(numbers["test_log_loss"])
    batch = next(read_epoch(job.feed("test", LocalWorker()), 0))
    tensors = model_named(job.model).task.model_inputs(batch, job.inputs)
    one, other = (load_model(job.run_folder / "model", job.config).eval() for _ in range(2))
    with torch.no_grad():
        assert torch.equal(one(*tensors), other(*tensors))


OWN_MODEL = """
from conf import Config
from training.inputs.schema import Inputs
from training.net_settings import NetSettings
from training.nn.layers import FieldEmbedding, concat_features, concat_width, mlp
from torch import nn

class Concat(nn.Module):
    def __init__(self, inputs, settings):
        super().__init__()
        self.embedding = FieldEmbedding(inputs, settings.dim)
        self.deep = mlp(concat_width(inputs, settings.dim), settings, 1)

    def forward(self, sparse, dense):
        return self.deep(concat_features(self.embedding(sparse), dense)).squeeze(1)

def build(config, inputs):
    return Concat(inputs, config.get(NetSettings))
"""


def test_a_model_of_ones_own_is_trained_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/extending.md has it; clicks follow from topic and a number, so any model that works is far above 0.5."""
    (tmp_path / "own_net.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert fit(LocalWorker(), make_job(tmp_path, "own_net:build", "train.epochs=3"))["test_auc"] > 0.85


def test_an_unknown_model_is_refused_with_a_list() -> None:
    with pytest.raises(UsageError, match="unknown model 'deepmf'; choose from lr, fm,"):
        model_named("deepmf")


def test_exported_to_onnx_a_model_answers_the_same_for_any_number_of_rows(job: Job, tmp_path: Path) -> None:
    objective, batch = objective_and_batch(job, 7)
    net = objective.net.eval()
    tensors = objective.task.model_inputs(batch, job.inputs)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(net, tensors))
    for rows in (7, 1, 3):
        part = tuple(tensor[:rows] for tensor in tensors)
        with torch.no_grad():
            expected = net(*part).numpy()
        np.testing.assert_allclose(OnnxNet(path)(*part).numpy(), expected, rtol=1e-4, atol=1e-5)
