"""Imports and exports against a real PostgreSQL that the tests start, and the embedded Derby."""

import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from engines.postgres import Postgres, postgres_server
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from conf.site import SiteError, load_site
from etl.ingest.sites import job as site_job
from etl.relational import exports, imports
from etl.relational.connection import connect
from etl.relational.database import find_database
from etl.tables import ads, dim, dwd, ops
from etl.warehouse.store import Warehouse

DAYS = [date(2026, 5, day) for day in range(1, 6)]
DRIVER = Path("/usr/share/java/postgresql.jar")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def shop(config: Config, postgres: Postgres) -> Config:
    return config.with_values(
        {"relational.databases.shop": {"url": postgres.url, "user": "shop", "password": "secret"}}
    )


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


def importing(shop: Config, name: str, **entry: object) -> Config:
    return shop.with_values({f"relational.imports.{name}": {"database": "shop", **entry}})


def test_a_table_comes_whole_with_types_comments_and_several_connections(
    spark: SparkSession, shop: Config, postgres: Postgres
) -> None:
    """W11: whole table, `where`, split by a column, schema with comments."""
    postgres.sql(
        "create table goods (id bigint primary key, title text, price numeric(10,2), born date, seen timestamp, ok boolean);"
        "comment on column goods.price is 'in euros';"
        "insert into goods select i, 'no. ' || i, i / 4.0, date '2026-01-01' + i % 9, timestamp '2026-01-01 10:00:00.25', i % 2 = 0"
        " from generate_series(1, 1000) i;"
    )
    config = importing(shop, "goods", table="public.goods", split_by="id", connections=3, where="id > 200")
    assert imports.run(spark, config, DAYS[0], ["goods"])["rows_out"] == 800
    found = spark.table("ods_goods")
    assert [f"{f.name} {f.dataType.simpleString()}" for f in found.schema.fields] == [
        "id bigint",
        "title string",
        "price decimal(10,2)",
        "born date",
        "seen timestamp",
        "ok boolean",
        "dt string",
    ]
    assert {c.name: c.description for c in spark.catalog.listColumns("ods_goods")}["price"] == "in euros"
    row = found.where("id = 333").collect()[0]
    assert (row["title"], str(row["price"]), str(row["born"]), row["seen"].microsecond, row["ok"]) == (
        "no. 333",
        "83.25",
        "2026-01-01",
        250000,
        False,
    )
    assert found.agg(F.min("id"), F.max("id"), F.count_distinct("id")).collect()[0][:] == (201, 1000, 800)
    assert imports.run(spark, config, DAYS[0], ["goods"])["rows_out"] == 800
    assert spark.table("ods_goods").count() == 800


def test_added_rows_come_once_each_and_a_day_again_gives_the_same(
    spark: SparkSession, shop: Config, postgres: Postgres, warehouse: Warehouse
) -> None:
    postgres.sql(
        "create table orders (id int primary key, note text); insert into orders select i, 'a' from generate_series(1, 10) i"
    )
    config = importing(shop, "orders", table="orders", mode="append", check_column="ID")
    run = lambda day: imports.run(spark, config, day, ["orders"])["rows_out"]  # noqa: E731
    assert run(DAYS[0]) == 10
    assert run(DAYS[1]) == 0
    postgres.sql("insert into orders values (11, 'b'), (12, 'c')")
    assert run(DAYS[1]) == 2
    postgres.sql("insert into orders values (13, 'd')")
    assert run(DAYS[1]) == 3  # the day is not over: its partition grows
    assert run(DAYS[2]) == 0
    postgres.sql("insert into orders values (14, 'e')")
    assert run(DAYS[3]) == 1
    assert [run(day) for day in DAYS[:4]] == [10, 3, 0, 1]  # past days as they were
    assert sorted(row["id"] for row in spark.table("ods_orders").collect()) == list(range(1, 15))
    marks = {
        row["dt"]: row["last_value"] for row in warehouse.read(ops.watermark).where("import_name = 'orders'").collect()
    }
    assert [marks[day.isoformat()] for day in DAYS[:4]] == ["10", "13", "13", "14"]


