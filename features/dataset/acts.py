"""What users did, of which lists of last acts are made: `features/item_lists.py`."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.site import current_site
from etl.tables import dwd
from etl.warehouse.store import Warehouse
from features.catalog import LISTS
from features.dataset.examples import has_rows, window_days
from features.dataset.splits import USER_ORDERED
from features.item_lists import CLICK, reads_clicks
from features.settings import FeatureSettings

SCHEMA = "user_id string, item_id string, at timestamp, action string, value double"
COLUMNS = ["user_id", "item_id", "at", "action", "value"]


def load_acts(
    warehouse: Warehouse, settings: FeatureSettings, day: date, split: str, examples: DataFrame
) -> DataFrame | None:
    """Acts that lists may have, one row each with COLUMNS; None where there are no lists.

    Args:
        warehouse: of dwd_interaction.
        settings: of the window.
        day: of the training set.
        split: day (then acts are those of the window), or another method (all acts).
        examples: with example_id, label and split. Clicks are theirs, and in splits that mix the times of a user no
            held-out example is an act of a training row's list.
    """
    if not LISTS:
        return None
    names = sorted({one.action for one in LISTS})
    is_ordered = split in USER_ORDERED
    days = window_days(settings, day) if split == "day" else None
    acts = warehouse.spark.createDataFrame([], SCHEMA)
    if has_rows(warehouse, dwd.interaction, days):
        interactions = warehouse.read(dwd.interaction, days).where(F.col("action").isin(names))
        if not is_ordered:
            held_out = examples.where("split <> 'train'").select(F.col("example_id").alias("event_id"))
            interactions = interactions.join(held_out, on="event_id", how="left_anti")
        acts = interactions.withColumnRenamed("acted_at", "at").select(*COLUMNS)
    if CLICK in names and reads_clicks(current_site()):
        clicks = examples.where("label = 1" if is_ordered else "label = 1 and split = 'train'")
        acts = acts.unionByName(with_clicks(clicks))
    return acts


def with_clicks(clicked: DataFrame) -> DataFrame:
    """Clicked examples as acts."""
    return clicked.withColumns({"action": F.lit(CLICK), "value": F.lit(1.0)}).select(*COLUMNS)
