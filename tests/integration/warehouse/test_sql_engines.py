"""What DuckDB answers is what Spark answers, on the same partitions; all else is left to Spark."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pytest
from pyspark.sql import SparkSession

from conf import Config
from etl.metastore.reader import StoredTable
from etl.tables import ALL, ads
from etl.warehouse.duckdb_query import run_select
from etl.warehouse.query import query, rows_of
from etl.warehouse.select_rules import OnlySparkError, translate
from etl.warehouse.store import Warehouse

DAYS = [date(2029, 8, day) for day in (1, 2, 3)]
HERE = "dt between '2029-08-01' and '2029-08-31'"
TEXTS = ["", "a", "A", "ä", "b'c", "100%", "a_c", " a", None]
VALUES = [0.0, -0.0, 0.1, 0.2, 1e300, -3.5, math.nan, math.inf]
COUNTS = [0, 1, 2, 3, -4, 9_000_000_000, None]


@pytest.fixture(scope="module")
def stored(spark: SparkSession, config: Config) -> dict[str, StoredTable]:
    """Tables of three days, the last of which is empty, with all that is hard to compare; as the metastore has them."""
    rng, warehouse = random.Random(3), Warehouse(spark, config)
    metrics = [
        ("r", "fm", rng.choice(TEXTS) or "x", rng.choice(TEXTS), f"m{n}", rng.choice([1, 5, None]), rng.choice(VALUES),
         rng.choice(COUNTS), datetime(2029, 8, 1, tzinfo=UTC), str(DAYS[n % 2]))
        for n in range(80)
    ]  # fmt: skip
    schema = ads.model_metric.partitioned_schema_text
    frame = spark.createDataFrame(metrics, schema)
    warehouse.write(ads.model_metric, frame, DAYS)
    rates = [(rng.choice([0, 3, 7]), rng.choice([0, 2]), rng.random(), 1, str(day)) for day in DAYS[:2]]
    warehouse.write(ads.ctr_daily, spark.createDataFrame(rates, ads.ctr_daily.partitioned_schema_text), DAYS[:2])
    return {
        table.name: StoredTable([name.lower() for name in table.column_names], warehouse.locations(table))
        for table in (ads.model_metric, ads.ctr_daily)
    }


def both(spark: SparkSession, stored: dict[str, StoredTable], statement: str) -> tuple[Any, Any]:
    """(columns, rows) by DuckDB and by Spark."""
    answer = run_select(translate(statement, ALL), stored)
    frame = query(spark, statement)
    return (list(answer.columns), list(answer.rows)), (list(frame.columns), list(rows_of(frame)))


def comparable(rows: list[tuple[Any, ...]], *, in_order: bool) -> list[tuple[str, ...]]:
    """Rows as texts: sums of doubles to 12 digits, for their order is nobody's; -0.0 is 0.0."""
    texts = [tuple(f"{value + 0.0:.12g}" if isinstance(value, float) else repr(value) for value in row) for row in rows]
    return texts if in_order else sorted(texts)


