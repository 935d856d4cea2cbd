"""Build the state of a publication from its published files: `serving/states/<key>/` under the home.

It is built once, by the server that sees the publication first, and mapped into memory by all its workers.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from conf import Config, Paths
from conf.atomic import write_atomically
from conf.runs import UNKNOWN_USER
from features.catalog import LISTS, OWN_COLUMNS, OWN_GROUPS, OWN_WINDOWS
from features.compute.request_batch import BatchFeatures
from features.compute.training_statistics import TrainingStatistics
from features.counts.count_arrays import Impressions, count_impressions, expected_clicks
from features.settings import FeatureSettings
from features.transforms.columns import Moments
from features.transforms.columns import Texts as Column
from recsys.blend.unknown_user import unknown_user_list
from recsys.dataset import HOT_ITEMS, parquet_files
from recsys.serve.state.arrays import IdIndex, Lists, Texts, save_arrays
from recsys.serve.state.choices import choices, chosen_items, item_lists, read_acts, similar_items
from recsys.serve.state.own_arrays import OwnArrays
from recsys.serve.state.own_counts import KEYS, OwnCounts
from recsys.serve.state.publication import Publication
from recsys.serve.state.rows import EPOCH, codes_of, newest, profiles, read_impressions, walls

log = logging.getLogger(__name__)

META = "meta.json"
PROFILE = ("gender", "age_group", "city")  # of dim_user, what the catalog names
NUM_HOT = 1000  # items of the list for unknown users, for filters to leave enough of
NUM_KEPT_STATES = 2  # the newest, and the one that is being served while it is built


def states_folder(config: Config) -> Path:
    """Where states lie, each in a folder of its publication's key."""
    return config.get(Paths).root / "serving" / "states"


def build_state(config: Config, publication: Publication, export: Callable[[Path], None]) -> Path:
    """The folder of a publication's state, which is built if it is not there.

    Args:
        config: `features.history_length`, and the home.
        publication: what it is built of.
        export: writes the models into the folder.

    Raises:
        UserError: a file that it is made of is gone or damaged.
    """
    root = states_folder(config)
    folder = root / publication.key
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock"):  # of two servers on one home
        # Looked at under the lock: the other server may have built it while this one waited.
        if not (folder / META).exists():
            started = time.monotonic()
            staged = root / f".{publication.key}"
            # Of a build that was killed.
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir()
            about = _write(config, publication, staged)
            export(staged)
            # Last in the folder, and the folder's name after it: who finds META finds everything.
            write_atomically(staged / META, json.dumps(about))
            staged.rename(folder)
            log.info("built the state of %s in %.1f s", publication.key, time.monotonic() - started)
            _remove_old(root)
    return folder


def is_built(config: Config, key: str) -> bool:
    """Whether the state of a publication's key is there."""
    return (states_folder(config) / key / META).exists()


def _remove_old(root: Path) -> None:
    """Workers that have an old state mapped keep its files, whatever their names."""
    states = sorted(root.glob(f"*/{META}"), key=lambda path: path.stat().st_mtime)
    for path in states[:-NUM_KEPT_STATES]:
        shutil.rmtree(path.parent, ignore_errors=True)


