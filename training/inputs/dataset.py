"""The published data set that a task reads: its folder, its columns, and the inputs that a model has on it."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.model_files import write_model_file
from conf.versions import current_version
from features.catalog import DENSE, LISTS, SPARSE, index_version
from features.compatibility import TIMEZONE
from features.dataset import positives
from features.dataset.names import EXAMPLES, HISTORY, POSITIVES, SEQUENCES, SPLITS, WEIGHT
from features.id_ranges import check_ids
from features.item_side import depends_on_item, is_item_only
from training.inputs.batch import Columns
from training.inputs.schema import Inputs
from training.net_settings import NetSettings

ITEMS_FILE = "items.npz"
BUILD_COMMANDS = {"covers": "features covers", "titles": "features titles"}
"""Verbs that write a kind of data set; `features build` writes the others."""


class DatasetTask(Protocol):
    """The part of `training.tasks.Task` that names its data set: this folder knows no more of a task."""

    @property
    def kind(self) -> str:
        """Name of the data set under `datasets/`: examples, positives, sequences, covers, titles."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Its columns of labels; none where the label is among the features, as the next item is."""
        ...

    @property
    def lists(self) -> tuple[str, ...]:
        """Its columns of lists of ids, such as the user's history, oldest first."""
        ...


@dataclass(frozen=True)
class TaskDataset:
    """A published data set with `train`, `valid` and `test`, as a task reads it."""

    folder: Path
    inputs: Inputs
    columns: Columns
    version: str
    """Of the features (or classes): a model's weights fit these and no others."""
    timezone: str = "UTC"
    """Of the hours and days of the features."""
    items_folder: Path | None = None
    """The rows that say which items there are, where it is not `folder`: rows of sequences are a part of them."""


def open_dataset(config: Config, task: DatasetTask, day: date) -> TaskDataset:
    """The newest published data set of the task and day.

    Positives are built of the day's examples when they are first asked for.

    Raises UserError when it is missing, empty or lacks a column, with the command that writes it.
    """
    if task.kind in (POSITIVES, SEQUENCES):
        positives.run(config, day)
    if task.kind == SEQUENCES:
        positives.run(config, day, SEQUENCES)
    command = f"millrace {BUILD_COMMANDS.get(task.kind, 'features build')} --date {day}"
    folder, about = current_version(config.get(Paths).datasets(task.kind, day), command=command)
    list_length = config.get(NetSettings).list_length
    if task.kind in (EXAMPLES, POSITIVES, SEQUENCES):
        history = history_column(config.get(NetSettings).history)
        if task.kind == SEQUENCES and history != HISTORY:
            raise UserError(
                f"net.history={config.get(NetSettings).history} is for models that read what happened before: this one "
                "learns what users chose next, of their history; leave it out"
            )
        dataset = _feature_dataset(folder, about, task, list_length, history)
        if task.kind == SEQUENCES:
            all_items, _ = current_version(config.get(Paths).datasets(POSITIVES, day), command=command)
            dataset = replace(dataset, items_folder=all_items)
    else:
        dataset = _topic_dataset(folder, about, task, list_length)
    _require_columns(dataset, command)
    return dataset


def history_column(name: str) -> str:
    """Column of the list that is called so: `history`, or a list of items that the site declares.

    Raises:
        UserError: there is none.
    """
    of_items = {one.name: one.column for one in LISTS if one.field.name == "item_id"}
    columns = {HISTORY: HISTORY, **of_items}
    if name not in columns:
        raise UserError(f"net.history={name} is no list of items; choose from {', '.join(columns)}")
    return columns[name]


def _feature_dataset(
    folder: Path, about: Mapping[str, Any], task: DatasetTask, list_length: int, history: str
) -> TaskDataset:
    """Examples or positives: the features of the catalog; `about` is what the builder wrote of them.

    The list `history` of a task is read from the column of that name.
    """
    # In the order of the catalog's index, which is the order of the columns of a model's tensors.
    buckets = {feature.name: feature.buckets for feature in SPARSE}
    # Models of items read one list, of items; those of clicks the site's lists as fields, too.
    sequences = LISTS if task.kind == EXAMPLES else ()
    inputs = Inputs(
        sparse=tuple(buckets),
        buckets=tuple(buckets.values()),
        dense=tuple(feature.name for feature in DENSE),
        lists=tuple(history if name == HISTORY else name for name in task.lists),
        list_buckets=buckets["item_id"],
        labels=task.labels,
        list_length=list_length,
        sequences=tuple(one.name for one in sequences),
        sequence_buckets=tuple(one.field.buckets for one in sequences),
        sequence_lengths=tuple(one.length for one in sequences),
        # The id first, by which the others are looked up.
        item_fields=("item_id", *(one.name for one in SPARSE if is_item_only(one) and one.name != "item_id")),
        user_fields=tuple(one.name for one in SPARSE if not depends_on_item(one)),
    )
    columns = Columns(
        sparse=tuple(f"f_{name}" for name in inputs.sparse),
        dense=tuple(f"f_{name}" for name in inputs.dense),
        lists=inputs.list_columns,
        labels=task.labels,
        weight=WEIGHT if _has_weights(folder) else None,
        sparse_sizes=inputs.buckets,
        list_sizes=(*[inputs.list_buckets] * len(inputs.lists), *inputs.sequence_buckets),
    )
    zone = about.get(TIMEZONE, "UTC")  # older versions have UTC's hours and don't say so
    return TaskDataset(folder, inputs, columns, index_version(zone), zone)


