"""The numbers that a manager asks for first: a day's figures beside those of the day before and of the week before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.report.day_tables import DayTables, collect_rows
from etl.report.parts import format_count
from etl.table import Table
from etl.tables import ads, dwd

WEEK = 7  # days before the day, which their mean is of
LISTS_LOOK_BACK = 30  # days: lists that were published longer ago are nobody's lists any more

# Day -> figure -> value; a figure that the day's tables don't have is missing.
DayFigures = dict[date, dict[str, float]]


@dataclass(frozen=True)
class Figure:
    """A figure of the day; `numerator` / `denominator` where it is a rate, else the numerator alone."""

    name: str
    note: str
    numerator: str
    denominator: str | None = None
    format: Callable[[float], str] = format_count


@dataclass(frozen=True)
class Comparison:
    """A figure's values: of the day, of the day before, and the mean of those of the seven days before that have one.

    Means of rates are weighted by their denominators. None: no value.
    """

    figure: Figure
    today: float | None
    eve: float | None
    week: float | None
    week_days: int

    def formatted(self, value: float | None) -> str:
        """A value as text, a dash for none."""
        return "–" if value is None else self.figure.format(value)

    def change(self, base: float | None) -> str:
        """The relative change from `base` to the day with an arrow; a dash where there is nothing to compare with."""
        if self.today is None or not base:
            return "–"
        change = self.today / base - 1
        arrow = "▲" if change > 0 else "▼" if change < 0 else "="
        return f"{arrow} {change:+.1%}"


_format_rate, _format_amount = "{:.2%}".format, "{:,.2f}".format


FIGURES = (
    Figure("Impressions", "items shown", "impressions"),
    Figure("Click rate", "clicks / impressions", "clicks", "impressions", _format_rate),
    Figure("Visitors", "addresses with a page view", "visitors"),
    Figure("Users", "users with an impression", "users"),
    Figure("Orders", "purchases", "orders"),
    Figure("Value of orders", "a purchase without an amount counts 1", "value", None, _format_amount),
)
# Whether an item was shown because of the list isn't logged: an item may have been shown for another reason, too.
LIST_FIGURES = (
    Figure("Impressions of lists", "items shown that were on the user's published list", "list_impressions"),
    Figure("Click rate of lists", "of these impressions", "list_clicks", "list_impressions", _format_rate),
    Figure("Orders of lists", "purchases after these impressions", "list_orders"),
    Figure("Value of list orders", "of these purchases", "list_value", None, _format_amount),
)


def headline(tables: DayTables) -> list[Comparison]:
    """The figures of the day and of its lists; those that no day of the week has a value of are left out."""
    figures: DayFigures = {day: {} for day in tables.days(1 + WEEK)}
    for source in (_impressions, _visitors, _orders, _lists):
        for day, values in source(tables).items():
            figures[day] |= values
    compared = [_compare(figure, figures) for figure in (*FIGURES, *LIST_FIGURES)]
    return [each for each in compared if each.today is not None or each.week is not None]


def _compare(figure: Figure, figures: DayFigures) -> Comparison:
    today, *week = sorted(figures, reverse=True)
    with_value = [figures[each] for each in week if _value(figure, [figures[each]]) is not None]
    return Comparison(
        figure, _value(figure, [figures[today]]), _value(figure, [figures[week[0]]]), _value(figure, with_value),
        len(with_value),
    )  # fmt: skip


def _value(figure: Figure, days: list[dict[str, float]]) -> float | None:
    """The figure's mean over days, each of which has a value; None without a day, or for 0 / 0."""
    names = [figure.numerator, *([figure.denominator] if figure.denominator else [])]
    if not days or any(name not in values for values in days for name in names):
        return None
    total = sum(values[figure.numerator] for values in days)
    divisor = sum(values[figure.denominator] for values in days) if figure.denominator else len(days)
    return total / divisor if divisor else None


def _impressions(tables: DayTables) -> DayFigures:
    rows = tables.read(ads.ctr_daily, days=1 + WEEK).select(ads.ctr_daily.partition, "impressions", "clicks", "users")
    return _by_day(tables, rows)


