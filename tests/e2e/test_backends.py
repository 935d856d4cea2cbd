"""One loop on four backends: the same losses from the same seed, on one worker and on two."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from data.training_sets import make_job, small_config
from engines.listeners import nothing_reachable

from conf import UserError
from conf.runs import read_jsonl
from training.launch.backends import BACKENDS
from training.launch.ray_session import ray_session
from training.loop.job import HISTORY, Job
from training.models import MODELS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    with nothing_reachable(), ray_session(small_config()):
        yield


def losses(job: Job) -> list[float]:
    """Training and validation losses of all epochs."""
    rows = read_jsonl(job.run_folder / HISTORY)
    return [row[name] for row in rows for name in ("train_loss", "log_loss")]


# A click model, one of sequences, and gradients of a batch's rows alone, which backends average in another way.
MODELS_TO_COMPARE = {"deepfm": "deepfm", "sasrec": "sasrec", "rows of deepfm": "deepfm"}
LAUNCHES = [("ray", 2), ("horovod", 2), ("spark", 2)]
ONE_WORKER = [("local", 1), ("ray", 1), ("horovod", 1), ("spark", 1)]


@pytest.mark.usefixtures("ray", "spark")
@pytest.mark.parametrize(
    "launches",
    [
        pytest.param(LAUNCHES, id="two workers"),
        pytest.param([*LAUNCHES, *ONE_WORKER], id="one worker, too", marks=pytest.mark.wide),
    ],
)
def test_all_backends_learn_the_same(tmp_path: Path, launches: list[tuple[str, int]]) -> None:
    """On one worker all are the local loop; on two, Horovod and Spark are Ray."""
    histories: dict[tuple[str, int], list[list[float]]] = {}
    for backend, workers in launches:
        jobs = [
            make_job(
                tmp_path / f"{backend}-{workers}-{name}",
                model,
                "net.dropout=0.2",
                f"net.sparse_gradients={name.startswith('rows')}",
            )
            for name, model in MODELS_TO_COMPARE.items()
        ]
        with nothing_reachable():
            metrics, _, by_rows = BACKENDS[backend](jobs, workers)
        assert min(metrics["test_auc"], by_rows["test_auc"]) > 0.85
        histories[backend, workers] = [losses(job) for job in jobs]
    for (backend, workers), history in histories.items():
        expected = histories["local" if workers == 1 else "ray", workers]
        for name, values, others in zip(MODELS_TO_COMPARE, history, expected, strict=True):
            assert values == pytest.approx(others, abs=1e-5), (backend, workers, name)


@pytest.mark.wide
@pytest.mark.usefixtures("ray", "spark")
@pytest.mark.parametrize("backend", ["ray", "horovod", "spark"])
def test_every_model_trains_on_every_backend(tmp_path: Path, backend: str) -> None:
    """On two workers, which are started once for all models."""
    jobs = [make_job(tmp_path / name, name, "train.epochs=1", rows=240, groups=50) for name in MODELS]
    for job, numbers in zip(jobs, BACKENDS[backend](jobs, 2), strict=True):
        assert numbers["test_rows"] == 240, job.model
        assert np.isfinite(numbers["test_log_loss"]), job.model
        assert (job.run_folder / "model" / f"{job.model}.pt").exists()


@pytest.mark.wide  # a worker's own error is told below
@pytest.mark.usefixtures("ray")
def test_what_a_user_has_to_mend_is_one_line_and_is_not_tried_again(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", "optimizer.name=sgd", "train.learning_rate=1e30", "train.clip_norm=0")
    with pytest.raises(
        UserError, match=r"the loss is (nan|inf) at step \d+ of epoch 0, in .*lower train.learning_rate"
    ):
        BACKENDS["ray"]([job], 2)
    assert not (job.run_folder / "final.json").exists()


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    "backend", ["horovod", *(pytest.param(name, marks=pytest.mark.wide) for name in ("ray", "spark"))]
)
def test_a_failed_worker_s_own_error_is_named_before_the_way_to_go_on(tmp_path: Path, backend: str) -> None:
    """A file of the data set is damaged: no mistake of the settings, so that the checkpoints may be of use."""
    job = make_job(tmp_path, "deepfm", "train.max_failures=0")
    for path in (tmp_path / "data/train").glob("*.parquet"):
        path.write_bytes(b"PAR1 no more")
    with pytest.raises(UserError) as failure:
        BACKENDS[backend]([job], 2)
    pattern = r"a worker of run failed: rank [01]: ArrowInvalid: .*[Pp]arquet.* go on with --resume"
    assert re.fullmatch(pattern, str(failure.value)), str(failure.value)
