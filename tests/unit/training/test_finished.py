"""What is done with a finished run: predict, export, compress, join, choose, start another from it."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data.training_sets import small_config

from conf import Config, Paths, UserError
from conf.runs import newest_run, read_jsonl
from conf.versions import publish_version
from features.catalog import DENSE, SPARSE, index_version
from features.dataset.names import EXAMPLES
from training.finished import compare, compress, ensemble, predict
from training.finished.compress import factorise, prune
from training.finished.export import export
from training.finished.limits import sign_of
from training.finished.trained import latency_ms, load_inputs, load_trained_model
from training.inputs.dataset import open_dataset
from training.inputs.sampling import hash_uniform, is_train_dev
from training.inputs.schema import Inputs
from training.loop.job import Job
from training.saved import load_weights
from training.settings import TrainSettings
from training.tasks import TASKS, Task
from training.tasks.task import table_metrics
from training.tracking import tracking_uri
from training.train import TrainOptions, run

DAY = date(2026, 3, 1)
ROWS = 1500


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a training set of the catalog's features; clicks follow from topic, and from a number."""
    folder = tmp_path_factory.mktemp("home")
    paths = config_of(folder).get(Paths)
    with publish_version(paths.datasets(EXAMPLES, DAY), {"rows": {}, "features": index_version()}) as version:
        for number, split in enumerate(("train", "valid", "test")):
            (version / split).mkdir()
            pq.write_table(pa.table(rows_of(number)), version / split / "part-0.parquet", row_group_size=300)
    return folder


def config_of(home: Path, *overrides: str) -> Config:
    return small_config(f"paths.home={home}", "net.hidden=[32,16]", "train.learning_rate=0.01", *overrides)


def rows_of(seed: int) -> Mapping[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {f"f_{f.name}": rng.integers(1, min(f.buckets, 20), ROWS) for f in SPARSE}
    found |= {f"f_{f.name}": rng.normal(size=ROWS).astype(np.float32) for f in DENSE}
    score = found["f_category"] - 10.0 + 2 * found["f_item_rate"]
    label = (rng.random(ROWS) < 1 / (1 + np.exp(-score))).astype(np.float32)
    like = np.where(label > 0, (rng.random(ROWS) < 0.5).astype(np.float32), np.nan)
    history = [rng.integers(1, 20, rng.integers(1, 6)).tolist() for _ in range(ROWS)]
    found |= {"label": label, "label_like": like.astype(np.float32), "label_purchase": like.astype(np.float32)}
    found["history"] = pa.array(history, pa.list_(pa.int64()))
    found["example_id"] = [f"e{seed}-{i}" for i in range(ROWS)]
    found["item_id"] = [f"i{i}" for i in found["f_item_id"]]
    found["user_id"], found["at_s"] = [f"u{i % 300}" for i in range(ROWS)], 1000 * np.arange(ROWS)
    return found


def trained(home: Path, model: str, *overrides: str, **how: Any) -> str:
    return str(run(config_of(home, *overrides), [model], DAY, TrainOptions(**how))["run_id"])


@pytest.fixture(scope="module")
def deepfm(home: Path) -> str:
    return trained(home, "deepfm")


def test_several_models_are_trained_in_one_start(home: Path) -> None:
    told = run(config_of(home), ["lr", "mmoe"], DAY, TrainOptions())
    assert [one["run_id"].split("-")[0] for one in told["runs"]] == ["lr", "mmoe"]
    folder = newest_run(config_of(home), "mmoe", DAY)
    assert folder is not None
    metrics = {(row["split"], row["metric"]) for row in read_jsonl(folder / "metrics.jsonl")}
    assert {("valid", "auc_label"), ("test", "log_loss_sum"), ("test", "auc_label_like")} <= metrics


def test_predictions_are_one_row_an_example_in_the_order_of_the_rows(home: Path, deepfm: str) -> None:
    config = config_of(home)
    told = predict.run(config, "deepfm", DAY, run_id=deepfm, split="test", k=5)
    table = pq.read_table(config.get(Paths).runs / told["run_id"] / "predictions.parquet")
    assert table["key"].to_pylist() == [f"e2-{i}" for i in range(ROWS)]
    assert set(table["answer"].to_pylist()) == {"label"}
    answers, _ = load_trained_model(config, deepfm).predict("test")
    np.testing.assert_allclose(table["score"].to_numpy(), answers[:, 0], rtol=1e-5)


def test_models_of_items_answer_with_the_best_items(home: Path) -> None:
    config = config_of(home)
    run_id = trained(home, "sasrec", "train.epochs=1")
    told = predict.run(config, "sasrec", DAY, run_id=None, split="test", k=5)
    assert told["by"] == run_id
    table = pq.read_table(config.get(Paths).runs / told["run_id"] / "predictions.parquet").to_pandas()
    assert (table.groupby("key").size() == 5).all()
    assert set(table["answer"]) <= {f"i{i}" for i in range(1, 20)}
    assert (table.groupby("key")["score"].apply(lambda scores: scores.is_monotonic_decreasing)).all()


def test_a_damaged_or_missing_model_file_is_refused_by_name(home: Path, deepfm: str, tmp_path: Path) -> None:
    config = config_of(home)
    folder = config.get(Paths).runs / deepfm / "model"
    assert {"deepfm.pt", "inputs.json", "net.json", "SHA256SUMS"} <= {path.name for path in folder.iterdir()}
    for name in ("deepfm.pt", "inputs.json", "net.json"):
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[:-40] + b"0" * 40)
        with pytest.raises(UserError, match=rf"{name} is corrupt: its checksum does not match"):
            load_trained_model(config, deepfm)
        (folder / name).write_bytes(raw)
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old/SHA256SUMS").unlink()
    assert load_weights(tmp_path / "old").keys() == load_weights(folder).keys()  # an older version had no checksums
    (tmp_path / "old/deepfm.pt").write_bytes((folder / "deepfm.pt").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"deepfm\.pt holds no weights"):
        load_weights(tmp_path / "old")


