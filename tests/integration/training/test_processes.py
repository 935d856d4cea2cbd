"""The loop on two processes of torch's own, without Ray or Spark: tables spread over them, and a change of their number."""

import os
import re
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from data.training_sets import make_job

from conf.machine.processes import free_port
from conf.runs import read_jsonl
from training.inputs.batch import Batch
from training.inputs.feed import read_epoch
from training.launch import job_file, worker_jobs
from training.loop import checkpoint, shards
from training.loop.fit import Hooks, fit
from training.loop.job import HISTORY, Job
from training.loop.state import Position
from training.nn.sharded_embedding import ShardedEmbedding, share_overflow
from training.workers import LocalWorker, TorchWorker

OVERRIDES = ["net.dropout=0.2", "train.epochs=2"]


def run_on(processes: int, work: Callable[[Path], None], file: Path) -> None:
    """`work(file)` in as many processes, joined by gloo."""
    mp.start_processes(_joined, (processes, free_port(), work, file), nprocs=processes, start_method="spawn")


def _joined(rank: int, processes: int, port: int, work: Callable[[Path], None], file: Path) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=processes, timeout=timedelta(seconds=300)
    )
    work(file)
    dist.destroy_process_group()


def train(file: Path) -> None:
    fit(TorchWorker(torch.device("cpu")), job_file.load(file))


def train_and_stop(file: Path) -> None:
    """Both ranks end after 5 steps, in the middle of the first epoch."""

    def stop(position: Position) -> None:
        if position.step == 5:
            raise KeyboardInterrupt

    try:
        fit(TorchWorker(torch.device("cpu")), job_file.load(file), hooks=Hooks(before_update=stop))
    except KeyboardInterrupt:
        return
    raise AssertionError("nothing stopped it")


def look_up(file: Path) -> None:
    """A spread table answers as a whole one does, and its gradients are those of the mean over the ranks."""
    torch.manual_seed(0)
    whole = torch.nn.Embedding(11, 3)
    torch.manual_seed(0)
    part = ShardedEmbedding(11, 3)
    rank = dist.get_rank()
    ids = torch.tensor([[0, 10], [5, 6]]) if rank == 0 else torch.tensor([[10, 10], [3, 0]])
    assert part.weight.shape == (6, 3)
    assert torch.equal(part(ids), whole(ids))
    (part(ids) * (rank + 1)).sum().backward()
    everybodys = [(torch.tensor([[0, 10], [5, 6]]), 1), (torch.tensor([[10, 10], [3, 0]]), 2)]
    for others, factor in everybodys:
        (whole(others) * factor / 2).sum().backward()
    assert whole.weight.grad is not None
    assert part.weight.grad is not None
    assert torch.allclose(part.weight.grad, part.shard_of(whole.weight.grad))


def look_up_unevenly(file: Path) -> None:
    """Ranks look up different numbers of ids, one of them none of its own; an id that comes often travels once."""
    torch.manual_seed(0)
    whole = torch.nn.Embedding(10, 3)
    torch.manual_seed(0)
    part = ShardedEmbedding(10, 3)
    by_rank = [torch.tensor([7] * 50 + [9, 5]), torch.tensor([[0, 9, 2]])]
    ids, sent, send = by_rank[dist.get_rank()], [], dist.all_to_all_single

    def count(output: torch.Tensor, tensor: torch.Tensor, *splits: Any) -> None:
        sent.append(len(tensor))
        send(output, tensor, *splits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_to_all_single", count)
        rows = part(ids)
    assert torch.equal(rows, whole(ids))
    # The numbers of ids, the unique ids, and the rows that were asked for here: [2] of rank 1's and 3 + 1 of rank 0's.
    assert sent == [[2, 3, 2], [2, 3, 4]][dist.get_rank()]
    rows.square().sum().backward()
    for others in by_rank:
        (whole(others).square().sum() / 2).backward()
    assert whole.weight.grad is not None
    assert part.weight.grad is not None
    assert torch.allclose(part.weight.grad, part.shard_of(whole.weight.grad))


def overflow_on_one(file: Path) -> None:
    """The gradient of one rank's rows is infinite: no rank takes the step, and all scale by less."""
    part = ShardedEmbedding(10, 3)
    optimizer, scaler = torch.optim.SGD(part.parameters(), lr=1.0), torch.amp.GradScaler("cpu", init_scale=4.0)
    before = part.weight.detach().clone()
    rows = part(torch.tensor([1, 7]))
    factors = torch.tensor([[1.0], [float("inf") if dist.get_rank() else 1.0]])  # id 7 is of rank 1
    scaler.scale((rows * factors).sum()).backward()
    assert part.weight.grad is not None
    assert part.weight.grad.isfinite().all() == (dist.get_rank() == 0)
    share_overflow(part)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(part.weight, before)
    assert scaler.get_scale() == 2.0


def weights(job: Job) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(job.run_folder / f"model/{job.model}.pt", weights_only=True)
    return found


def check_tables(file: Path) -> None:
    """All of the above, for the start of processes costs more than they do."""
    for check in (look_up, look_up_unevenly, overflow_on_one):
        check(file)


def test_a_table_spread_over_two_workers_is_the_whole_table_and_skips_steps_as_one(tmp_path: Path) -> None:
    run_on(2, check_tables, tmp_path)


@pytest.mark.parametrize("is_sparse", [False, pytest.param(True, marks=pytest.mark.wide)], ids=["dense", "sparse"])
def test_training_with_spread_tables_is_training_with_whole_ones(tmp_path: Path, is_sparse: bool) -> None:
    jobs = []
    for name, sharded in (("whole", False), ("spread", True)):
        # Clipped at nearly every step: the length of the gradients is that over the rows of both.
        overrides = [*OVERRIDES, f"net.sharded={sharded}", "train.clip_norm=0.05", f"net.sparse_gradients={is_sparse}"]
        jobs.append(make_job(tmp_path / name, "deepfm", *overrides))
        run_on(2, train, job_file.save(jobs[-1]))
    whole, spread = (weights(job) for job in jobs)
    assert whole.keys() == spread.keys()
    for name, weight in whole.items():
        assert spread[name].shape == weight.shape
        assert torch.allclose(spread[name], weight, atol=1e-5), name


@pytest.mark.parametrize("sharded", [False, True], ids=["whole tables", "sharded tables"])
def test_two_workers_stop_and_one_goes_on_with_the_rows_that_are_left(tmp_path: Path, sharded: bool) -> None:
    overrides = [*OVERRIDES, "train.checkpoint_steps=2", "train.batch_size=100"]
    stopped = make_job(tmp_path, "deepfm", *overrides, f"net.sharded={sharded}")
    run_on(2, train_and_stop, job_file.save(stopped))
    assert len(list((stopped.run_folder / "checkpoints").glob("step.*.pt"))) == 2
    # One worker holds all rows: of shards of two, of weights and moments alike.
    job = make_job(tmp_path, "deepfm", *overrides)
    seen: list[float] = []

    def count(batches: list[Batch]) -> None:
        seen.extend(float(batch.weight.sum()) for batch in batches)

    numbers = fit(LocalWorker(), job, hooks=Hooks(on_batches=count))
    # 4 steps of 2 · 100 rows were kept; 1,200 of 2,000 rows are left of the first epoch.
    assert sum(seen) == 1200 + 2000
    assert numbers["test_auc"] > 0.8
    assert [row["epoch"] for row in read_jsonl(job.run_folder / HISTORY)] == [0, 1]


def train_and_stand_still(file: Path) -> None:
    """Rank 1 is stopped before its third step."""

    def stop(position: Position) -> None:
        if position.step == 2 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_jobs, "fit", partial(fit, hooks=Hooks(before_update=stop)))
        worker_jobs.run_jobs([job_file.load(file)], lambda: TorchWorker(torch.device("cpu")))