def _write(config: Config, publication: Publication, folder: Path) -> dict[str, Any]:
    impressions = read_impressions(publication, _read_with_impressions())
    candidates, acts = _read_candidates(publication), read_acts(publication)
    # Users and items of lists have codes, too, shown or not.
    listed = [acts] if LISTS else []
    users = newest(publication, "dim_user", ["user_id", *PROFILE, *OwnArrays.sources("user")])
    items = newest(
        publication, "dim_item", ["item_id", "category", "author", "published_at", *OwnArrays.sources("item")]
    )
    text = pa.string()
    user_ids, item_ids = (
        pc.unique(pa.chunked_array([c for t in tables for c in pc.cast(t[name], text).chunks], text)).sort()
        for name, tables in (
            ("user_id", (users, impressions, candidates, *listed)),
            ("item_id", (items, impressions, candidates, *listed)),
        )
    )
    statistics = TrainingStatistics(**publication.statistics)
    # By code, which is the place among the sorted ids: codes of a publication never change.
    names, arrays = _items(items, item_ids, publication.zone, BatchFeatures(statistics))
    user_names, user_arrays = _users(users, user_ids)
    user, item = codes_of(impressions["user_id"], user_ids), codes_of(impressions["item_id"], item_ids)
    of_impressions = Impressions(
        user,
        item,
        arrays["item_category"][item],
        pc.cast(impressions["position"], pa.float64()).to_numpy(),
        impressions["day"].to_numpy(),
        impressions["label"].to_numpy(),
    )
    num_topics = len(names["category"]) - 1  # the last name is that of none
    counts = count_impressions(of_impressions, len(user_ids), len(item_ids), num_topics, statistics.rates)
    positives = chosen_items(
        impressions, user, item, arrays["item_feature_item_id"][item], config.get(FeatureSettings).history_length
    )
    arrays |= user_arrays | {
        "item_sums": counts.items,
        "user_sums": counts.users.T,  # a user's sums are in one place
        "user_last_click": counts.last_click,
        "category_sums": counts.categories,
        "num_shown": np.array([float(counts.num_shown)]),
        "pair_sums": counts.pairs.T,
        **Lists(counts.user_offsets, counts.user_categories).arrays("user_categories"),
    }
    if OWN_GROUPS:
        rows = _keyed_rows(impressions, user, item, {**names, **user_names}, arrays, (user_ids, item_ids))
        # Shown, clicked, and clicks expected at the position: the three sums that a rate is made of.
        values = (np.ones(len(user)), of_impressions.label, expected_clicks(of_impressions.position, statistics.rates))
        for group in OWN_GROUPS:
            counted = np.stack(values).astype(np.float64)  # (3, impressions)
            if group in OWN_WINDOWS:
                # Older impressions count 0: the sums have one shape for all groups.
                counted *= of_impressions.day > (publication.day - EPOCH).days - OWN_WINDOWS[group]
            arrays |= OwnCounts.build(group, rows, counted)
    arrays |= choices(acts, positives, user_ids, item_ids)
    arrays |= item_lists(acts, positives, arrays, user_ids, item_ids)
    channels, more = _candidates(candidates, user_ids, item_ids)
    arrays |= more
    arrays |= similar_items(positives["user"].to_numpy(), positives["item"].to_numpy(), len(user_ids), len(item_ids))
    if publication.exclude == "shown":
        # Without impressions these are training rows: those that are no positives were sampled, and never shown.
        is_shown = (of_impressions.label > 0) | ("dwd_impression" in publication.sources)
        pairs = pd.DataFrame({"user": user[is_shown], "item": item[is_shown]})
        shown = pairs.drop_duplicates().sort_values(["user", "item"])
        values = shown["item"].to_numpy(np.int32)
        arrays |= Lists.of_sorted(shown["user"].to_numpy(), values, len(user_ids)).arrays("shown")
    hot_channels, hot = _hot(publication, item_ids)
    # Uncompressed, so that workers can map them.
    save_arrays(folder, arrays | hot)
    return {
        "exclude": publication.exclude,
        "names": {**names, **user_names, "channels": channels, "hot_channels": hot_channels},
        "users": len(user_ids),
        "items": len(item_ids),
        "known_items": len(items),
        "candidates": len(candidates),
        "impressions": len(impressions),
    }


def _read_with_impressions() -> list[str]:
    """Columns of dwd_impression that own rates need besides those that are always read."""
    needs_context = not KEYS.isdisjoint(OWN_COLUMNS.names("context"))
    return [name for name, is_needed in (("device", "device" in KEYS), ("context", needs_context)) if is_needed]


def _keyed_rows(
    impressions: pa.Table,
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    names: Mapping[str, list[str | None]],
    arrays: Mapping[str, NDArray[Any]],
    ids: tuple[pa.Array, pa.Array],
) -> dict[str, Column]:
    """The columns of impressions that own rates are counted by."""
    columns = {"user_id": Column(ids[0].to_pylist(), user), "item_id": Column(ids[1].to_pylist(), item)}
    columns |= {name: Column(names[name], arrays[f"item_{name}"][item]) for name in ("category", "author")}
    columns |= {name: Column(names[name], arrays[f"user_{name}"][user]) for name in PROFILE}
    for name in KEYS & {*OWN_COLUMNS.names("user"), *OWN_COLUMNS.names("item")}:
        codes = user if name in OWN_COLUMNS.names("user") else item
        columns[name] = Column(names[f"own_{name}"], arrays[f"own_{name}"][codes])
    happened = {name: impressions[name] for name in ("position", "device") if name in impressions.column_names}
    if "context" in impressions.column_names:
        contexts = [OWN_COLUMNS.read_texts("context", dict(one or ())) for one in impressions["context"].to_pylist()]
        happened |= {name: pa.chunked_array([[one[name] for one in contexts]]) for name in OWN_COLUMNS.names("context")}
    for name in KEYS & set(happened):
        columns[name] = Column(*profiles(pa.table({name: pc.cast(happened[name], pa.string())}), name))
    return columns


def _read_candidates(publication: Publication) -> pa.Table:
    columns = ["user_id", "item_id", "channels", "score"]
    if not (publication.candidates / "serve").exists():
        return pa.table({name: pa.array([], pa.float64() if name == "score" else pa.string()) for name in columns})
    files = [str(path) for path in parquet_files(publication.candidates / "serve")]
    return ds.dataset(files).to_table(columns=columns)


