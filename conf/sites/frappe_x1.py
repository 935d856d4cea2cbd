"""Frappe in the form of click data with drawn negatives, 7:2:1: train, valid and test.parquet, a day each.

A day is a split: features build --date 2015-03-03 learns from the first, validates on the second, tests on the third.
"""

from conf.site import Category, Files, Impressions, Site

CONTEXT = ("daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")


def _split(file: str, day: str) -> Impressions:
    columns = {name: Category(buckets=8192, is_number=True) for name in CONTEXT}
    return Impressions(Files(file, day=day), user="user", item="item", clicked="label", columns=columns)


SITE = Site(
    name="frappe-x1",
    impressions=[
        _split("train*.parquet", "2015-03-01"),
        _split("valid.parquet", "2015-03-02"),
        _split("test.parquet", "2015-03-03"),
    ],
    user_ids=Category(buckets=8192, is_number=True),
    item_ids=Category(buckets=8192, is_number=True),
    has_counts=False,
)
