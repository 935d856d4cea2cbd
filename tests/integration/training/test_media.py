"""Covers and titles from the warehouse to a trained model and its answers in a table; history and what followed clicks."""

from datetime import date, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from conf.versions import current_version
from etl.results import job as results
from etl.tables import ads, dim, ods
from etl.warehouse.store import Warehouse
from features.counts.history import with_history
from features.dataset import covers, titles
from features.dataset.outcomes import with_outcomes
from training.finished import predict
from training.finished.trained import load_trained_model
from training.inputs.petastorm_readers import make_reader
from training.saved import load_weights
from training.train import TrainOptions, run

DAY = date(2026, 8, 1)
TOPICS = ("cars", "food", "music")
ITEMS = 150


@pytest.fixture(scope="module")
def home(spark: SparkSession, config: Config) -> Config:
    """150 items of three topics with a cover each; one cover is no image, one is of nobody's item."""
    paths = config.get(Paths)
    items = [
        (f"i{i}", f"{TOPICS[i % 3]} No. {i} 很好", TOPICS[i % 3] if i else None, "a", datetime(2026, 1, 1), str(DAY))
        for i in range(ITEMS)
    ]
    schema = "item_id string, title string, category string, author string, published_at timestamp, dt string"
    Warehouse(spark, config).write(dim.item, spark.createDataFrame(items, schema), [DAY])
    folder = paths.landing("images", DAY)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(ITEMS):
        pixels = np.zeros((20, 24, 3)) + np.eye(3)[i % 3] * 200
        noisy = np.clip(pixels + rng.integers(0, 30, pixels.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"i{i}.png"), noisy)
    (folder / "i5.png").write_bytes(b"no image at all")
    cv2.imwrite(str(folder / "stranger.png"), np.zeros((4, 4, 3), np.uint8))
    small = ["net.image_width=0.125", "train.batch_size=32", "train.epochs=12", "train.learning_rate=0.003"]
    return config.with_values(dict(text.split("=") for text in small))  # type: ignore[arg-type]


def test_covers_are_brought_to_one_size_and_what_is_no_image_is_named(spark: SparkSession, home: Config) -> None:
    told = covers.run(spark, home, DAY)
    # i0 has no topic, the stranger is nobody's.
    assert (told["rows_in"], told["rows_quarantined"], told["rows_invalid"]) == (ITEMS + 1, 1, 2)
    assert told["train"] + told["valid"] + told["test"] == told["rows_out"] == ITEMS - 2
    refused = Warehouse(spark, home).read(ods.quarantine, [DAY]).where("stage = 'covers'").collect()
    assert [(row["reason"], row["file"].endswith("i5.png")) for row in refused] == [("no_image", True)]
    folder, about = current_version(home.get(Paths).datasets("covers", DAY), command="")
    assert about["classes"] == list(TOPICS)
    with make_reader(f"file://{folder}/test") as reader:
        rows = list(reader)
    assert {row.cover.shape for row in rows} == {(32, 32, 3)}
    for row in rows:
        topic = int(row.item_id[1:]) % 3
        assert row.label == topic
        # cv2 writes blue, green, red; a reader of the data set sees red, green, blue.
        assert row.cover.mean(axis=(0, 1)).argmax() == 2 - topic
    assert covers.run(spark, home, DAY) == told


def test_an_image_model_learns_topics_and_its_answers_are_in_the_warehouse(spark: SparkSession, home: Config) -> None:
    told = run(home, ["lenet"], DAY, TrainOptions())
    assert told["test_accuracy"] > 0.9
    predict.run(home, "lenet", DAY, run_id=None, split="test", k=5)
    results.run(spark, home)
    table = Warehouse(spark, home).read(ads.prediction, [DAY]).where("model = 'lenet'")
    found = {row["key"]: row["answer"] for row in table.collect()}
    assert len(found) == told["test_rows"]
    right = [answer == TOPICS[int(item[1:]) % 3] for item, answer in found.items()]
    assert np.mean(right) == pytest.approx(told["test_accuracy"])
    # Loaded once; a newer prediction takes the place of the older.
    results.run(spark, home)
    assert table.count() == len(found)
    newer = predict.run(home, "lenet", DAY, run_id=None, split="valid", k=5)
    results.run(spark, home)
    again = Warehouse(spark, home).read(ads.prediction, [DAY]).where("model = 'lenet'")
    assert {row["run_id"] for row in again.select("run_id").distinct().collect()} == {newer["run_id"]}