def test_a_model_meets_the_features_that_it_was_trained_on(home: Path, deepfm: str, tmp_path: Path) -> None:
    """Not "mat1 and mat2 shapes cannot be multiplied", nor the embedding of another field."""
    config = config_of(home)
    folder = config.get(Paths).runs / deepfm / "model"
    inputs = Inputs.load(folder)
    data = open_dataset(config, TASKS["click"], DAY)
    others = {
        "numbers new: user_category_lift": replace(inputs, dense=inputs.dense[:-1]),
        r"fields gone: shoe_size\[9\]": replace(
            inputs, sparse=(*inputs.sparse, "shoe_size"), buckets=(*inputs.buckets, 9)
        ),
        "numbers in the order item_rate, user_rate": replace(inputs, dense=inputs.dense[::-1]),
    }
    for difference, other in others.items():
        other.save(folder)
        with pytest.raises(UserError, match=rf"run {deepfm} was trained on features .*, the data set .*: {difference}"):
            load_trained_model(config, deepfm)
    for values, teacher in (({"transfer.run": deepfm}, None), ({}, deepfm)):  # the order of the numbers is another
        with pytest.raises(UserError, match=rf"{deepfm} was trained on features .*in the order item_rate"):
            run(config.with_values(values), ["deepfm"], DAY, TrainOptions(teacher=teacher))
    inputs.save(folder)
    # Its hours and days were UTC's, as were those of the other runs that training may start from.
    local = replace(data, timezone="Asia/Tokyo")
    hours = rf"run {deepfm} was trained on hours and days of UTC, the data set has those of Asia/Tokyo; train again"
    with pytest.raises(UserError, match=hours):
        load_inputs(folder.parent, local)
    for other in ({"start_from": folder}, {"teacher": folder}):
        with pytest.raises(UserError, match=hours):
            Job.prepared(config, "deepfm", local, tmp_path, **other)
    # Its own length of lists, whatever is set today.
    changed = load_trained_model(config.with_values({"net.list_length": 7}), deepfm)
    assert changed.data.inputs.list_length == data.inputs.list_length != 7


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("f_category", r"f_category is 1000000000 in row 3 of row group 2 of .*; its ids lie in \[0, 256\)"),
        ("f_item_rate", r"f_item_rate is inf in row 3 of row group 2 of "),
        ("history", r"history is 1000000000 in row \d+ of row group 2 of .*; its ids lie in \[0, 16384\)"),
    ],
)
def test_a_poisoned_row_is_refused_where_models_read(
    tmp_path: Path, column: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, "train.epochs=1")
    with publish_version(config.get(Paths).datasets(EXAMPLES, DAY), {"rows": {}}) as version:
        for number, split in enumerate(("train", "valid", "test")):
            rows = dict(rows_of(number))
            if split == "train":
                values = rows[column].to_pylist() if column == "history" else list(rows[column])
                values[603] = {"history": [1, 10**9], "f_item_rate": np.inf}.get(column, 10**9)
                rows[column] = pa.array(values, rows[column].type if column == "history" else None)
            (version / split).mkdir()
            pq.write_table(pa.table(rows), version / split / "part-0.parquet", row_group_size=300)
    with pytest.raises(UserError, match=message):
        run(config, ["din"], DAY, TrainOptions())
    assert "Traceback" not in capfd.readouterr().err  # Petastorm's threads print the stack of what they raise


