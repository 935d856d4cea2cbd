"""What a launcher reports of workers that failed: the first error of their own, not what followed from it."""

import re
from pathlib import Path
from typing import NoReturn

import pytest
from data.training_sets import make_job

from conf import UserError
from training.launch.devices import Agreement
from training.launch.worker_jobs import failure_cause, record_group, run_jobs
from training.loop.job import Job
from training.workers import LocalWorker

LAUNCHER = RuntimeError("horovodrun ended with 1")


def damaged(folder: Path) -> Job:
    """A job whose training rows are no Parquet."""
    job = make_job(folder, "lr")
    next((folder / "data/train").glob("*.parquet")).write_bytes(b"PAR1 no more")
    return job


def lost_peer() -> NoReturn:
    raise RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:3461")


def test_the_error_of_a_worker_comes_before_what_others_saw_of_it(tmp_path: Path) -> None:
    job = damaged(tmp_path)
    with pytest.raises(RuntimeError, match="closed by peer"):
        run_jobs([job], lost_peer)
    alone = str(failure_cause([job], LAUNCHER))
    assert "another rank ended without a word" in alone
    assert "a rank that had yet to join: RuntimeError: [gloo" in alone
    with pytest.raises(Exception, match="Parquet"):
        run_jobs([job], LocalWorker)
    with pytest.raises(RuntimeError, match="closed by peer"):
        run_jobs([job], lost_peer)
    cause = str(failure_cause([job], LAUNCHER))
    assert re.fullmatch(
        r"a worker of run failed: rank 0: ArrowInvalid: .*Parquet.*\. Its checkpoints stay: .* go on with --resume",
        cause,
    )


def test_an_error_of_an_earlier_attempt_is_forgotten(tmp_path: Path) -> None:
    job = damaged(tmp_path / "one")
    with pytest.raises(Exception, match="Parquet"):
        run_jobs([job], LocalWorker)
    whole = make_job(tmp_path / "one", "lr")
    run_jobs([whole], LocalWorker)
    assert "horovodrun ended with 1" in str(failure_cause([whole], LAUNCHER))


def test_a_mistake_of_the_user_s_is_that_line_alone(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", "optimizer.name=sgd", "train.learning_rate=1e30", "train.clip_norm=0")
    with pytest.raises(UserError) as mistake:
        run_jobs([job], LocalWorker)
    assert str(failure_cause([job], LAUNCHER)) == str(mistake.value)
    assert "--resume" not in str(mistake.value)
    # Where no job is open yet, it is in what the launcher raised.
    assert str(failure_cause([make_job(tmp_path / "other", "lr")], UserError("no such plug-in"))) == "no such plug-in"


def test_a_launch_that_failed_is_not_told_as_a_worker_s_end(tmp_path: Path) -> None:
    """No worker was there: there is nothing to resume. Once all had joined, what they left may be of use."""
    job = make_job(tmp_path, "lr")
    cause = str(failure_cause([job], RuntimeError("Executor lost")))
    assert (
        cause == "the workers did not start: RuntimeError: Executor lost (see `millrace doctor`: ray, spark, horovod)"
    )
    record_group([job], Agreement())
    assert str(failure_cause([job], LAUNCHER)).endswith("go on with --resume")