def test_the_last_layer_trains_on_what_a_frozen_body_found_once(spark: SparkSession, home: Config) -> None:
    """The run's model is the whole net again, and its numbers are those that the last layer was measured by."""
    first = run(home, ["lenet"], DAY, TrainOptions())["run_id"]
    moved = home.with_values(
        {"transfer.run": first, "transfer.recipe": "last", "transfer.precompute": True, "train.epochs": 30}
    )
    told = run(moved, ["lenet"], DAY, TrainOptions())
    found = load_trained_model(home, told["run_id"])
    assert found.measure("test")["log_loss"] == pytest.approx(told["test_log_loss"], abs=1e-5)
    before, after = (load_weights(home.get(Paths).runs / one / "model") for one in (first, told["run_id"]))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    with pytest.raises(UserError, match=r"transfer.precompute needs transfer.run"):
        run(home.with_values({"transfer.precompute": True}), ["lenet"], DAY, TrainOptions())


def test_titles_are_words_of_any_script(spark: SparkSession, home: Config) -> None:
    told = titles.run(spark, home, DAY)
    assert (told["rows_in"], told["rows_invalid"]) == (ITEMS, 1)
    found = run(home, ["text_gru"], DAY, TrainOptions())
    assert found["test_accuracy"] > 0.9
    words = load_trained_model(home, found["run_id"]).batch("test").lists[0]
    # topic, no, number, and two characters
    assert set(words.offsets.diff()[: int(found["test_rows"])].tolist()) == {5}


def test_a_model_of_covers_without_covers_says_what_to_run(home: Config) -> None:
    with pytest.raises(UserError, match="run `millrace features covers --date 2026-08-02` first"):
        run(home, ["lenet"], date(2026, 8, 2), TrainOptions())


def test_history_is_what_was_chosen_on_earlier_days(spark: SparkSession) -> None:
    schema = "example_id string, user_id string, at timestamp, day date, label int, item_code bigint"
    rows = [
        ("1", "u", datetime(2026, 1, 1, 10), date(2026, 1, 1), 1, 11),
        ("2", "u", datetime(2026, 1, 1, 9), date(2026, 1, 1), 1, 12),
        ("3", "u", datetime(2026, 1, 2, 9), date(2026, 1, 2), 0, 13),
        ("4", "u", datetime(2026, 1, 2, 10), date(2026, 1, 2), 1, 14),
        ("5", "u", datetime(2026, 1, 3, 10), date(2026, 1, 3), 0, 15),
        ("6", "v", datetime(2026, 1, 3, 10), date(2026, 1, 3), 1, 16),
    ]
    frame = spark.createDataFrame(rows, schema)
    found = {row["example_id"]: row["history"] for row in with_history(frame, frame, 2).collect()}
    assert found == {"1": [], "2": [], "3": [12, 11], "4": [12, 11], "5": [11, 14], "6": []}


def test_what_followed_a_click_is_known_for_clicks_alone(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", 1), ("b", 1), ("c", 0)], "example_id string, label int")
    acts = [("a", "click"), ("a", "like"), ("b", "click"), ("c", "purchase")]
    interactions = spark.createDataFrame(acts, "impression_id string, action string")
    found = {
        row["example_id"]: (row["label_like"], row["label_purchase"])
        for row in with_outcomes(rows, interactions).collect()
    }
    assert found == {"a": (1, 0), "b": (0, 0), "c": (None, None)}
    unknown = with_outcomes(rows, None).where(F.col("label_like").isNotNull())
    assert unknown.count() == 0


def test_files_are_named_where_there_are_none(spark: SparkSession, home: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no covers in"):
        covers.run(spark, home.with_values({"paths.home": str(tmp_path)}), DAY)
