"""The loop on constructed data with a known answer, without Ray or Spark."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from data.training_sets import make_job

from conf import UserError
from conf.runs import read_jsonl
from training.checks import MAX_GRADIENT_ERROR, check, gradient_error
from training.evaluate import evaluate
from training.inputs.batch import Batch
from training.inputs.feed import read_epoch
from training.loop import checkpoint
from training.loop.fit import Hooks, fit
from training.loop.job import HISTORY, Job
from training.loop.shards import SavedRows
from training.loop.state import Position, build_objective
from training.models import MODELS
from training.models.ctr.deepfm import DeepFM
from training.net_settings import NetSettings
from training.workers import LocalWorker


def weights(job: Job) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(job.run_folder / f"model/{job.model}.pt", weights_only=True)
    return state


def are_equal(one: Job, other: Job) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


def test_the_loop_learns_what_can_be_learned(tmp_path: Path) -> None:
    numbers = fit(LocalWorker(), make_job(tmp_path, "deepfm", "train.epochs=3", rows=4000, groups=500))
    assert numbers["test_auc"] > 0.9
    assert numbers["test_rows"] == 4000


@pytest.mark.parametrize("model", ["sasrec", "gru4rec", "youtube_candidates", "two_tower"])
def test_the_next_item_is_found(tmp_path: Path, model: str) -> None:
    """Four of five follow from the item before: recall@10 by chance is 10 of 23."""
    overrides = ["train.epochs=8", "net.attention_dim=16", "net.sampled=64", "train.learning_rate=0.01"]
    numbers = fit(LocalWorker(), make_job(tmp_path, model, *overrides))
    # The mean of what was chosen says less than the order of it.
    assert numbers["test_recall@10"] > (0.7 if model in ("sasrec", "gru4rec") else 0.5)


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, is_sparse: bool) -> None:
    overrides = ["net.dropout=0.3", f"net.sparse_gradients={is_sparse}"]
    whole = make_job(tmp_path / "whole", "deepfm", "train.epochs=3", *overrides)
    numbers = fit(LocalWorker(), whole)
    broken = make_job(tmp_path / "broken", "deepfm", "train.epochs=3", *overrides)
    fit(LocalWorker(), make_job(tmp_path / "broken", "deepfm", "train.epochs=1", *overrides))
    fit(LocalWorker(), broken)
    assert are_equal(whole, broken)
    assert numbers["test_auc"] > 0.85


class KilledError(Exception):
    pass


def stop_after(steps: int) -> Hooks:
    """End the training before the weights change for the step after so many."""

    def stop(position: Position) -> None:
        if position.step == steps:
            raise KilledError

    return Hooks(before_update=stop)


@pytest.mark.parametrize("steps", [1, 7, 13, 19])
def test_a_run_that_was_ended_within_an_epoch_goes_on_to_the_same_weights(tmp_path: Path, steps: int) -> None:
    overrides = ["net.dropout=0.3", "train.checkpoint_steps=3", "train.shuffle_rows=600", "schedule.name=cosine"]
    whole, broken = (make_job(tmp_path / name, "deepfm", *overrides) for name in ("whole", "broken"))
    fit(LocalWorker(), whole)
    with pytest.raises(KilledError):
        fit(LocalWorker(), broken, hooks=stop_after(steps))
    fit(LocalWorker(), broken)
    assert are_equal(whole, broken)
    told = [read_jsonl(job.run_folder / HISTORY)[-1]["train_loss"] for job in (whole, broken)]
    assert told[0] == pytest.approx(told[1], abs=1e-9)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    one, other, different = (
        make_job(tmp_path / name, "deepfm", f"train.seed={seed}") for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for job in (one, other, different):
        fit(LocalWorker(), job)
    assert are_equal(one, other)
    assert not are_equal(one, different)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    overrides = ["train.shuffle_rows=0", "optimizer.name=sgd", "train.clip_norm=0"]
    large = make_job(tmp_path / "large", "deepfm", "train.batch_size=400", *overrides)
    small = make_job(tmp_path / "small", "deepfm", "train.batch_size=100", "train.accumulate=4", *overrides)
    for job in (large, small):
        fit(LocalWorker(), job)
    for a, b in zip(weights(large).values(), weights(small).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_and_names_step_and_layer(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm")
    path = job.dataset / "train/part-0.parquet"
    table = pq.read_table(path)
    x = table["f_x"].to_numpy().copy()
    x[:] = np.nan
    pq.write_table(table.set_column(table.column_names.index("f_x"), "f_x", [x]), path, row_group_size=250)
    with pytest.raises(UserError, match=r"f_x is nan in row 0 of row group \d of .*part-0\.parquet"):
        fit(LocalWorker(), job)
    huge = make_job(tmp_path / "huge", "deepfm", "optimizer.name=sgd", "train.learning_rate=1e30", "train.clip_norm=0")
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step [1-9]\d* of epoch 0, in .*layer net\."):
        fit(LocalWorker(), huge)


class EnoughError(Exception):
    pass


@pytest.mark.parametrize("model", MODELS)
def test_no_step_waits_for_the_device(tmp_path: Path, model: str) -> None:
    """Tensors of the meta device have no values: whatever needs one on the CPU, or a size that follows from it, fails.

    So would `float(loss)`, `nonzero`, or a mask that selects rows, each of which has a GPU end all its work first.
    """

    def stop(position: Position) -> None:
        if position.step == 3:
            raise EnoughError

    job = make_job(tmp_path, model, "train.loss_steps=50", "net.dropout=0.2")
    with pytest.raises(EnoughError):
        fit(LocalWorker(torch.device("meta")), job, hooks=Hooks(before_update=stop))


def test_losses_that_are_read_every_few_steps_are_the_same(tmp_path: Path) -> None:
    each, some = (make_job(tmp_path / str(n), "deepfm", f"train.loss_steps={n}") for n in (1, 4))
    for job in (each, some):
        fit(LocalWorker(), job)
    assert are_equal(each, some)
    losses = [[row["train_loss"] for row in read_jsonl(job.run_folder / HISTORY)] for job in (each, some)]
    assert losses[0] == losses[1]


def test_a_loss_that_is_not_finite_is_named_by_its_step_also_when_it_is_read_later(tmp_path: Path) -> None:
    overrides = ["optimizer.name=sgd", "train.learning_rate=1e30", "train.clip_norm=0", "train.loss_steps=4"]
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step 1 of epoch 0, in .* by now .*loss_steps=1"):
        fit(LocalWorker(), make_job(tmp_path, "deepfm", *overrides))


def test_early_stopping_and_plateau(tmp_path: Path) -> None:
    """A rate this high never gets better after a while."""
    job = make_job(tmp_path, "deepfm", "train.epochs=30", "train.learning_rate=0.2", "train.patience=2")
    fit(LocalWorker(), job)
    losses = [row["log_loss"] for row in read_jsonl(job.run_folder / HISTORY)]
    assert len(losses) < 30
    assert min(losses) == losses[-3]


def test_the_best_epoch_is_that_of_the_monitored_metric(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", "train.epochs=6", "train.learning_rate=0.1", "train.monitor=auc")
    numbers = fit(LocalWorker(), job)
    epochs = read_jsonl(job.run_folder / HISTORY)
    assert numbers["valid_auc"] == pytest.approx(max(row["auc"] for row in epochs), abs=1e-4)  # as files are named
    assert min(epochs, key=lambda row: row["log_loss"])["auc"] < numbers["valid_auc"]
    with pytest.raises(UserError, match=r"train\.monitor=ndcg is no metric .* choose from log_loss, auc"):
        fit(LocalWorker(), make_job(tmp_path / "other", "deepfm", "train.monitor=ndcg"))


def test_a_model_without_tables_of_fields_is_not_sharded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^net\.sharded: sasrec has no table that can be sharded; leave it out$"):
        fit(LocalWorker(), make_job(tmp_path, "sasrec", "net.sharded=true"))


def state_of(found: tuple[dict[str, Any], SavedRows] | None) -> dict[str, Any] | None:
    return found and found[0]


def test_a_corrupt_checkpoint_is_refused_and_the_one_before_taken(tmp_path: Path) -> None:
    for number in range(3):
        checkpoint.save(checkpoint.epoch_path(tmp_path, number, 0.5 - number / 10), {"epoch": number}, keep_best=2)
    newest = next(tmp_path.glob("weights.02-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-5])
    assert state_of(checkpoint.load_newest(tmp_path)) == state_of(checkpoint.load_best(tmp_path)) == {"epoch": 1}


def test_a_checkpoint_within_an_epoch_is_newer_than_the_epoch_before_and_goes_with_its_own(tmp_path: Path) -> None:
    checkpoint.save(checkpoint.epoch_path(tmp_path, 0, 0.5), {"at": "epoch 0"}, keep_best=1)
    for step in (30, 40, 50):
        checkpoint.save_step(checkpoint.step_path(tmp_path, 1, step), {"at": f"step {step}"})
    assert state_of(checkpoint.load_newest(tmp_path)) == {"at": "step 50"}
    assert len(list(tmp_path.glob("step.*"))) == 2
    checkpoint.save(checkpoint.epoch_path(tmp_path, 1, 0.4), {"at": "epoch 1"}, keep_best=1)
    assert state_of(checkpoint.load_newest(tmp_path)) == {"at": "epoch 1"}
    assert not list(tmp_path.glob("step.*"))


def test_the_best_and_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    for number, loss in enumerate([0.3, 0.2, 0.4, 0.5]):
        checkpoint.save(checkpoint.epoch_path(tmp_path, number, loss), {"epoch": number}, keep_best=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "weights.00-0.3000.pt",
        "weights.01-0.2000.pt",
        "weights.03-0.5000.pt",
    ]
    assert state_of(checkpoint.load_best(tmp_path)) == {"epoch": 1}


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(checkpoint.epoch_path(tmp_path, 0, 0.5), {"epoch": 0}, keep_best=2)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"can't write checkpoint weights.01-0.4000.pt: No space left on device; the last"
    ):
        checkpoint.save(checkpoint.epoch_path(tmp_path, 1, 0.4), {"epoch": 1}, keep_best=2)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.00-0.5000.pt"]
    assert state_of(checkpoint.load_newest(tmp_path)) == {"epoch": 0}


def test_checkpoints_of_other_features_are_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path, "lr", "train.epochs=1")
    fit(LocalWorker(), job)
    other = Job(**{**vars(job), "version": "v2"})
    with pytest.raises(UserError, match="are of features v1, the data set has v2"):
        fit(LocalWorker(), other)


def test_deepfm_pairs_are_the_sum_over_all_pairs(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", rows=10)
    model = DeepFM(job.inputs, NetSettings(dim=4, hidden=(3,), dropout=0.0))
    torch.nn.init.normal_(model.embedding.table.weight)
    torch.nn.init.zeros_(model.deep[-1].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(model.deep[-1].bias)  # type: ignore[arg-type]
    batch: Batch = next(read_epoch(job.feed("train", LocalWorker()), 0))
    v = model.embedding(batch.sparse)
    pairs = sum((v[:, i] * v[:, j]).sum(1) for i in range(v.shape[1]) for j in range(i + 1, v.shape[1]))
    expected = pairs + model.linear(batch.sparse, batch.dense)
    assert torch.allclose(model(batch.sparse, batch.dense), expected, atol=1e-5)


def test_a_recurrent_net_has_right_gradients_and_a_wrong_derivative_is_noticed(tmp_path: Path) -> None:
    """GRU4Rec's error is over 1e-7, by rounding alone."""
    job = make_job(tmp_path, "gru4rec")
    batch: Batch = next(read_epoch(job.feed("train", LocalWorker()), 0))[:64]
    assert gradient_error(build_objective(job), batch) < MAX_GRADIENT_ERROR / 10
    wrong = build_objective(job)
    next(wrong.net.parameters()).register_hook(lambda gradient: gradient * 1.01)
    assert gradient_error(wrong, batch) > MAX_GRADIENT_ERROR