def _items(
    table: pa.Table, item_ids: pa.Array, zone: str, features: BatchFeatures
) -> tuple[dict[str, list[str | None]], dict[str, NDArray[Any]]]:
    """Names of topics, and arrays by code of item; items that are in no dim_item have nulls."""
    row = codes_of(item_ids, table["item_id"])  # (items,) row of the table, −1 for none
    # Items that were shown or proposed and then left dim_item have a code, too.
    is_known = row >= 0
    names: dict[str, list[str | None]] = {}
    codes: dict[str, NDArray[np.int32]] = {}
    for name in ("category", "author"):
        names[name], of_rows = profiles(table, name)
        codes[name] = np.where(is_known, of_rows[row], len(names[name]) - 1).astype(np.int32)
    # Twice: features count days by the site's clock, ages are seconds of real time.
    wall = np.where(is_known, walls(table["published_at"], zone)[row], np.nan)
    utc = np.where(is_known, walls(table["published_at"], "UTC")[row], np.nan)
    ids = item_ids.to_pylist()
    columns = {
        "item_id": Column(ids, np.arange(len(ids))),
        "category": Column(names["category"], codes["category"]),
        "author": Column(names["author"], codes["author"]),
        "published_at": Moments(wall),
    }
    own = OwnArrays.build("item", table, row)
    columns |= own.rows(np.arange(len(ids)))
    names |= own.names
    arrays: dict[str, NDArray[Any]] = {
        "item_category": codes["category"],
        "item_author": codes["author"],
        "item_wall": wall,
        "item_published": utc,
        "item_known": is_known,
        **{f"item_feature_{name}": of_items for name, of_items in features.item_ids(columns, len(ids)).items()},
        **Texts.pack(ids).arrays("item_ids"),
        **IdIndex.build(ids).arrays("item_index"),
        **own.arrays,
    }
    return names, arrays


def _users(table: pa.Table, user_ids: pa.Array) -> tuple[dict[str, list[str | None]], dict[str, NDArray[Any]]]:
    row = codes_of(user_ids, table["user_id"])  # (users,) row of the table, −1 for none
    names: dict[str, list[str | None]] = {}
    arrays: dict[str, NDArray[Any]] = {"user_known": row >= 0}
    for name in PROFILE:
        names[name], of_rows = profiles(table, name)
        arrays[f"user_{name}"] = np.where(row >= 0, of_rows[row], len(names[name]) - 1).astype(np.int32)
    ids = user_ids.to_pylist()
    own = OwnArrays.build("user", table, row)
    names |= own.names
    arrays |= own.arrays
    return names, arrays | IdIndex.build(ids).arrays("user_index") | Texts.pack(ids).arrays("user_ids")


def _candidates(table: pa.Table, user_ids: pa.Array, item_ids: pa.Array) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Each user's candidates by item: code of the item, score of recall and code of the channels."""
    user, item = codes_of(table["user_id"], user_ids), codes_of(table["item_id"], item_ids)
    channels = pc.unique(pc.cast(table["channels"], pa.string()))
    channel = codes_of(table["channels"], channels)
    # By user, because `Lists` takes keys that ascend; then by item.
    order = np.lexsort((item, user))
    arrays = Lists.of_sorted(user[order], item[order].astype(np.int32), len(user_ids)).arrays("candidates")
    arrays["candidate_scores"] = table["score"].to_numpy()[order].astype(np.float64)
    arrays["candidate_channels"] = channel[order].astype(np.int32)
    return channels.to_pylist(), arrays


def _hot(publication: Publication, item_ids: pa.Array) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The list of an unknown user, as the day publishes it: codes of items, and of the channels hot and new."""
    path, channels = publication.candidates / HOT_ITEMS, ["hot", "new"]
    if path.exists():
        rows = unknown_user_list(pd.read_parquet(path), NUM_HOT)
    elif (publication.lists / UNKNOWN_USER).exists():
        rows = pq.read_table(publication.lists / UNKNOWN_USER).to_pandas()
    else:
        rows = pd.DataFrame({"item_id": pd.Series([], dtype=str), "channels": pd.Series([], dtype=str)})
    item = codes_of(pa.chunked_array([pa.array(rows["item_id"], pa.string())]), item_ids)
    channel = (rows["channels"].to_numpy() != "hot").astype(np.int32)  # 0 hot, 1 new
    return channels, {"hot": item[item >= 0].astype(np.int32), "hot_channel": channel[item >= 0]}


def read_meta(folder: Path) -> Mapping[str, Any]:
    """What `build_state` has written beside the arrays."""
    meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
    return meta