def _has_weights(folder: Path) -> bool:
    """Whether the training rows were sampled (`features.balance`), so that weights have to undo it."""
    file = next((folder / "train").glob("*.parquet"), None)
    return file is not None and WEIGHT in pq.read_schema(file).names


def _topic_dataset(folder: Path, about: Mapping[str, Any], task: DatasetTask, list_length: int) -> TaskDataset:
    """Covers or titles, labelled by their topic; `about` is what the builder wrote of them."""
    image = tuple(about["image"]) if "image" in about else None
    inputs = Inputs(
        lists=task.lists,
        list_buckets=int(about.get("buckets", 0)),
        labels=task.labels,
        classes=tuple(about["classes"]),
        list_length=list_length,
        image=image,
    )
    columns = Columns(
        lists=task.lists,
        labels=task.labels,
        image="cover" if image else None,
        list_sizes=(inputs.list_buckets,) * len(task.lists) if inputs.list_buckets else (),
    )
    # The classes are what a model's outputs mean: with another list, the same number is another topic.
    version = hashlib.sha256(json.dumps(inputs.classes).encode()).hexdigest()[:12]
    return TaskDataset(folder, inputs, columns, version)


def _require_columns(dataset: TaskDataset, command: str) -> None:
    for split in SPLITS:
        file = next((dataset.folder / split).glob("*.parquet"), None)
        if file is None:
            raise UserError(f"no rows in {dataset.folder / split}: run `{command}`")
        # Of one file: the parts of a published split have one schema.
        present = set(pq.read_schema(file).names)
        missing = [name for name in dataset.columns.names if name not in present]
        if missing:
            raise UserError(
                f"{dataset.folder} has no column {', '.join(missing)}: it is older than this version; run `{command}`"
            )


def write_item_catalog(dataset: TaskDataset, folder: Path) -> None:
    """Write `items.npz` for `ItemCatalog` into a run's folder.

    Arrays by item id: `is_item` (items,) bool, `fields` (items, item fields) and `counts` (items,) int64, how often the
    item was chosen in `train`. Costs one pass over the item's columns of all splits; memory grows with the items.
    """
    inputs = dataset.inputs
    counts = np.zeros(inputs.num_items, np.int64)
    is_item = np.zeros(inputs.num_items, bool)
    fields = np.zeros((inputs.num_items, len(inputs.item_columns)), np.int64)
    names = [dataset.columns.sparse[column] for column in inputs.item_columns]  # the item's id first
    for split in SPLITS:
        for file in sorted(((dataset.items_folder or dataset.folder) / split).glob("*.parquet")):
            table = pq.read_table(file, columns=names)
            values = np.stack([table[name].to_numpy() for name in names], axis=1)  # (rows, item fields)
            check_ids(values, [inputs.buckets[column] for column in inputs.item_columns], names, str(file))
            ids = values[:, 0]
            is_item[ids] = True
            # Items change: of several rows with one id the last one counts.
            fields[ids] = values
            if split == "train":
                counts += np.bincount(ids, minlength=inputs.num_items)
    buffer = io.BytesIO()
    np.savez(buffer, is_item=is_item, fields=fields, counts=counts)
    write_model_file(folder / ITEMS_FILE, buffer.getvalue())


def item_names(folder: Path, split: str = "train") -> dict[int, str]:
    """The item of each id in a split; of items that share an id by hashing, the most frequent one."""
    most_frequent: dict[int, tuple[int, str]] = {}
    for file in sorted((folder / split).glob("*.parquet")):
        pairs = pq.read_table(file, columns=["f_item_id", "item_id"])
        counts = pairs.group_by(["f_item_id", "item_id"]).aggregate([("item_id", "count")])
        columns = (counts[name].to_pylist() for name in ("f_item_id", "item_id", "item_id_count"))
        for item_id, name, count in zip(*columns, strict=True):
            most_frequent[item_id] = max(most_frequent.get(item_id, (0, "")), (count, name))
    return {item_id: name for item_id, (_, name) in most_frequent.items()}
