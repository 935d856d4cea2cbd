"""Small data sets with known answers for every kind of model, written as Parquet without Spark, and jobs on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from conf import Config, load
from training.inputs.batch import Columns
from training.inputs.dataset import TaskDataset
from training.inputs.schema import Inputs
from training.loop.job import Job
from training.models import model_named
from training.tasks import Task

FIELDS = ("user_id", "item_id", "category", "author", "device", "position")
BUCKETS = (32, 24, 8, 8, 4, 16)
TOPICS = ("food", "music", "travel", "cars", "books", "film")
SIZE = 16


def small_config(*overrides: str) -> Config:
    """Networks of a few hundred weights."""
    values = ["train.batch_size=200", "train.epochs=2", "train.learning_rate=0.02", "net.dropout=0.0", "net.sampled=16"]
    return load(overrides=[*values, "net.image_width=0.125", *overrides], environment={})


def make_job(folder: Path, model: str, *overrides: str, rows: int = 2000, groups: int = 250) -> Job:
    """A job of `model` on `rows` rows a split, in row groups of `groups`."""
    config, task = small_config(*overrides), model_named(model).task
    inputs, columns = inputs_of(task), columns_of(task)
    data = TaskDataset(folder / "data", inputs, columns, "v1")
    for number, split in enumerate(("train", "valid", "test")):
        (data.folder / split).mkdir(parents=True, exist_ok=True)
        table = pa.table(rows_of(task, rows, number))
        pq.write_table(table, data.folder / split / "part-0.parquet", row_group_size=groups)
    return Job.prepared(config, model, data, folder / "run")


def inputs_of(task: Task) -> Inputs:
    if task.kind == "titles":
        return Inputs(lists=task.lists, list_buckets=64, classes=TOPICS, list_length=6)
    if task.kind == "covers":
        return Inputs(classes=TOPICS, image=(3, SIZE, SIZE))
    dense = ("x", "y")
    return Inputs(FIELDS, BUCKETS, dense, task.lists, BUCKETS[1], task.labels, list_length=5)


def columns_of(task: Task) -> Columns:
    if task.kind == "titles":
        return Columns(lists=task.lists)
    if task.kind == "covers":
        return Columns(image="cover")
    return Columns(tuple(f"f_{name}" for name in FIELDS), ("f_x", "f_y"), task.lists, task.labels)


def rows_of(task: Task, rows: int, seed: int) -> dict[str, Any]:
    """Clicks follow from topic and a number; the next item from the last one; words and pixels from the topic."""
    rng = np.random.default_rng(seed)
    if task.kind == "titles":
        topic = rng.integers(0, len(TOPICS), rows)
        words = [[*rng.integers(1, 10, rng.integers(0, 5)).tolist(), 20 + t] for t in topic]
        return {"words": words, "label": topic.astype(np.float32)}
    if task.kind == "covers":
        topic = rng.integers(0, len(TOPICS), rows)
        return {"cover": [_png(_cover(rng, t)) for t in topic], "label": topic.astype(np.float32)}
    return _impressions(rng, rows, is_positive=task.kind in ("positives", "sequences"))


def _impressions(rng: np.random.Generator, rows: int, *, is_positive: bool) -> dict[str, Any]:
    ids = {name: rng.integers(1, size, rows) for name, size in zip(FIELDS, BUCKETS, strict=True)}
    history = [rng.integers(1, BUCKETS[1], rng.integers(1 if is_positive else 0, 8)).tolist() for _ in range(rows)]
    if is_positive:
        last = np.array([chosen[-1] for chosen in history])
        ids["item_id"] = np.where(rng.random(rows) < 0.8, last % (BUCKETS[1] - 1) + 1, ids["item_id"])
    # Topic and author belong to the item.
    ids["category"], ids["author"] = ids["item_id"] % 7 + 1, ids["item_id"] % 5 + 1
    x, y = (rng.normal(size=rows).astype(np.float32) for _ in range(2))
    label = (rng.random(rows) < 1 / (1 + np.exp(-(ids["category"] - 4.0 + 2 * x)))).astype(np.float32)
    like = np.where(label > 0, (y > 0).astype(np.float32), np.nan).astype(np.float32)
    purchase = np.where(label > 0, (y > 1).astype(np.float32), np.nan).astype(np.float32)
    found: dict[str, Any] = {f"f_{name}": values.astype(np.int64) for name, values in ids.items()}
    found |= {"f_x": x, "f_y": y, "history": pa.array(history, pa.list_(pa.int64()))}
    return found | {"label": label, "label_like": like, "label_purchase": purchase}


def _cover(rng: np.random.Generator, topic: int) -> NDArray[np.uint8]:
    """(height, width, 3): a colour of the topic, with noise."""
    colour = np.array([topic * 40 + 20, 250 - topic * 40, (topic % 3) * 100 + 20])
    return np.clip(colour + rng.integers(-15, 16, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1])