def test_checks_pass_for_a_good_model_and_name_what_is_wrong_with_a_bad_one(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", "train.learning_rate=0.002")
    batch = next(read_epoch(job.feed("train", LocalWorker()), 0))
    assert check(job, batch)["failed"] == {}
    found = check(make_job(tmp_path / "slow", "deepfm", "train.learning_rate=1e-8"), batch)["failed"]
    assert set(found) == {"learning rate"}
    wrong = make_job(
        tmp_path / "wrong", "deepfm", "train.learning_rate=0.002", "loss.name=exponential", "net.hidden=[]"
    )
    assert check(wrong, replace(batch, label=batch.label * 1e6))["failed"]


def test_watched_updates_are_in_the_history(tmp_path: Path) -> None:
    job = make_job(tmp_path, "deepfm", "train.watch_steps=5")
    fit(LocalWorker(), job)
    row = read_jsonl(job.run_folder / HISTORY)[-1]
    ratios = [value for name, value in row.items() if name.startswith("update_ratio net.deep")]
    assert ratios
    assert all(1e-5 < value < 1 for value in ratios)


def test_l1_makes_weights_small(tmp_path: Path) -> None:
    plain, sparse = make_job(tmp_path / "a", "deepfm"), make_job(tmp_path / "b", "deepfm", "loss.l1=0.01")
    for job in (plain, sparse):
        fit(LocalWorker(), job)
    size = [float(weights(job)["deep.0.weight"].abs().mean()) for job in (plain, sparse)]
    assert size[1] < 0.5 * size[0]


def test_bfloat16_learns_as_well(tmp_path: Path) -> None:
    numbers = fit(LocalWorker(), make_job(tmp_path, "deepfm", "train.precision=bfloat16", "train.epochs=3", rows=4000))
    assert numbers["test_auc"] > 0.9


@pytest.mark.parametrize("model", ["esmm", "sasrec", "text_gru"])
def test_bfloat16_is_measured_as_it_is_trained_and_stays_close(tmp_path: Path, model: str) -> None:
    """Evaluation runs in the precision of training, and its probabilities are still single precision."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        job = make_job(tmp_path / precision, model, f"train.precision={precision}", rows=1000)
        losses[precision] = fit(LocalWorker(), job)["test_log_loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]
    objective, spec = build_objective(job), job.feed("test", LocalWorker())
    exact, rounded = (evaluate(objective, spec, LocalWorker(), precision=p) for p in ("float32", "bfloat16"))
    assert exact["log_loss"] != rounded["log_loss"]


@pytest.mark.wide
def test_a_compiled_net_learns_the_same(tmp_path: Path) -> None:
    """Half a minute of compilation. Also in a process whose first optimizer skipped torch's compiler."""
    plain, compiled = (make_job(tmp_path / str(c), "deepfm", f"train.compile={c}") for c in (False, True))
    for job in (plain, compiled):
        fit(LocalWorker(), job)
    assert weights(plain).keys() == weights(compiled).keys()
    for a, b in zip(weights(plain).values(), weights(compiled).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_float16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="float16 needs a GPU"):
        fit(LocalWorker(), make_job(tmp_path, "deepfm", "train.precision=float16"))


@pytest.mark.parametrize("how", ["normal", "uniform", "xavier", "kaiming"])
def test_weights_start_different_from_one_another_at_the_stated_scale(tmp_path: Path, how: str) -> None:
    job = make_job(tmp_path, "deepfm", f"train.initialise={how}", "net.embedding_std=0.001", rows=10)
    objective = build_objective(job)
    # Xavier's and He's scale follows from a layer's inputs, and an embedding has none.
    table = 0.001 if how in ("xavier", "kaiming") else {"normal": 0.044, "uniform": 0.05 / 3**0.5}[how]
    assert float(objective.net.embedding.table.weight.detach().std()) == pytest.approx(table, rel=0.2)  # type: ignore[union-attr]
    weight = objective.net.deep[0].weight.detach()  # type: ignore[union-attr, index]
    n, m = weight.shape[1], weight.shape[0]
    expected = {"normal": 0.044, "uniform": 0.05 / 3**0.5, "xavier": (2 / (n + m)) ** 0.5, "kaiming": (2 / n) ** 0.5}
    assert float(weight.std()) == pytest.approx(expected[how], rel=0.1)
    assert len(weight.unique()) > 0.9 * weight.numel()


def test_metrics_of_ones_own_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text("def share(labels, answers):\n    return labels.mean()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    job = make_job(tmp_path, "deepfm", 'train.metrics=["own_metrics:share", "recall", "specificity"]')
    numbers = fit(LocalWorker(), job)
    assert 0 < numbers["test_recall"] + numbers["test_specificity"] <= 2
    labels = pq.read_table(job.dataset / "test/part-0.parquet")["label"].to_numpy()
    assert numbers["test_share"] == pytest.approx(labels.mean())
    with pytest.raises(UserError, match=r"train.metrics recall: a metric of yes or no needs one score a row"):
        fit(LocalWorker(), make_job(tmp_path / "c", "mmoe", "train.metrics=[recall]"))


@pytest.mark.parametrize("name", ["recal", "own_metrics:nothing"])
def test_an_unknown_metric_is_refused_before_the_first_step(tmp_path: Path, name: str) -> None:
    steps: list[int] = []
    hooks = Hooks(on_batches=lambda batches: steps.append(len(batches)))
    with pytest.raises(UserError, match=f"the metric of train.metrics '{name}'"):
        fit(LocalWorker(), make_job(tmp_path, "deepfm", f'train.metrics=["{name}"]', rows=50), hooks=hooks)
    assert steps == []


def test_an_item_among_equals_has_their_middle_rank(tmp_path: Path) -> None:
    """A model that scores all items alike is no better than chance."""
    job = make_job(tmp_path, "two_tower")
    objective = build_objective(job)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.zero_()
        batch = next(read_epoch(job.feed("train", LocalWorker()), 0))
        rank = objective.predict(batch)[:, 0]
    num_items = int(objective.net.catalog.is_item.sum())
    assert rank.tolist() == [(num_items + 1) / 2] * len(rank)


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_every_position_of_a_history_is_learned_by_what_came_before_it(tmp_path: Path, model: str) -> None:
    """The mean over a batch's rows is that over all positions, the softmax over all items (net.sampled=0)."""
    job = make_job(tmp_path, model, "net.sampled=0")
    objective = build_objective(job).eval()
    net: Any = objective.net
    batch = next(read_epoch(job.feed("train", LocalWorker()), 0))[:5]
    batch = replace(batch, weight=torch.tensor([1.0, 1, 1, 1, 0]))  # the last row is padding
    history, item = batch.lists[0].to_padded(5), batch.sparse[:, job.inputs.column_of("item_id")]
    states = net.states(batch.sparse, batch.dense, history)  # (5, 5, D)
    scores = (states @ net.items(torch.arange(24)).T).masked_fill(~net.catalog.is_item, -torch.inf)
    targets = torch.cat([history[:, 1:], item.unsqueeze(1)], 1)
    costs = [
        -torch.log_softmax(scores[row, position], 0)[targets[row, position]]
        for row in range(4)
        for position in range(5)
        if history[row, position] > 0
    ]
    losses = objective(batch)
    assert losses[4] == 0
    assert losses.sum().item() / 4 == pytest.approx(torch.stack(costs).mean().item(), rel=1e-5)
    # Another item at the end changes no state before it.
    changed = history.clone()
    changed[:, -1] = history[:, -1] % 23 + 1
    others = net.states(batch.sparse, batch.dense, changed)
    assert torch.allclose(states[:, :-1], others[:, :-1], atol=1e-6)
    assert not torch.allclose(states[:, -1], others[:, -1], atol=1e-3)
