"""Files of other systems into the warehouse: `millrace ingest interactions`."""

import gzip
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from conf import Config, UserError
from etl.ingest import job
from etl.ingest.requests import LayoutOptions, examine_all
from etl.metastore import swaps
from etl.tables import dim, dwd, ods, ops
from etl.warehouse.store import Warehouse
from features.dataset.examples import from_interactions
from features.settings import FeatureSettings

HEADER = "user_id,item_id,value,timestamp\n"


@pytest.fixture
def warehouse(spark: SparkSession, config: Config) -> Warehouse:
    return Warehouse(spark, config)


@pytest.fixture
def ingest(spark: SparkSession, config: Config):  # type: ignore[no-untyped-def]
    def run(
        ratings: Path | Sequence[Path],
        *,
        items: Sequence[Path] = (),
        users: Sequence[Path] = (),
        action: str | None = None,
        replaces: bool = False,
        settings: dict[str, object] | None = None,
        **layout: object,
    ) -> list[int]:
        """In, out, invalid and quarantined rows of one command."""
        ratings = [ratings] if isinstance(ratings, Path) else ratings
        used = config.with_values(settings or {})
        files = {"ratings": ratings, "items": items, "users": users}
        groups = examine_all(used, files, LayoutOptions(**layout))  # type: ignore[arg-type]
        counts = job.run(spark, used, groups, job.IngestOptions(action=action, replaces=replaces))
        return [counts[f"rows_{name}"] for name in ("in", "out", "invalid", "quarantined")]  # type: ignore[misc]

    return run


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def at(day: date, second: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + second


def rows_of(warehouse: Warehouse, day: date) -> list[Row]:
    return warehouse.read(dwd.interaction, [day]).orderBy("acted_at", "item_id", "value").collect()


def refused(warehouse: Warehouse, day: date) -> dict[int, tuple[str, str | None]]:
    lines = warehouse.read(ods.quarantine, [day]).where("stage = 'ingest'").collect()
    return {row["line_number"]: (row["reason"], row["column_name"]) for row in lines}


def test_ratings_users_and_items_of_recbole_are_loaded(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 1, 3)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    second = at(day) + 3600
    lines = [f"1\t10\t5\t{second}", f"1\t11\t3\t{second}", f"1\t10\t5\t{second}", f"2\t10\tgood\t{second}", "2\t10\t4\tnever", "2\t10"]  # fmt: skip
    ratings = write(tmp_path / "r.inter", header + "\n".join(lines) + "\n")
    items = write(
        tmp_path / "r.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n10\tToy\t1995\tComedy Animation\n",
    )
    settings = {"site.timezone": "Europe/Berlin", "ingest.max_refused": 0.6}
    assert ingest(ratings, items=[items], format="recbole", settings=settings) == [7, 3, 0, 4]
    assert refused(warehouse, day) == {
        4: ("duplicate", None),
        5: ("bad_value", "rating"),
        6: ("bad_time", "timestamp"),
        7: ("missing_cells", None),
    }
    columns = ["item_id", "category", "categories", F.col("published_at").cast("double").alias("published_at")]
    items_loaded = warehouse.read(dim.item, [day]).where("item_id in ('10', '11')")
    loaded = {tuple(row) for row in items_loaded.select(*columns[:2]).collect()}
    assert loaded == {("10", "Comedy"), ("11", None)}
    item = warehouse.read(dim.item, [day]).where("item_id = '10'").select(*columns[2:]).collect()[0]
    # The year begins by the site's clock, an hour before UTC's.
    assert tuple(item) == (["Comedy", "Animation"], 788_918_400.0 - 3600)


def test_quotes_marks_and_lists_of_movielens_csv_are_read(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 1, 5)
    ratings = write(
        tmp_path / "ratings.csv", f'\ufeff"userId","movieId","rating","timestamp"\r\n"1","11","4.0","{at(day)}"\r\n'
    )
    movies = write(
        tmp_path / "movies.csv",
        'movieId,title,genres\r\n11,"American President, The (1995)",Comedy|Drama\r\n12,"Two\nlines",News & Magazines\r\n',
    )
    assert ingest(ratings, items=[movies]) == [3, 3, 0, 0]
    (row,) = rows_of(warehouse, day)
    assert (row["user_id"], row["item_id"], row["value"], row["action"]) == ("1", "11", 4.0, "rating")
    items = {row["item_id"]: row for row in warehouse.read(dim.item, [day]).collect()}
    assert (items["11"]["title"], items["11"]["categories"]) == ("American President, The (1995)", ["Comedy", "Drama"])
    assert (items["12"]["title"], items["12"]["category"]) == ("Two\nlines", "News & Magazines")


def test_files_add_up_and_the_same_rows_add_nothing(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day, eve = date(2028, 1, 11), date(2028, 1, 10)
    first = write(tmp_path / "a.csv", HEADER + f"1,a,3,{at(day)}\n1,b,4,{at(day)}\n2,e,1,{at(eve)}\n")
    second = write(tmp_path / "b.csv", HEADER + f"1,c,5,{at(day)}\n1,b,4,{at(day)}\n")
    assert ingest(first) == [3, 3, 0, 0]
    assert ingest(second) == [2, 1, 0, 1]
    assert refused(warehouse, day) == {3: ("duplicate", None)}
    # Again, packed, under another name, and beside a file that is new.
    again = tmp_path / "again.csv.gz"
    again.write_bytes(gzip.compress(first.read_bytes()))
    third = write(tmp_path / "c.csv", HEADER + f"1,d,5,{at(day)}\n")
    assert ingest([again, third]) == [4, 1, 3, 0]
    assert ingest([first, second, third]) == [6, 0, 6, 0]
    assert [row["item_id"] for row in rows_of(warehouse, day)] == ["a", "b", "c", "d"]
    watermarks = warehouse.read(ops.watermark, [day]).where("import_name like 'ingest %'")
    assert watermarks.count() == 3
    # A day that is replaced has the new file's rows alone, and takes the old ones again.
    assert ingest(third, replaces=True) == [1, 1, 0, 0]
    assert [row["item_id"] for row in rows_of(warehouse, day)] == ["d"]
    assert [row["item_id"] for row in rows_of(warehouse, eve)] == ["e"]
    assert ingest(first) == [3, 2, 1, 0]


def test_a_command_that_was_interrupted_while_its_tables_changed_adds_its_rows_once(  # type: ignore[no-untyped-def]
    ingest, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = date(2028, 3, 1)
    lines = [f"1,i1,5,{at(day)}", f"2,i1,4,{at(day, 1)}", "3,i1,4,never"]
    ratings = write(tmp_path / "r.csv", HEADER + "\n".join(lines) + "\n")
    point_to_new = swaps._point_to_new

    def lost_after_the_first_table(spark: SparkSession, planned: Sequence[swaps.Swap]) -> None:
        point_to_new(spark, [swap for swap in planned if swap.table == planned[0].table])
        raise ConnectionError("the metastore is gone")

    settings: dict[str, object] = {"ingest.max_refused": 0.5}
    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(swaps, "_point_to_new", lost_after_the_first_table)
        ingest(ratings, settings=settings)
    assert ingest(ratings, settings=settings) == [3, 0, 2, 1]  # the first thing that it does is to complete the other
    assert [(row["user_id"], row["value"]) for row in rows_of(warehouse, day)] == [("1", 5.0), ("2", 4.0)]
    assert refused(warehouse, day) == {4: ("bad_time", "timestamp")}
    assert {row["user_id"] for row in warehouse.read(dim.user, [day]).collect()} >= {"1", "2"}
    runs = warehouse.read(ops.run, [day]).orderBy("ended_at").collect()
    assert [row["status"] for row in runs] == ["failed", "interrupted", "done"]


def test_rows_that_differ_in_anything_are_all_kept(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 1, 17)
    lines = [
        *(f"1,2,{value},{at(day)},sunny" for value in (5, 4, 3)),
        f"1,2,5,{at(day)},rainy",
        f"1,2,5,{at(day)},",
        f"a-b,c,1,{at(day)},",
        f"a,b-c,1,{at(day)},",
        f" 7 ,8,2.5,{at(day)},",
        f"9999999999999999999999,8,2.5,{at(day, 1)},",
    ]
    ratings = write(tmp_path / "r.csv", HEADER.replace("\n", ",weather\n") + "\n".join(lines) + "\n")
    assert ingest(ratings) == [9, 9, 0, 0]
    rows = rows_of(warehouse, day)
    assert {(row["user_id"], row["item_id"]) for row in rows} >= {
        ("a-b", "c"),
        ("a", "b-c"),
        ("7", "8"),
        ("9" * 22, "8"),
    }
    contexts = [row["context"] for row in rows if row["value"] == 5.0]
    assert sorted(contexts, key=str) == [None, {"weather": "rainy"}, {"weather": "sunny"}]


def test_each_refused_row_has_its_reason_and_column(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 1, 24)
    faults = {
        f"1,3,NaN,{at(day)}": ("bad_value", "value"),
        f"1,3,1e999,{at(day)}": ("bad_value", "value"),
        f"1,3,1d,{at(day)}": ("bad_value", "value"),
        f"1,3,1,{at(day)}000": ("bad_time", "timestamp"),  # milliseconds
        "1,3,1,-1": ("bad_time", "timestamp"),
        "1,3,1,2200-01-01": ("bad_time", "timestamp"),
        f" ,3,1,{at(day)}": ("missing_field", "user_id"),
        f"NULL,3,1,{at(day)}": ("missing_field", "user_id"),
        f"1,2.10381E+18,1,{at(day)}": ("damaged_id", "item_id"),
        f"1,3,1,{at(day)},more": ("extra_cells", None),
        "1,3": ("missing_cells", None),
        f'1,"3,1,{at(day)}': ("bad_quotes", None),
        f"1,\ufffd\ufffd,1,{at(day)}": ("invalid_utf8", None),
    }
    text = HEADER + "".join(f"{n},x,1,{at(day)}\n" for n in range(10)) + "\n".join(faults) + "\n"
    ratings = tmp_path / "r.csv"
    ratings.write_bytes(text.encode().replace("\ufffd\ufffd".encode(), b"\xff\xfe"))
    assert ingest(ratings, settings={"ingest.max_refused": 0.6}, encoding="utf-8") == [23, 10, 0, 13]
    assert refused(warehouse, day) == dict(enumerate(faults.values(), start=12))


def test_too_many_refused_rows_stop_the_command_with_the_commonest_reasons(  # type: ignore[no-untyped-def]
    ingest, warehouse: Warehouse, tmp_path: Path
) -> None:
    day = date(2028, 2, 1)
    lines = [f"{n},x,{'n/a' if n % 5 == 0 else 3},{'?' if n == 3 else at(day)}\n" for n in range(100)]
    ratings = write(tmp_path / "r.csv", HEADER + "".join(lines))
    with pytest.raises(UserError) as error:
        ingest(ratings)
    assert str(error.value) == (
        "21 of 100 rows can't be read, more than 5% (ingest.max_refused); nothing was changed. "
        f"20 × bad_value in value, as r.csv:2: '0,x,n/a,{at(day)}'; 1 × bad_time in timestamp, as r.csv:5: '3,x,3,?'"
    )
    assert not warehouse.has_partition(dwd.interaction, day)
    assert ingest(ratings, settings={"ingest.max_refused": 0.25}) == [100, 79, 0, 21]


def test_a_command_with_a_bad_users_file_changes_nothing(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 2, 7)
    ratings, users = write(tmp_path / "r.csv", HEADER + f"1,2,3,{at(day)}\n"), tmp_path / "users.csv.gz"
    whole = gzip.compress(("user_id,age\n" + "".join(f"{n},{n % 90}\n" for n in range(200_000))).encode())
    users.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(UserError, match=r"users.csv.gz: it is corrupt or cut off"):
        ingest(ratings, users=[users])
    for table in (dwd.interaction, dim.user, ops.watermark):
        assert not warehouse.has_partition(table, day)
    assert warehouse.read(ods.quarantine, [day]).count() == 0


def test_files_without_ratings_are_choices_and_own_actions_are_kept(  # type: ignore[no-untyped-def]
    ingest, warehouse: Warehouse, tmp_path: Path
) -> None:
    days = [date(2028, 2, 14 + n) for n in range(4)]
    plays = write(tmp_path / "plays.dat", f"userID\tartistID\tweight\ttime\n1\t2\t352698\t{at(days[0])}\n")
    bare = write(tmp_path / "bare.csv", f"user,item,ts\n1,2,{at(days[1])}\n")
    shop = write(
        tmp_path / "shop.csv",
        "event_time,event_type,product_id,user_id\n2028-02-16 00:00:00 UTC,add to cart,2,1\n2028-02-16 00:00:00 UTC,view,2,1\n",
    )
    orders = write(tmp_path / "orders.csv", "InvoiceDate,StockCode,CustomerID\n17/2/2028 8:26,85123A,17850\n")
    ingest([plays, bare, shop])
    ingest(orders, action="purchase")
    actions = [[(row["action"], row["value"]) for row in rows_of(warehouse, day)] for day in days]
    assert actions[:2] == [[("click", 352698.0)], [("click", 1.0)]]
    assert sorted(actions[2]) == [("add to cart", 1.0), ("view", 1.0)]
    assert actions[3] == [("purchase", 1.0)]
    examples = from_interactions(warehouse.read(dwd.interaction, days), FeatureSettings())
    assert examples.where("label = 1").count() == 5


def test_users_and_items_are_there_from_the_first_day_on_and_stay(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, middle, last = date(2028, 3, 1), date(2028, 3, 5), date(2028, 3, 9)
    users = write(tmp_path / "users.csv", "user_id,sex,age,plan\nguest1,F,30,pro\n")
    early = write(tmp_path / "early.csv", HEADER + f"guest1,a,3,{at(first)}\nguest2,a,3,{at(middle)}\n")
    late = write(tmp_path / "late.csv", HEADER + f"guest3,b,3,{at(last)}\n")
    ingest(late)
    ingest(early, users=[users])
    ingest(late, replaces=True)
    snapshots = {day: warehouse.newest_snapshot(dim.user, day) for day in (first, middle, last)}
    ids = {
        day: sorted(row["user_id"] for row in rows.collect() if row["user_id"].startswith("guest"))
        for day, rows in snapshots.items()
    }
    assert ids == {first: ["guest1", "guest2"], middle: ["guest1", "guest2"], last: ["guest1", "guest2", "guest3"]}
    for rows in snapshots.values():
        user = rows.where("user_id = 'guest1'").collect()[0]
        assert (user["gender"], user["age_group"], user["attributes"]) == ("F", "25-34", {"age": "30", "plan": "pro"})


def test_rows_without_times_are_of_a_day_that_is_named(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 3, 14)
    pairs = write(tmp_path / "pairs.txt", "1 5\n1 4\n1 5\n2 9\n")
    headers = {"ratings": "user_id,item_id"}
    with pytest.raises(UserError, match="no column timestamp"):
        ingest(pairs, headers=headers)
    settings = {"site.timezone": "Asia/Shanghai", "ingest.max_refused": 1}
    assert ingest(pairs, headers=headers, day="2028-03-14", is_time_order=True, settings=settings) == [4, 4, 0, 0]
    rows = [(row["user_id"], row["item_id"], row["acted_at"]) for row in rows_of(warehouse, day)]
    midnight = datetime(2028, 3, 13, 16)
    milliseconds = [(moment - midnight).total_seconds() * 1000 for _, _, moment in rows]
    assert [row[:2] for row in rows] == [("1", "5"), ("1", "4"), ("1", "5"), ("2", "9")]
    assert milliseconds == [1, 2, 3, 4]
    named = [write(tmp_path / f"sales_2028031{n}.csv", f"user,item\n{n},1\n") for n in (6, 7)]
    assert ingest(named, day="name") == [2, 2, 0, 0]
    assert [rows_of(warehouse, date(2028, 3, n))[0]["user_id"] for n in (16, 17)] == ["6", "7"]


def test_files_of_movielens_1m_have_their_own_columns(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 3, 20)
    texts = {
        "ratings": f"1::10::5::{at(day)}",
        "items": "10::Misérables, Les (1995)::Action|Crime",
        "users": "1::F::30::7::55117",
    }
    files = {name: [write(tmp_path / f"{name}.dat", text + "\n", "latin-1")] for name, text in texts.items()}
    assert ingest(files["ratings"], items=files["items"], users=files["users"], format="movielens") == [3, 3, 0, 0]
    item = warehouse.read(dim.item, [day]).where("item_id = '10'").collect()[0]
    user = warehouse.read(dim.user, [day]).where("user_id = '1'").collect()[0]
    assert (item["title"], item["category"]) == ("Misérables, Les (1995)", "Action")
    assert (user["gender"], user["age_group"], user["attributes"]["occupation"]) == ("F", "25-34", "7")


def test_dates_of_items_that_cannot_be_read_stay_as_text(ingest, warehouse: Warehouse, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 3, 22)
    ratings = write(tmp_path / "r.csv", HEADER + f"1,a,3,{at(day)}\n")
    items = write(tmp_path / "items.csv", "item_id,release_date\na,2020-01-01\nb,2021-05-05\nc,soon\n")
    assert ingest(ratings, items=[items]) == [4, 4, 0, 0]
    rows = {row["item_id"]: row for row in warehouse.read(dim.item, [day]).collect()}
    assert (rows["a"]["published_at"], rows["a"]["attributes"]) == (datetime(2020, 1, 1), None)
    assert (rows["c"]["published_at"], rows["c"]["attributes"]) == (None, {"release_date": "soon"})


@pytest.mark.wide
def test_public_data_sets_are_read_whole(ingest, warehouse: Warehouse, real_data: Path) -> None:  # type: ignore[no-untyped-def]
    day = date(2028, 4, 3)
    named = {"day": str(day), "replaces": True}
    frappe = real_data / "frappe"
    counts = ingest([frappe / "frappe.csv"], items=[frappe / "meta.csv"], **named)
    assert counts[0] == 96_203 + 4_082
    first = rows_of(warehouse, day)[0]
    assert set(first["context"]) == {
        "daytime",
        "weekday",
        "isweekend",
        "homework",
        "cost",
        "weather",
        "country",
        "city",
    }
    artists = real_data / "lastfm-hetrec"
    assert ingest([artists / "user_artists.dat.gz"], items=[artists / "artists.dat.gz"], **named) == [
        110_466,
        110_466,
        0,
        0,
    ]
    books = real_data / "book-crossing"
    counts = ingest([books / "BX-Book-Ratings.csv.gz"], users=[books / "BX-Users.csv.gz"], **named)
    assert counts == [199_997, 199_843, 0, 154]  # 152 ids that a spreadsheet rounded, 2 rows twice
    assert ingest([books / "BX-Book-Ratings.mac-cr.csv.gz"], **named)[0] == 9_005  # and a header
    campaign = real_data / "open-bandit/random/men"
    counts = ingest(
        [campaign / "men.csv.gz"],
        items=[campaign / "item_context.csv"],
        columns={"ratings": ["column_1=user_id"]},
        action="view",
    )
    assert counts[0] == 10_000 + 34
    shop = real_data / "rees46-sample"
    assert ingest([shop / "2019-Oct.csv", shop / "2019-Nov.csv"]) == [44, 44, 0, 0]
    retail = sorted((real_data / "online-retail/by-day").glob("2010-12-0[1-3].csv"))
    settings = {"ingest.max_refused": 0.4}
    assert ingest(retail, action="purchase", settings=settings) == [
        7_419,
        5_027,
        0,
        2_392,
    ]  # 2,290 without a customer, 102 rows twice
    news = real_data / "mind-news/news.tsv.gz"
    titles = "item_id,category,subcategory,title,abstract,url,title_entities,abstract_entities"
    assert ingest([real_data / "ml-100k/ml-100k.inter"], items=[news], headers={"items": titles}) == [
        102_000,
        102_000,
        0,
        0,
    ]