def test_a_worker_that_stands_still_is_named_and_killed(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", *OVERRIDES, "train.timeout_s=4")
    with pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException)):
        run_on(2, train_and_stand_still, job_file.save(job))
    assert re.fullmatch(
        r"a worker of run failed: rank 1: it has stood still for [34] s \(process \d+ on .+\) and was killed\. "
        "Its checkpoints stay: when that is mended, go on with --resume",
        str(worker_jobs.failure_cause([job], RuntimeError("the launcher's own"))),
    )
    assert not list(job.run_folder.glob("ranks/1.json"))


def test_a_checkpoint_without_all_rows_of_its_tables_is_not_taken(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", *OVERRIDES, "net.sharded=true", "train.keep_best=2")
    fit(LocalWorker(), job)
    folder = job.run_folder / "checkpoints"
    second = max(folder.glob("*.pt"))
    tables = {file.name: np.load(file) for file in shards.rows_folder(second).iterdir()}
    assert {array.shape for array in tables.values()} == {(sum(job.inputs.buckets), dim) for dim in (8, 1)}
    assert len(tables) == 2 * 3  # weights and both moments of Adam of two tables
    damaged = max(shards.rows_folder(second).iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    newest = checkpoint.load_newest(folder)
    assert newest is not None
    assert newest[0]["position"]["epoch"] == 1  # the second is of the start of epoch 2
    checkpoint.save(checkpoint.epoch_path(folder, 2, 9.0), {}, keep_best=0)
    assert [path.name for path in folder.iterdir()] == ["weights.02-9.0000.pt"]


ROWS_OF_A_LARGE_TABLE = 3_000_000  # of 8 numbers and of 1: 108 MB, three times as much with the moments of Adam


def train_within_limit(file: Path) -> None:
    """With 270 MB above what the libraries take, in which the whole table and its moments have no room."""
    import_module("sklearn.metrics")  # its OpenBLAS waits for memory forever
    list(read_epoch(job_file.load(file).feed("train", LocalWorker()), 0))  # Arrow reserves its arenas
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    used = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmData"))) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 270_000_000,) * 2)
    train(file)


def test_a_table_larger_than_the_memory_of_a_worker_trains_on_two(tmp_path: Path) -> None:
    for sharded in (True, False):
        overrides = [f"net.sharded={sharded}", "net.sparse_gradients=true", "train.epochs=1", "train.threads=1"]
        job = make_job(tmp_path / str(sharded), "deepfm", *overrides)
        buckets = (ROWS_OF_A_LARGE_TABLE, *job.inputs.buckets[1:])
        job = replace(job, inputs=replace(job.inputs, buckets=buckets))
        if sharded:
            run_on(2, train_within_limit, job_file.save(job))
            assert weights(job)["embedding.table.weight"].shape == (sum(buckets), 8)
        else:
            with pytest.raises(mp.ProcessRaisedException, match=r"(?i)memory"):
                run_on(1, train_within_limit, job_file.save(job))