def test_onnx_answers_as_the_model_does(home: Path, deepfm: str) -> None:
    assert export(load_trained_model(config_of(home), deepfm)).stat().st_size > 1000


@pytest.mark.parametrize(("how", "amount"), [("prune", 0.5), ("factorise", 0.25), ("float16", 0), ("int8", 0)])
def test_compressed_models_are_smaller_and_nearly_as_good(home: Path, deepfm: str, how: str, amount: float) -> None:
    told = compress.run(config_of(home), deepfm, how, amount)
    assert told["size_mb_after"] < (1.0 if how == "factorise" else 0.6) * told["size_mb_before"]
    assert told["test_log_loss_after"] < told["test_log_loss_before"] + 0.05
    assert {"latency_ms_before", "latency_ms_after"} <= told.keys()


class SlowNet(torch.nn.Module):
    """Takes 20 ms for one row, and a second the first time."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net, self.num_calls = net, 0

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        time.sleep(1 if self.num_calls == 1 else 0.02)
        output: torch.Tensor = self.net(*tensors)
        assert len(output) == 1
        return output


def test_latency_is_the_median_time_of_one_row_in_milliseconds(home: Path, deepfm: str) -> None:
    trained_run = load_trained_model(config_of(home), deepfm)
    slow = SlowNet(trained_run.net)
    assert 20 < latency_ms(replace(trained_run, net=slow), repeats=9) < 500
    assert slow.num_calls == 9


def test_pruning_sets_the_smallest_weights_to_zero_and_factors_multiply_to_the_layer() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(40, 30)
    before = layer.weight.detach().clone()
    prune(layer, 0.25)
    kept = layer.weight.detach() != 0
    assert kept.float().mean() == pytest.approx(0.75, abs=0.01)
    assert before[~kept].abs().max() < before[kept].abs().min()
    net = torch.nn.Sequential(torch.nn.Linear(40, 30))
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(30, 4) @ torch.randn(4, 40))  # rank 4
    x = torch.randn(5, 40)
    expected = net(x)
    assert torch.allclose(factorise(net, 4 / 30)(x), expected, atol=1e-4)
    assert sum(p.numel() for p in net.parameters()) == 4 * (40 + 30) + 30


def test_ensembles_are_better_than_their_members(home: Path, deepfm: str) -> None:
    members = [deepfm, *(trained(home, "deepfm", "train.bagging=true", f"train.seed={seed}") for seed in (1, 2))]
    for how in ("average", "stack"):
        told = ensemble.run(config_of(home), members, how)
        alone = [value for name, value in told.items() if name.startswith("test_log_loss of")]
        assert len(alone) == 3
        assert told["test_log_loss"] < np.mean(alone)
    with pytest.raises(UserError, match="needs two runs"):
        ensemble.run(config_of(home), members[:1], "average")


def test_a_small_model_learns_from_a_large_one(home: Path, deepfm: str) -> None:
    """Distilled, it answers more like its teacher than without."""
    config = config_of(home)
    teacher, _ = load_trained_model(config, deepfm).predict("test")
    alone, taught = trained(home, "lr"), trained(home, "lr", "loss.distil=0.9", teacher=deepfm)
    distance = [np.abs(load_trained_model(config, one).predict("test")[0] - teacher).mean() for one in (alone, taught)]
    assert distance[1] < distance[0]


def test_the_best_model_that_keeps_the_limits_is_chosen(home: Path, deepfm: str) -> None:
    config = config_of(home)
    told = compare.choose(config, DAY, "log_loss", [])
    assert told["log_loss"] == min(row["log_loss"] for row in told["models"] if "log_loss" in row)
    small = compare.choose(config, DAY, "auc", [f"size_mb<={told['models'][0]['size_mb'] * 10}"])
    assert small["kept_limits"] >= 1
    with pytest.raises(UserError, match="is within latency_ms<=0"):
        compare.choose(config, DAY, "auc", ["latency_ms<=0"])
    with pytest.raises(UserError, match="is no limit"):
        compare.choose(config, DAY, "auc", ["fast"])


def test_the_gap_tells_variance_of_a_model_that_learned_by_heart(home: Path) -> None:
    overrides = ["train.train_dev=0.3", "train.epochs=12", "train.weight_decay=0", "net.dim=16"]
    found = compare.gap(config_of(home, *overrides), trained(home, "deepfm", *overrides, "train.keep_best=1"))
    losses = found["log_loss"]
    assert losses["train"] < losses["train_dev"]
    assert found["variance"] == pytest.approx(losses["train_dev"] - losses["train"])
    assert found["mismatch"] == pytest.approx(losses["valid"] - losses["train_dev"])


def test_rows_keep_their_draw(home: Path, deepfm: str) -> None:
    batch = load_trained_model(config_of(home), deepfm).batch("train")
    draws = hash_uniform(batch, 1)
    order = np.random.default_rng(0).permutation(len(batch))
    assert torch.equal(hash_uniform(batch[order], 1), draws[order])
    assert 0.4 < float(draws.mean()) < 0.6
    assert not torch.equal(hash_uniform(batch, 2), draws)
    share = float(is_train_dev(batch, TrainSettings(train_dev=0.3)).float().mean())
    assert 0.15 < share < 0.45


@pytest.mark.parametrize("recipe", ["last", "upper", "all", "thaw"])
def test_transfer_trains_the_layers_of_its_recipe(home: Path, deepfm: str, recipe: str) -> None:
    overrides = [f"transfer.run={deepfm}", f"transfer.recipe={recipe}", "transfer.thaw_epoch=1", "train.epochs=1"]
    config = config_of(home, *overrides)
    first = newest_run(config, "deepfm", DAY)
    assert first is not None
    before = load_weights(config.get(Paths).runs / deepfm / "model")
    after = load_weights(config.get(Paths).runs / trained(home, "deepfm", *overrides) / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    last = {"deep.4.weight", "deep.4.bias"}
    assert changed == last if recipe != "all" else last < changed
    if recipe in ("thaw", "upper"):
        longer = trained(home, "deepfm", *overrides[:3], "train.epochs=2", "train.keep_best=1", "train.patience=0")
        folder = config.get(Paths).runs / longer
        state = torch.load(sorted((folder / "checkpoints").glob("weights.01-*"))[0], weights_only=True)["model"]
        moved = {name for name in before if not torch.equal(before[name], state[f"net.{name}"])}
        assert last < moved
        assert ("embedding.table.weight" in moved) == (recipe == "thaw")


def test_runs_and_their_curves_are_in_mlflow(home: Path, deepfm: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(config_of(home)))
    experiment = client.get_experiment_by_name("millrace")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id], max_results=100)}
    found = runs[deepfm]
    assert found.data.params["train.batch_size"] == "200"
    assert found.data.tags["dt"] == "2026-03-01"
    assert len(client.get_metric_history(found.info.run_id, "train_loss")) == 2
    assert 0.5 < found.data.metrics["test_auc"] <= 1


def test_a_run_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(UserError, match="no finished run nothing-1"):
        load_trained_model(config_of(home), "nothing-1")
    with pytest.raises(UserError, match="no unfinished run of deepfm"):
        trained(home, "deepfm", resume=True)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_loss_of_every_task_is_better_when_smaller_under_its_name_in_the_table(task: Task) -> None:
    (name,) = table_metrics(task, {"log_loss": 0.5})
    assert sign_of(name) == -1


def test_only_the_log_loss_of_one_label_is_called_so_in_the_table() -> None:
    names = {name for name, task in TASKS.items() if table_metrics(task, {"log_loss": 0.5}) == {"log_loss": 0.5}}
    assert names == {"click", "click_by_history", "engaged_click"}


def test_which_way_metrics_are_better() -> None:
    assert [sign_of(name) for name in ("auc", "recall@10", "ndcg@10")] == [1, 1, 1]
    assert [sign_of(name) for name in ("ece", "log_loss_label", "latency_ms", "rmse")] == [-1, -1, -1, -1]