def test_a_kill_between_partition_and_watermark_repeats_nothing(
    spark: SparkSession, shop: Config, postgres: Postgres, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.sql(
        "create table visits (at timestamp, n int); insert into visits values ('2026-05-01 10:00:00.123456', 1)"
    )
    config = importing(shop, "visits", table="visits", mode="append", check_column="at")
    with monkeypatch.context() as killed:
        killed.setattr(
            "etl.relational.watermark.Watermarks.advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            imports.run(spark, config, DAYS[0], ["visits"])
    postgres.sql("insert into visits values ('2026-05-02 10:00:00', 2)")
    assert imports.run(spark, config, DAYS[1], ["visits"])["rows_out"] == 1
    assert sorted((row["n"], row["dt"]) for row in spark.table("ods_visits").collect()) == [
        (1, "2026-05-01"),
        (2, "2026-05-02"),
    ]


def test_changed_rows_are_merged_by_key_and_time(spark: SparkSession, shop: Config, postgres: Postgres) -> None:
    postgres.sql(
        "create table prices (sku text primary key, price int, changed timestamp);"
        "insert into prices values ('a', 1, '2026-05-01 01:00'), ('b', 1, '2026-05-01 02:00')"
    )
    config = importing(shop, "prices", table="prices", mode="merge", check_column="changed", key=["sku"])
    imports.run(spark, config, DAYS[0], ["prices"])
    postgres.sql(
        "update prices set price = 2, changed = '2026-05-02 01:00' where sku = 'b'; insert into prices values ('c', 3, '2026-05-02 02:00')"
    )
    for _ in range(2):
        assert imports.run(spark, config, DAYS[1], ["prices"])["rows_out"] == 3
    state = lambda day: {r["sku"]: r["price"] for r in spark.table("ods_prices").where(F.col("dt") == day).collect()}  # noqa: E731
    assert state("2026-05-01") == {"a": 1, "b": 1}
    assert state("2026-05-02") == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("change", "entry", "message"),
    [
        ({"password": "not-this-one"}, {"table": "goods"}, "password authentication failed for user"),
        ({"url": "jdbc:postgresql://127.0.0.1:1/x"}, {"table": "goods"}, "Connection to 127.0.0.1:1 refused"),
        ({"url": "jdbc:oracle:thin:@x"}, {"table": "goods"}, "no JDBC driver for it"),
        ({}, {"table": "nothing"}, "no table nothing in jdbc:postgresql"),
        ({}, {"table": "wide"}, "cannot be represented as Decimal(38, 18); read the column as another type"),
        ({}, {"table": "wide", "where": "no_such_column = 1"}, 'column "no_such_column" does not exist'),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line(
    spark: SparkSession, shop: Config, postgres: Postgres, change: dict[str, str], entry: dict[str, str], message: str
) -> None:
    postgres.sql(
        "create table if not exists wide (n numeric); delete from wide; insert into wide values (1e37), ('NaN')"
    )
    config = importing(shop, "bad", **entry)
    config = config.with_values({f"relational.databases.shop.{key}": value for key, value in change.items()})
    with pytest.raises(UserError) as refused:
        imports.run(spark, config, DAYS[0], ["bad"])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_connection_that_is_cut_leaves_the_old_partition(
    spark: SparkSession, shop: Config, postgres: Postgres
) -> None:
    postgres.sql("create table steady (n int); insert into steady values (1)")
    assert imports.run(spark, importing(shop, "steady", table="steady"), DAYS[0], ["steady"])["rows_out"] == 1
    postgres.sql("insert into steady select i from generate_series(1, 2000) i")
    slow = importing(shop, "steady", table="steady", where="pg_sleep(0.01) is not null")

    def cut() -> None:
        for _ in range(200):
            ended = postgres.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(0.01)%' and state = 'active'"
                " and pid <> pg_backend_pid() and query not like '%1 = 0%' and now() - query_start > interval '1 second'"
            )
            if "t" in ended:
                return
            time.sleep(0.1)

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(UserError, match="import steady from jdbc:postgresql"):
        imports.run(spark, slow, DAYS[0], ["steady"])
    cutter.join(timeout=60)
    assert spark.table("ods_steady").count() == 1


# --- exports ---


def pv_rows(spark: SparkSession, warehouse: Warehouse, day: date, pvs: dict[str, int]) -> None:
    value = ads.pv_hourly.partition_value(day)
    rows = [(value[4:6], value[6:], hour, count, 0, value) for hour, count in pvs.items()]
    schema = "month string, day string, hour string, pvs long, pvs_human long, datestr string"
    warehouse.write(ads.pv_hourly, spark.createDataFrame(rows, schema), [day])


def exporting(shop: Config, **entry: object) -> Config:
    return shop.with_values({"relational.exports.pv": {"table": "ads_pv_hourly", "database": "shop", **entry}})


def test_a_day_is_appended_once(spark: SparkSession, shop: Config, postgres: Postgres, warehouse: Warehouse) -> None:
    postgres.sql(
        "create schema mart; create table mart.pv (datestr text, hour int, pvs bigint, month text, day text, pvs_human bigint)"
    )
    pv_rows(spark, warehouse, DAYS[0], {"01": 5, "02": 7})
    config = exporting(shop, to="mart.pv")
    assert exports.run(spark, config, ["pv"], DAYS[0])["rows_out"] == 2
    assert exports.run(spark, config, ["pv"], DAYS[0])["rows_out"] == 0
    assert postgres.sql("select * from mart.pv order by hour") == ["20260501|1|5|05|01|0", "20260501|2|7|05|01|0"]
    assert exports.run(spark, config, ["pv"], DAYS[0], run_id="again")["rows_out"] == 2
    assert postgres.sql("select count(*) from mart.pv") == ["4"]
    assert postgres.sql(
        "select count(*) from pg_tables where tablename like 'millrace_%' and tablename <> 'millrace_export'"
    ) == ["0"]


def test_keys_are_updated_or_inserted(
    spark: SparkSession, shop: Config, postgres: Postgres, warehouse: Warehouse
) -> None:
    postgres.sql(
        "create table pv_keyed (day text, hour text, pvs bigint, kept text default 'mine', primary key (day, hour))"
    )
    config = exporting(shop, to="pv_keyed", mode="upsert", key=["day", "hour"], columns=["day", "hour", "pvs"])
    pv_rows(spark, warehouse, DAYS[1], {"01": 5, "02": 7})
    assert exports.run(spark, config, ["pv"], DAYS[1])["rows_out"] == 2
    postgres.sql("update pv_keyed set kept = 'theirs' where hour = '01'")
    pv_rows(spark, warehouse, DAYS[1], {"01": 6, "03": 1})
    assert exports.run(spark, config, ["pv"], DAYS[1])["rows_out"] == 2
    assert postgres.sql("select * from pv_keyed order by hour") == ["02|01|6|theirs", "02|02|7|mine", "02|03|1|mine"]


def test_an_export_that_fails_leaves_the_target_as_it_was(
    spark: SparkSession, shop: Config, postgres: Postgres, warehouse: Warehouse
) -> None:
    pv_rows(spark, warehouse, DAYS[2], {"01": 5, "02": 70000})
    postgres.sql("create table narrow (hour text, pvs smallint); insert into narrow values ('x', 1)")
    narrow = {"to": "narrow", "columns": ["hour", "pvs"]}
    with pytest.raises(UserError, match=r"narrow was left as it was: .*out of range"):
        exports.run(spark, exporting(shop, **narrow), ["pv"], DAYS[2])
    with pytest.raises(UserError, match=r"narrow was left as it was: .*no unique or exclusion constraint"):
        pv_rows(spark, warehouse, DAYS[2], {"01": 5})
        exports.run(spark, exporting(shop, **narrow, mode="upsert", key=["hour"]), ["pv"], DAYS[2])
    with pytest.raises(UserError, match="no table missing in"):
        exports.run(spark, exporting(shop, to="missing"), ["pv"], DAYS[2])
    with pytest.raises(UserError, match="narrow has no column month, day, pvs_human; it has hour, pvs"):
        exports.run(spark, exporting(shop, to="narrow"), ["pv"], DAYS[2])
    with pytest.raises(UserError, match="ads_pv_hourly has no partition of 2031-01-01"):
        exports.run(spark, exporting(shop, to="narrow"), ["pv"], date(2031, 1, 1))
    assert postgres.sql("select * from narrow") == ["x|1"]
    assert postgres.sql(
        "select count(*) from pg_tables where tablename like 'millrace_%' and tablename <> 'millrace_export'"
    ) == ["0"]


def test_derby_takes_appends_and_upserts(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path
) -> None:
    config = config.with_values({"relational.databases.shop": {"url": f"jdbc:derby:{tmp_path}/db;create=true"}})
    with connect(spark, find_database(config, "shop")) as connection:
        connection.execute('create table pv ("HOUR" varchar(2) primary key, pvs bigint)')
        connection.commit()
    pv_rows(spark, warehouse, DAYS[3], {"01": 5, "02": 7})
    columns = ["hour", "pvs"]
    assert exports.run(spark, exporting(config, to="pv", columns=columns), ["pv"], DAYS[3])["rows_out"] == 2
    pv_rows(spark, warehouse, DAYS[3], {"02": 8, "03": 1})
    assert (
        exports.run(spark, exporting(config, to="pv", columns=columns, mode="upsert", key=["hour"]), ["pv"], DAYS[3])[
            "rows_out"
        ]
        == 2
    )
    with pytest.raises(UserError, match="pv was left as it was"):
        exports.run(spark, exporting(config, to="pv", columns=columns), ["pv"], DAYS[3], run_id="doubles keys")
    with connect(spark, find_database(config, "shop")) as connection:
        assert connection.query('select "HOUR", pvs from pv order by 1') == [("01", 5), ("02", 8), ("03", 1)]


@pytest.mark.parametrize(
    ("delimiter", "lines"),
    [
        (",", ['"a,""b"" ",\'x\\1', ",z"]),
        ("\x01", ['a,"b" \x01\'x\\\\1', "\\N\x01z"]),
    ],
)
def test_text_files_are_delimited_and_escaped(
    spark: SparkSession, config: Config, warehouse: Warehouse, tmp_path: Path, delimiter: str, lines: list[str]
) -> None:
    day = DAYS[4]
    rows = spark.createDataFrame(
        [('a,"b" ', "'x\\1", None, None, "2026-05-05"), (None, "z", None, None, "2026-05-05")],
        "gender string, user_id string, age_group string, city string, dt string",
    )
    warehouse.write(dim.user, rows.withColumn("registered_at", F.lit(None)), [day])
    entry = {
        "table": "dim_user",
        "path": str(tmp_path / "out"),
        "delimiter": delimiter,
        "columns": ["gender", "user_id"],
    }
    config = config.with_values({"relational.exports.pv": entry})
    for _ in range(2):
        assert exports.run(spark, config, ["pv"], day)["rows_out"] == 2
    files = (tmp_path / "out/dt=2026-05-05").glob("part-*")
    assert sorted(line for file in files for line in file.read_text().splitlines()) == sorted(lines)
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["dt=2026-05-05"]


def test_a_database_is_a_source_of_a_site(
    spark: SparkSession, shop: Config, postgres: Postgres, warehouse: Warehouse, tmp_path: Path
) -> None:
    postgres.sql(
        "create table sold (buyer int, sku text, at timestamp, paid numeric(10,2), channel text);"
        "insert into sold values (1, 'a', '2029-05-13 08:00:00', 9.5, 'web'), (2, 'b', '2029-05-13 09:00:00', 3, null),"
        " (1, 'b', '2029-05-14 09:00:00', 3, 'app')"
    )
    file = tmp_path / "site.py"
    file.write_text(
        "from conf.site import *\n"
        "SITE = Site('sold', actions=[Action('order', Query(\"select * from sold where at::date = '{date}'\", database='shop'),"
        " user='buyer', item='sku', at='at', value='paid', columns={'channel': Category()})])\n"
    )
    day = date(2029, 5, 13)
    counts = site_job.load_queried(spark, shop, load_site(file), day, replaces=False)
    assert [counts[f"rows_{name}"] for name in ("in", "out")] == [2, 2]
    rows = warehouse.read(dwd.interaction, [day]).orderBy("user_id").collect()
    assert [(row["user_id"], row["item_id"], row["value"], row["context"], row["acted_at"].hour) for row in rows] == [
        ("1", "a", 9.5, {"channel": "web"}, 8),
        ("2", "b", 3.0, None, 9),
    ]
    # The password is in no message.
    file.with_name("other.py").write_text(file.read_text().replace("from sold", "from gone"))
    with pytest.raises(SiteError, match=r"other.py:2: .*gone") as error:
        site_job.load_queried(spark, shop, load_site(file.with_name("other.py")), day, replaces=False)
    assert "secret" not in str(error.value)
