"""Evaluate the whole recommender on all data in the warehouse, by any split: `millrace recsys evaluate`."""

from datetime import date
from typing import TYPE_CHECKING, Any

from conf import Config, Paths, UserError
from etl.tables import dwd
from etl.warehouse import Warehouse
from features import build
from recsys import candidates, coarse, rank
from recsys.fine import train as fine
from recsys.settings import RecommendSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: "SparkSession", config: Config, *, split: str, k: int) -> dict[str, Any]:
    """Features, recall, coarse and fine ranking on the training rows, lists measured on the test rows."""
    ks = tuple(sorted({*config.get(RecommendSettings).ks, k}))
    config = config.with_values({"recommend.ks": list(ks)})
    day = _last_day(Warehouse(spark, config.get(Paths)))
    build.run(spark, config, day, split)
    candidates.run(spark, config, day)
    numbers = {name: run(config, day) for name, run in (("coarse", coarse.run), ("fine", fine.run))}
    lists = rank.run(config, day, at=k)
    aucs = {
        f"{name}_test_{metric}": told[f"test_{metric}"]
        for name, told in numbers.items()
        for metric in ("auc", "log_loss")
    }
    return {"split": split, "day": str(day), **lists, **aucs}


def _last_day(warehouse: Warehouse) -> date:
    days = [*warehouse.partitions(dwd.impression), *warehouse.partitions(dwd.interaction)]
    if not days:
        raise UserError("the warehouse holds no impressions or interactions: run `millrace ingest` or `millrace run`")
    return date.fromisoformat(max(days))
