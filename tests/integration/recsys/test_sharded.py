"""The FM over Ray actors: what one process learns, and what a killed actor loses."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf import Config, UserError, load
from features.metrics.classification import auc, log_loss
from recsys.fine.csr import Csr
from recsys.fine.fm import OnlineFM
from recsys.fine.sharded import Examples, sharded
from recsys.settings import FMSettings
from training.launch.ray_session import ray_session

SETTINGS = FMSettings(bits=12, k=4, shards=3, shard_rows=256, snapshot_every=4, alpha=0.1, l1=0.1)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    config = load(overrides=[f"paths.home={tmp_path_factory.mktemp('ray')}", "ray.num_cpus=4"], environment={})
    with ray_session(config):
        yield config


def examples(seed: int, rows: int = 4000) -> Examples:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 200, (rows, 6)) * 17 + np.arange(6)
    truth = np.random.default_rng(99).normal(0, 0.7, 4096)
    logit = truth[ids].sum(axis=1) - 1
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Examples(Csr.one_hot(ids), label, np.ones(rows, np.float32))


def in_one_process(parts: list[Examples], settings: FMSettings = SETTINGS) -> tuple[OnlineFM, list[np.ndarray]]:
    model = OnlineFM(settings, fields=6)
    return model, [model.partial_fit(*part) for part in parts]


@pytest.mark.parametrize("field_aware", [False, True])
def test_one_worker_learns_what_one_process_would(ray: Config, tmp_path: Path, field_aware: bool) -> None:
    settings = SETTINGS.model_copy(update={"field_aware": field_aware})
    parts = [examples(seed) for seed in range(2)]
    model, predicted = in_one_process(parts, settings)
    with sharded(OnlineFM(settings, fields=6), tmp_path / "shards") as table:
        found = table.partial_fit([partial(examples, seed) for seed in range(2)], workers=1)
        together = table.to_model()
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(predicted), atol=1e-6)
    rows = examples(7).rows
    np.testing.assert_allclose(together.predict(rows), model.predict(rows), atol=1e-6)
    assert not (tmp_path / "shards").exists()


def test_workers_side_by_side_are_as_good(ray: Config, tmp_path: Path) -> None:
    parts = [examples(seed) for seed in range(6)]
    model, _ = in_one_process(parts)
    with sharded(OnlineFM(SETTINGS), tmp_path / "shards") as table:
        table.partial_fit([partial(examples, seed) for seed in range(6)], workers=3)
        together = table.to_model()
    rows, label, _ = examples(50)
    alone, shared = (log_loss(label, m.predict(rows)) for m in (model, together))
    assert shared == pytest.approx(alone, rel=0.01)
    assert auc(label, together.predict(rows)) > 0.75


def process_id(actor: Any) -> Any:
    return actor.__ray_call__.remote(lambda _: os.getpid())


def test_a_killed_shard_comes_back_without_losing_more_than_an_interval(ray: Config, tmp_path: Path) -> None:
    import ray as cluster

    parts = [partial(examples, seed) for seed in range(4)]
    with sharded(OnlineFM(SETTINGS), tmp_path / "shards") as table:
        table.partial_fit(parts[:3], workers=1)
        before = table.pushes()
        victim = cluster.get(process_id(table.shards[1]))
        os.kill(victim, signal.SIGKILL)
        table.partial_fit(parts[3:], workers=1)
        after = table.pushes()
        assert cluster.get(process_id(table.shards[1])) != victim
        together = table.to_model()
    more = after[0] - before[0]
    assert more > 0
    assert before[1] + more - SETTINGS.snapshot_every <= after[1] <= before[1] + more
    whole, _ = in_one_process([part() for part in parts])
    rows, label, _ = examples(50)
    assert log_loss(label, together.predict(rows)) == pytest.approx(log_loss(label, whole.predict(rows)), rel=0.01)


def test_what_shards_cannot_do_is_refused(ray: Config, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"inclusion": "bloom"})
    with pytest.raises(UserError, match=r"fm\.inclusion=all"), sharded(OnlineFM(settings), tmp_path):
        pass
    bad = examples(1)._replace(rows=Csr.one_hot(np.full((4000, 6), 5000)))
    with (
        sharded(OnlineFM(SETTINGS), tmp_path / "s") as table,
        pytest.raises(ValueError, match=r"feature ids must lie in \[0, 4096\)"),
    ):
        table.partial_fit([lambda: bad], workers=1)
