"""The data set that a model learns from: its folder, its columns, and what they make of a model's inputs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.versions import current_version
from features.catalog import DENSE, SPARSE, index_version
from features.dataset import positives
from training.inputs.batch import Columns
from training.inputs.catalogue import FILE as CATALOGUE
from training.inputs.schema import Inputs
from training.net_settings import NetSettings

MADE_BY = {"examples": "features build", "covers": "features covers", "titles": "features titles"}


class DatasetTask(Protocol):
    """What a task says of its data set; the tasks themselves are in `training/tasks/`, which builds on this folder."""

    @property
    def kind(self) -> str:
        """The data set under `datasets/`."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Its columns of labels."""
        ...

    @property
    def lists(self) -> tuple[str, ...]:
        """Its columns of lists of ids."""
        ...


@dataclass(frozen=True)
class Data:
    """A published data set with `train`, `valid` and `test`, as a task reads it."""

    folder: Path
    inputs: Inputs
    columns: Columns
    version: str
    """Of the features: a model's weights fit these and no others."""


def open_data(config: Config, task: DatasetTask, day: date) -> Data:
    """The newest published data set of the task and day. Raises UserError that says what to run when it is missing."""
    if task.kind == "positives":
        positives.run(config, day)
    made_by = f"millrace {MADE_BY.get(task.kind, 'features build')} --date {day}"
    folder, about = current_version(config.get(Paths).datasets(task.kind, day), command=made_by)
    length = config.get(NetSettings).list_length
    if task.kind in ("examples", "positives"):
        data = _of_features(folder, task, length)
    else:
        data = _of_things(folder, about, task, length)
    _require_columns(data, made_by)
    return data


def _of_features(folder: Path, task: DatasetTask, length: int) -> Data:
    item_buckets = next(feature.buckets for feature in SPARSE if feature.name == "item_id")
    inputs = Inputs(
        sparse=tuple(feature.name for feature in SPARSE),
        buckets=tuple(feature.buckets for feature in SPARSE),
        dense=tuple(feature.name for feature in DENSE),
        lists=task.lists,
        list_buckets=item_buckets,
        labels=task.labels,
        list_length=length,
    )
    columns = Columns(
        tuple(f"f_{name}" for name in inputs.sparse),
        tuple(f"f_{name}" for name in inputs.dense),
        task.lists,
        task.labels,
    )
    return Data(folder, inputs, columns, index_version())


def _of_things(folder: Path, about: Mapping[str, Any], task: DatasetTask, length: int) -> Data:
    """Covers or titles, labelled by their topic."""
    image = tuple(about["image"]) if "image" in about else None
    inputs = Inputs(
        lists=task.lists,
        list_buckets=int(about.get("buckets", 0)),
        labels=task.labels,
        classes=tuple(about["classes"]),
        list_length=length,
        image=image,
    )
    columns = Columns(lists=task.lists, labels=task.labels, image="cover" if image else None)
    return Data(folder, inputs, columns, hashlib.sha256(json.dumps(inputs.classes).encode()).hexdigest()[:12])


def _require_columns(data: Data, made_by: str) -> None:
    for split in ("train", "valid", "test"):
        file = next((data.folder / split).glob("*.parquet"), None)
        if file is None:
            raise UserError(f"no rows in {data.folder / split}: run `{made_by}`")
        missing = [name for name in data.columns.names if name not in pq.read_schema(file).names]
        if missing:
            raise UserError(
                f"{data.folder} has no column {', '.join(missing)}: it is older than this version; run `{made_by}`"
            )


def write_catalogue(data: Data, folder: Path) -> None:
    """`items.npz` in a run's folder: ids that are items, their fields, and how often each was chosen in `train`."""
    inputs, item = data.inputs, data.inputs.place("item_id")
    counts = np.zeros(inputs.num_items, np.int64)
    is_item = np.zeros(inputs.num_items, bool)
    fields = np.zeros((inputs.num_items, len(inputs.item_places)), np.int64)
    names = [data.columns.sparse[place] for place in inputs.item_places]
    for split in ("train", "valid", "test"):
        for file in sorted((data.folder / split).glob("*.parquet")):
            table = pq.read_table(file, columns=names)
            ids = table[data.columns.sparse[item]].to_numpy()
            is_item[ids] = True
            fields[ids] = np.stack([table[name].to_numpy() for name in names], axis=1)
            if split == "train":
                counts += np.bincount(ids, minlength=inputs.num_items)
    np.savez(folder / CATALOGUE, known=is_item, fields=fields, counts=counts)


def item_names(folder: Path, kind: str = "train") -> dict[int, str]:
    """Item of each id, from the rows of a data set (of two items with one id, the more frequent one)."""
    most_frequent: dict[int, tuple[int, str]] = {}
    for file in sorted((folder / kind).glob("*.parquet")):
        pairs = pq.read_table(file, columns=["f_item_id", "item_id"])
        counted = pairs.group_by(["f_item_id", "item_id"]).aggregate([("item_id", "count")])
        for number, name, count in zip(*(pc.cast(c, c.type).to_pylist() for c in counted.columns), strict=True):
            most_frequent[number] = max(most_frequent.get(number, (0, "")), (count, name))
    return {number: name for number, (_, name) in most_frequent.items()}
