"""Days of training sets and candidates of 40 users and 30 items, whose clicks follow one feature."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conf import Config, Paths
from conf.versions import publish_version
from features.catalog import DENSE, SPARSE, index_version
from recsys.blend import rank
from recsys.blend.judge import position_id
from recsys.coarse import train as coarse
from recsys.dataset import HOT_ITEMS
from recsys.fine import train as fine

USERS, ITEMS = 40, 30


ITEM = [feature.name for feature in SPARSE].index("item_id")


STATISTICS = {
    "prior": 0.2,
    "by_position": {},
    "mean": {feature.name: 0.0 for feature in DENSE},
    "deviation": {feature.name: 1.0 for feature in DENSE},
}


def rows_of(seed: int, number: int, day: int, *, signal: float = 2.0) -> dict[str, np.ndarray]:
    """Clicks follow user_id's hash and one dense feature by `signal`; at 0 there is nothing to learn."""
    rng = np.random.default_rng(seed)
    # Lists of ten: one user at one moment.
    user, item = np.repeat(rng.integers(1, USERS + 1, number // 10), 10), rng.integers(1, ITEMS + 1, number)
    columns: dict[str, np.ndarray] = {f"f_{feature.name}": np.zeros(number, np.int64) for feature in SPARSE}
    columns |= {f"f_{feature.name}": rng.normal(size=number).astype(np.float32) for feature in DENSE}
    columns["f_user_id"], columns["f_item_id"] = user, item
    logit = signal * (columns["f_item_rate"] + (item % 3 - 1)) - 1.5
    columns["label"] = (rng.random(number) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    columns["user_id"], columns["item_id"] = np.char.add("u", user.astype(str)), np.char.add("i", item.astype(str))
    columns["at_s"] = np.repeat(day * 86_400.0 + np.sort(rng.random(number // 10)) * 86_400, 10)
    return columns


def write(folder: Path, columns: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "part-0.parquet")


def by_user(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows in the order of users, an item once each, as candidates are."""
    pairs = np.char.add(np.char.add(columns["user_id"], " "), columns["item_id"])
    first = np.unique(pairs, return_index=True)[1]
    return {name: values[first] for name, values in columns.items()}


def publish_day(
    config: Config,
    day: date,
    *,
    signal: float = 2.0,
    truth: float = 2.0,
    zone: str | None = None,
    is_logged: bool = False,
) -> None:
    """Examples that teach `signal` and are tested by `truth`, and candidates; without `zone` as of an older version.

    Examples have places in lists only when the day `is_logged`.
    """
    paths, n = config.get(Paths), day.toordinal()
    clock = {"timezone": zone, "features": index_version(zone)} if zone else {}
    examples = {"split": "day", "statistics": STATISTICS | clock, **clock}
    with publish_version(paths.datasets("examples", day), examples) as folder:
        for split, seed, number, strength in (
            ("train", 1, 6000, signal),
            ("valid", 2, 1500, signal),
            ("test", 3, 2000, truth),
        ):
            columns = rows_of(seed + n, number, n, signal=strength)
            places = {"f_position": np.tile([position_id(place) for place in range(1, 11)], number // 10)}
            write(folder / split, columns | (places if is_logged else {}))
    with publish_version(paths.datasets("candidates", day), {"split": "day", **clock}) as folder:
        for name in ("fit", "holdout", "serve"):
            columns = by_user(rows_of(4 + n, 1500, n))
            channels = np.array(["ease+hot"] * len(columns["label"]))
            write(folder / name, columns | {"channels": channels, "score": columns["f_item_rate"].astype(np.float32)})
        found = rows_of(4 + n, 1500, n)
        clicked = found["label"] > 0
        pairs = pa.table({name: found[name][clicked] for name in ("user_id", "item_id")})
        pq.write_table(pairs.group_by(["user_id", "item_id"]).aggregate([]), folder / "positives.parquet")
        items = [f"i{i}" for i in range(1, ITEMS + 1)]
        published = pa.array([1_700_000_000_000_000] * ITEMS, pa.timestamp("us"))
        about = {"item_id": items, "category": ["x", "y"] * (ITEMS // 2), "published_at": published}
        pq.write_table(pa.table(about | {"popularity": [1.0] * ITEMS}), folder / "items.parquet")
        heat = {"heat": [0.0, *[float(i) for i in range(1, ITEMS)]]}  # nobody chose i1 yet
        pq.write_table(pa.table({name: about[name] for name in ("item_id", "published_at")} | heat), folder / HOT_ITEMS)


def trained(config: Config, day: date) -> None:
    coarse.run(config, day)
    fine.run(config, day)
    rank.run(config, day)
