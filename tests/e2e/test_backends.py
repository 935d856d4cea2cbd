"""One loop on three backends: on two workers Ray and Horovod end with the same numbers, from one start of Ray."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf import Config, load
from training.fit import Job
from training.launch import BACKENDS
from training.ray_session import ray_session


@pytest.fixture(scope="module")
def config() -> Config:
    return load(
        overrides=["train.batch_size=200", "train.epochs=2", "train.learning_rate=0.02", "deepfm.dropout=0.0"],
        environment={},
    )


@pytest.fixture(scope="module")
def ray(config: Config) -> Iterator[None]:
    with ray_session(config):
        yield


def make_job(folder: Path, config: Config) -> Job:
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        (folder / "data" / split).mkdir(parents=True)
        a, x = rng.integers(1, 8, 2000), rng.normal(size=2000).astype(np.float32)
        label = (rng.random(2000) < 1 / (1 + np.exp(-(a - 4.0 + x)))).astype(np.float32)
        pq.write_table(
            pa.table({"a": a, "x": x, "label": label}), folder / f"data/{split}/part-0.parquet", row_group_size=250
        )
    for part in ("model", "checkpoints"):
        (folder / "run" / part).mkdir(parents=True)
    return Job(config, "deepfm", folder / "data", folder / "run", ("a",), ("x",), (8,))


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_ray_and_horovod_end_with_the_same_numbers(tmp_path: Path, config: Config) -> None:
    found = {name: BACKENDS[name](make_job(tmp_path / name, config), 2) for name in ("ray", "horovod")}
    assert found["ray"]["test_auc"] > 0.8
    for name, value in found["ray"].items():
        assert found["horovod"][name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_one_worker_on_horovod_is_the_local_loop(tmp_path: Path, config: Config) -> None:
    found = {name: BACKENDS[name](make_job(tmp_path / name, config), 1) for name in ("local", "horovod")}
    for name, value in found["local"].items():
        assert found["horovod"][name] == pytest.approx(value, abs=1e-5), name