def _visitors(tables: DayTables) -> DayFigures:
    rows = tables.read(ads.visitor_daily, days=1 + WEEK).select("datestr", "visitors")
    return _by_day(tables, rows)


def _orders(tables: DayTables) -> DayFigures:
    acts = tables.read(dwd.interaction, days=1 + WEEK)
    purchases = acts.where("action = 'purchase'").groupBy("dt")
    sums = purchases.agg(F.count("*").alias("orders"), F.sum("value").alias("value"))
    # A loaded day without a purchase has 0 orders; of one that wasn't loaded they are unknown.
    none = {day: {"orders": 0.0, "value": 0.0} for day in _loaded_days(tables, dwd.interaction)}
    return none | _by_day(tables, sums)


def _lists(tables: DayTables) -> DayFigures:
    """Impressions of items on the list that served their day, and the orders that followed these impressions."""
    list_of = _lists_by_day(tables)
    if not list_of:
        return {}
    shown = _shown_from_lists(tables, list_of)
    counts = shown.groupBy("dt").agg(
        F.count("*").alias("list_impressions"), F.sum("is_clicked").cast("bigint").alias("list_clicks")
    )
    purchases = tables.read(dwd.interaction, days=1 + WEEK).where("action = 'purchase'")
    # Counted on the day of the purchase, as all orders are.
    ordered = purchases.join(shown.select("impression_id"), "impression_id", how="left_semi").groupBy("dt")
    orders = ordered.agg(F.count("*").alias("list_orders"), F.sum("value").alias("list_value"))
    none = dict.fromkeys(("list_impressions", "list_clicks", "list_orders", "list_value"), 0.0)
    served = [day for day in _loaded_days(tables, dwd.impression) if dwd.impression.partition_value(day) in list_of]
    shown_by_day, orders_by_day = _by_day(tables, counts), _by_day(tables, orders)
    return {day: {**none, **shown_by_day.get(day, {}), **orders_by_day.get(day, {})} for day in served}


def _loaded_days(tables: DayTables, table: Table) -> list[date]:
    """The days of the figures that have a partition of `table`, be it empty."""
    partitions = set(tables.warehouse.partitions(table))
    return [day for day in tables.days(1 + WEEK) if table.partition_value(day) in partitions]


def _lists_by_day(tables: DayTables) -> Mapping[str, str]:
    """Partition of impressions -> the newest partition of lists before it: those that served the day."""
    published = tables.warehouse.partitions(ads.recommendation)
    oldest = ads.recommendation.partition_value(tables.days(LISTS_LOOK_BACK)[-1])
    list_of = {}
    for day in tables.days(1 + WEEK):
        value = dwd.impression.partition_value(day)
        if earlier := [each for each in published if oldest <= each < value]:
            list_of[value] = max(earlier)
    return list_of


def _shown_from_lists(tables: DayTables, list_of: Mapping[str, str]) -> DataFrame:
    days = F.broadcast(tables.spark.createDataFrame(list(list_of.items()), "dt string, list_dt string"))
    lists = tables.read(ads.recommendation, days=LISTS_LOOK_BACK)
    lists = lists.select("user_id", "item_id", F.col("dt").alias("list_dt")).join(days, "list_dt", how="inner")
    shown = tables.read(dwd.impression, days=1 + WEEK).select("dt", "impression_id", "user_id", "item_id", "is_clicked")
    # One shuffle by user and item; at most one row of a list fits, for a list has an item once.
    return shown.join(lists.select("dt", "user_id", "item_id"), ["dt", "user_id", "item_id"], how="left_semi")


def _by_day(tables: DayTables, rows: DataFrame) -> DayFigures:
    """Rows of one day each, whose first column is the partition."""
    day_of = {ads.ctr_daily.partition_value(day): day for day in tables.days(1 + WEEK)}
    day_of |= {ads.visitor_daily.partition_value(day): day for day in tables.days(1 + WEEK)}
    by_day: DayFigures = {}
    for row in collect_rows(rows):
        partition, *names = row
        by_day[day_of[row[partition]]] = {name: float(row[name]) for name in names if row[name] is not None}
    return by_day