STATEMENTS = [
    "select split, value, k, rows from ads_model_metric where {here} order by metric, dt",
    "select metric from ads_model_metric where {here} and value > 0.1 order by metric",
    "select metric from ads_model_metric where {here} and value <= -3.5 order by metric",
    "select metric from ads_model_metric where {here} and not (value < 0.2) order by metric",
    "select metric from ads_model_metric where {here} and k is null or split is not null and {here} order by metric",
    "select metric from ads_model_metric where {here} and split in ('a', 'ä', '') order by metric",
    "select metric from ads_model_metric where {here} and split not in ('a', 'ä') order by metric",
    "select metric from ads_model_metric where {here} and split like 'a%' order by metric",
    "select metric from ads_model_metric where {here} and split like '%\\'c' order by metric",
    "select metric from ads_model_metric where {here} and (k is null or k = 5 and true) order by metric",
    "select distinct split from ads_model_metric where {here} order by split desc",
    "select split m, count(*), count(k) ks, count(distinct value) vs from ads_model_metric where {here} group by m order by m",
    "select split, min(value) lo, max(value) hi, avg(k) mean from ads_model_metric where {here} group by 1 order by 1 desc",
    "select split, sum(rows) n from ads_model_metric where {here} group by split having sum(rows) > 2 order by split",
    "select stage, count_if(value > 0) n, sum(case when k = 1 then 1 else 0 end) ones from ads_model_metric where {here} "
    "group by stage order by stage",
    "select split, max(split), coalesce(k, -1) k from ads_model_metric where {here} group by split, coalesce(k, -1) "
    "order by split, k",
    "select dt, sum(clicks) / sum(impressions + 1) ctr, if(sum(clicks) > 1, 'some', 'few') size from ads_ctr_daily "
    "where {here} group by dt order by dt",
    "select clicks / nullif(impressions, 0) x from ads_ctr_daily where {here} order by dt",
    "select -clicks - 2 * users + 1 as `x y` from ads_ctr_daily where {here} order by dt",
    "select c.dt, m.metric from ads_ctr_daily c join ads_model_metric m on m.dt = c.dt where c.{here} order by m.metric",
    "select m.metric, c.clicks from ads_model_metric m left join ads_ctr_daily c on c.dt = m.dt and c.clicks > 1 "
    "where m.{here} order by m.metric",
    "with days as (select dt, max(value) v from ads_model_metric where {here} group by dt) "
    "select d.dt, d.v, (select count(*) from ads_ctr_daily where {here}) n from days d order by d.dt",
    "select t.n from (select count(*) n from ads_model_metric where {here}) t where t.n > 1",
    "select dt from ads_ctr_daily c where {here} and exists (select metric from ads_model_metric m where m.dt = c.dt) order by dt",
    "select metric from ads_model_metric where {here} order by value desc, metric limit 7",
    "select metric from ads_model_metric where {here} order by k, metric limit 7 offset 3",
    "select max(value), sum(value), count(*) from ads_model_metric where dt = '2029-08-03'",
    "select * from ads_ctr_daily where {here} order by dt",
    "select clicks > 1 as many, not clicks > 1 as few from ads_ctr_daily where {here} order by dt",
    "select clicks as c, c + 1 as d from ads_ctr_daily where {here} order by dt",
    "select clicks + 1 as clicks from ads_ctr_daily where {here} and clicks > 1 order by dt",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_both_engines_answer_alike(spark: SparkSession, stored: dict[str, StoredTable], statement: str) -> None:
    text = statement.replace("c.{here}", HERE.replace("dt", "c.dt")).replace("m.{here}", HERE.replace("dt", "m.dt"))
    text = text.format(here=HERE)
    by_duckdb, by_spark = both(spark, stored, text)
    assert by_duckdb[0] == by_spark[0]
    in_order = "order by" in text
    assert comparable(by_duckdb[1], in_order=in_order) == comparable(by_spark[1], in_order=in_order)


def random_statements(rng: random.Random) -> Iterator[str]:
    numbers, texts = ("value", "k", "rows"), ("stage", "split", "metric")
    while True:
        keys = rng.sample(texts, rng.randrange(1, 3))
        terms = []
        for _ in range(rng.randrange(1, 4)):
            number, text = rng.choice(numbers), rng.choice(texts)
            terms.append(
                rng.choice([
                    f"{number} {rng.choice(['<', '<=', '=', '<>', '>', '>='])} {rng.choice(['0', '1', '-4', '0.1', '5'])}",
                    f"{number} between {rng.choice(['-1', '0'])} and {rng.choice(['1', '3', '0.2'])}",
                    f"{text} {rng.choice(['=', '<', '>=', '<>'])} '{rng.choice(['a', 'A', '', 'ä'])}'",
                    f"{text} is {rng.choice(['', 'not '])}null",
                    f"not {number} = {rng.choice(numbers)}",
                ])
            )  # fmt: skip
        condition = f" {rng.choice(['and', 'or'])} ".join(terms)
        measures = [
            f"{rng.choice(['min', 'max', 'sum', 'avg', 'count'])}({rng.choice(['k', 'rows'])}) as a{n}" for n in (1, 2)
        ]
        order = ", ".join(f"{key}{rng.choice(['', ' desc', ' asc nulls last', ' desc nulls first'])}" for key in keys)
        yield (
            f"select {', '.join([*keys, *measures])} from ads_model_metric where {HERE} and ({condition}) "
            f"group by {', '.join(keys)} order by {order}"
        )


def test_both_engines_answer_random_statements_alike(spark: SparkSession, stored: dict[str, StoredTable]) -> None:
    statements = random_statements(random.Random(11))
    for statement in (next(statements) for _ in range(25)):
        by_duckdb, by_spark = both(spark, stored, statement)
        assert comparable(by_duckdb[1], in_order=True) == comparable(by_spark[1], in_order=True), statement


@pytest.mark.parametrize(
    "statement",
    [
        "select 1 / clicks x from ads_ctr_daily where {here} and clicks = 0",
        "select rows + 9223372036854775807 x from ads_model_metric where {here}",
        "select sum(rows + 9223372036854775000) x from ads_model_metric where {here} and rows < 4",
    ],
)
def test_an_error_of_the_data_is_left_to_spark(stored: dict[str, StoredTable], statement: str) -> None:
    with pytest.raises(duckdb.Error):
        run_select(translate(statement.format(here=HERE), ALL), stored)


def test_a_table_that_no_stage_has_written_and_one_of_other_columns_are_spark_s(stored: dict[str, StoredTable]) -> None:
    select = translate("select ctr from ads_ctr_daily", ALL)
    with pytest.raises(OnlySparkError, match="no stage has written"):
        run_select(select, {})
    changed = StoredTable(stored["ads_ctr_daily"].columns[:-1], stored["ads_ctr_daily"].partitions)
    with pytest.raises(OnlySparkError, match="not those of this release"):
        run_select(select, {"ads_ctr_daily": changed})
