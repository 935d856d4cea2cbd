"""What a site's files say was shown -> dwd_impression, row by row or list by list; tables as sources."""

import gzip
import json
from datetime import date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths
from conf.site import SiteError, load_site
from conf.site.loading import site_file
from etl.events import job as events
from etl.ingest.sites import job as site_job
from etl.ingest.sites.queries import query_files
from etl.tables import dim, dwd, ods
from etl.warehouse.store import Warehouse

DAY = date(2029, 5, 7)
ROWS = """SITE = Site("rows", impressions=Impressions(
    Files("rows.csv"), user="who", item="what", clicked="label", at="when", position="place", request="list",
    columns={"mood": Category()}))"""
LISTS = """SITE = Site("lists", impressions=Impressions(
    Files("lists.tsv", separator="tab", header=("list", "who", "when", "shown"), quote="none"),
    user="who", item="shown", separator=" ", at="when", request="list"))"""


def load(spark: SparkSession, config: Config, folder: Path, declared: str, text: str) -> list[int]:
    """In, out, invalid and quarantined rows."""
    folder.mkdir(exist_ok=True)
    file = folder / "site.py"
    file.write_text(f"from conf.site import *\n{declared}\n")
    name = "rows.csv" if "rows.csv" in declared else "lists.tsv"
    (folder / name).write_text(text)
    config = config.with_values({"ingest.max_refused": 0.9})
    site = load_site(file)
    groups = site_job.examine_site(config, site, folder, None)
    counts = site_job.run(spark, config, site, groups, replaces=False)
    return [int(str(counts[f"rows_{name}"])) for name in ("in", "out", "invalid", "quarantined")]


def test_rows_become_impressions_with_their_context(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    head = "when,who,what,place,list,mood,label\n"
    good = [
        f"{DAY}T08:00:00,u1,a,1,L1,sunny,1",
        f"{DAY}T08:00:00,u1,b,2,L1,sunny,",
        f"{DAY}T09:00:00,u2,a,1,L2,,TRUE",
        f"{DAY}T09:00:00,u2,b,2,L2,,-1",
        f"{DAY}T09:00:00,u2,b,2,L2,wet,-1",  # the same, but for its context
    ]
    bad = [
        f"{DAY}T10:00:00,u3,a,1,L3,,maybe",
        f"{DAY}T10:00:00,u3,a,0,L3,,1",
        f"{DAY}T10:00:00,u3,,1,L3,,1",
        f"{DAY}T10:00:00,2.1E+18,a,1,L3,,1",
        good[0],
    ]
    text = head + "\n".join(good + bad) + "\n"
    assert load(spark, config, tmp_path / "one", ROWS, text) == [10, 5, 0, 5]
    warehouse = Warehouse(spark, config)
    rows = warehouse.read(dwd.impression, [DAY]).orderBy("shown_at", "position", F.to_json("context")).collect()
    assert [
        (r["request_id"], r["user_id"], r["item_id"], r["position"], r["is_clicked"], r["context"]) for r in rows
    ] == [
        ("L1", "u1", "a", 1, 1, {"mood": "sunny"}),
        ("L1", "u1", "b", 2, 0, {"mood": "sunny"}),
        ("L2", "u2", "a", 1, 1, None),
        ("L2", "u2", "b", 2, 0, None),
        ("L2", "u2", "b", 2, 0, {"mood": "wet"}),
    ]
    assert rows[0]["shown_at"] == datetime(2029, 5, 7, 8)
    refused = warehouse.read(ods.quarantine, [DAY]).where("stage = 'ingest'").orderBy("line_number").collect()
    assert [(row["line_number"], row["reason"], row["column_name"]) for row in refused] == [
        (7, "bad_label", "label"),
        (8, "bad_position", "place"),
        (9, "missing_field", "what"),
        (10, "damaged_id", "who"),
        (11, "duplicate", None),
    ]
    # Ids that only the impressions have are users and items, too.
    assert {row["user_id"] for row in warehouse.read(dim.user, [DAY]).collect()} >= {"u1", "u2"}
    # The same file again adds nothing; a file with one more row adds that row.
    assert load(spark, config, tmp_path / "one", ROWS, text) == [10, 0, 6, 4]
    more = head + f"{DAY}T11:00:00,u1,c,1,L4,,0\n"
    assert load(spark, config, tmp_path / "two", ROWS, more) == [1, 1, 0, 0]
    assert warehouse.read(dwd.impression, [DAY]).count() == 6


def test_a_propensity_is_kept_and_refused_outside_of_0_to_1(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    day = date(2029, 5, 8)
    propensities = ["0.25", "1", "", "0", "1.5", "often"]
    lines = [f"{day}T08:00:0{n},u1,a,1,L{n},,1,{text}" for n, text in enumerate(propensities)]
    text = "when,who,what,place,list,mood,label,shown_with\n" + "\n".join(lines) + "\n"
    declared = ROWS.replace('Site("rows"', 'Site("logged"').replace('at="when"', 'at="when", propensity="shown_with"')
    assert load(spark, config, tmp_path / "logged", declared, text) == [6, 3, 0, 3]
    warehouse = Warehouse(spark, config)
    rows = warehouse.read(dwd.impression, [day]).orderBy("shown_at").collect()
    assert [row["propensity"] for row in rows] == [0.25, 1.0, None]
    refused = warehouse.read(ods.quarantine, [day]).where("stage = 'ingest'").orderBy("line_number").collect()
    assert [(r["line_number"], r["reason"], r["column_name"]) for r in refused] == [
        (number, "bad_propensity", "shown_with") for number in (5, 6, 7)
    ]


def test_a_list_in_a_cell_is_an_impression_for_each_item(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    day = date(2029, 5, 9)
    lines = [
        f"1\tu1\t{day} 08:00:00\tN-1-0 N2-1  N3-0",
        f"2\tu2\t{day} 09:00:00\t",
        f"3\tu2\t{day} 09:00:00\tN2-1 N4 N5-x",
    ]
    # Of the empty list a row is refused, of the third one the items without a label.
    assert load(spark, config, tmp_path / "lists", LISTS, "\n".join(lines) + "\n") == [7, 4, 0, 3]
    rows = Warehouse(spark, config).read(dwd.impression, [day]).orderBy("request_id", "position").collect()
    assert [(r["request_id"], r["user_id"], r["item_id"], r["position"], r["is_clicked"]) for r in rows] == [
        ("1", "u1", "N-1", 1, 0),
        ("1", "u1", "N2", 2, 1),
        ("1", "u1", "N3", 3, 0),
        ("3", "u2", "N2", 1, 1),
    ]


def test_the_chosen_items_of_a_list_stand_in_a_cell_of_their_own(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    day = date(2029, 5, 19)
    declared = (
        LISTS.replace('Site("lists"', 'Site("chosen"')
        .replace('"shown")', '"shown", "taken")')
        .replace('at="when"', 'at="when", chosen="taken"')
    )
    lines = [
        f"1\tu1\t{day} 08:00:00\tN1-0 N2 N3\tN3 N2",
        f"2\tu1\t{day} 09:00:00\tN1-0 N2\t",
        f"3\tu1\t{day} 10:00:00\t\tN1",
        # As JSON has lists.
        f'4\tu1\t{day} 11:00:00\t["N 1", "N2"]\t["N 1"]',
    ]
    assert load(spark, config, tmp_path / "chosen", declared, "\n".join(lines) + "\n") == [8, 7, 0, 1]
    rows = Warehouse(spark, config).read(dwd.impression, [day]).orderBy("request_id", "position").collect()
    assert [(r["request_id"], r["item_id"], r["is_clicked"]) for r in rows] == [
        ("1", "N1-0", 0), ("1", "N2", 1), ("1", "N3", 1), ("2", "N1-0", 0), ("2", "N2", 0),
        ("4", "N 1", 1), ("4", "N2", 0),
    ]  # fmt: skip


def test_seconds_watched_are_a_click_from_a_bound_on(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    day = date(2029, 5, 21)
    declared = ROWS.replace('clicked="label"', 'clicked="label", at_least=30')
    cells = ["30", "29.9", "", "1e2", "long"]
    rows = [f"{day}T08:00:0{n},u1,a,1,L{n},,{cell}" for n, cell in enumerate(cells)]
    text = "when,who,what,place,list,mood,label\n" + "\n".join(rows) + "\n"
    assert load(spark, config, tmp_path / "watched", declared, text) == [5, 4, 0, 1]
    shown = Warehouse(spark, config).read(dwd.impression, [day]).orderBy("shown_at").collect()
    assert [row["is_clicked"] for row in shown] == [1, 0, 0, 1]


CLICKS = """SITE = Site("clicks",
    impressions=Impressions(Files("rows.csv"), user="who", item="what", at="when", request="list",
        clicked_by=ClickedBy("click", within_minutes=10)),
    actions=[Action("click", Files("clicks-*.csv"), user="who", item="what", at="when"{request})])"""


def clicked(warehouse: Warehouse, days: list[date]) -> list[tuple[str, int]]:
    rows = warehouse.read(dwd.impression, days).orderBy("request_id").collect()
    return [(row["request_id"], row["is_clicked"]) for row in rows]


def test_rows_of_an_action_are_the_clicks_of_what_was_shown_before(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    """In whatever order the files come: a click of the next day belongs to what was shown before midnight."""
    days, folder = [date(2029, 5, 23), date(2029, 5, 24)], tmp_path / "clicks"
    folder.mkdir()
    shown = [
        f"{days[0]}T08:00:00,u1,a,L1",
        f"{days[0]}T08:05:00,u1,a,L2",  # the last one before the click
        f"{days[0]}T08:20:00,u1,a,L3",  # after it
        f"{days[0]}T09:00:00,u2,a,L4",  # another user
        f"{days[0]}T09:00:00,u1,b,L5",  # clicked too late
        f"{days[0]}T23:58:00,u1,b,L6",  # clicked after midnight
    ]
    head = "when,who,what,list\n"
    (folder / "clicks-1.csv").write_text(f"when,who,what\n{days[0]}T08:06:00,u1,a\n{days[0]}T09:10:01,u1,b\n")
    declared, warehouse = CLICKS.replace("{request}", ""), Warehouse(spark, config)
    assert load(spark, config, folder, declared, head + "\n".join(shown) + "\n") == [8, 8, 0, 0]
    assert clicked(warehouse, days[:1]) == [("L1", 0), ("L2", 1), ("L3", 0), ("L4", 0), ("L5", 0), ("L6", 0)]
    (folder / "clicks-2.csv").write_text(f"when,who,what\n{days[1]}T00:01:00,u1,b\n{days[1]}T08:01:00,u3,c\n")
    assert load(spark, config, folder, declared, head + "\n".join(shown) + "\n") == [10, 2, 8, 0]
    assert clicked(warehouse, days[:1]) == [("L1", 0), ("L2", 1), ("L3", 0), ("L4", 0), ("L5", 0), ("L6", 1)]
    more = f"{days[1]}T08:00:00,u3,c,L7\n"
    assert load(spark, config, folder, declared, head + more) == [5, 1, 4, 0]
    assert clicked(warehouse, days) == [
        ("L1", 0), ("L2", 1), ("L3", 0), ("L4", 0), ("L5", 0), ("L6", 1), ("L7", 1)
    ]  # fmt: skip


def test_a_click_that_names_its_list_belongs_to_that_one(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    day, folder = date(2029, 5, 26), tmp_path / "named"
    folder.mkdir()
    shown = [f"{day}T08:00:00,u1,a,L1", f"{day}T08:01:00,u1,a,L2", f"{day}T08:01:00,u1,b,L2"]
    (folder / "clicks-1.csv").write_text(f"when,who,what,list\n{day}T08:02:00,u1,a,L1\n")
    declared = CLICKS.replace("{request}", ', request="list"').replace('"clicks"', '"named"')
    assert load(spark, config, folder, declared, "when,who,what,list\n" + "\n".join(shown) + "\n") == [4, 4, 0, 0]
    assert clicked(Warehouse(spark, config), [day]) == [("L1", 1), ("L2", 0), ("L2", 0)]


TABLES = """SITE = Site("tables", actions=[Action(
    "order", Query("select buyer, sku, bought_at, channel from own.orders where day = '{date}'"),
    user="buyer", item="sku", at="bought_at", columns={"channel": Category()})],
    users=Users(Query("select 'u1' as id, 'Rome' as town"), key="id", city="town"))"""
ORDERS = """create or replace view own.orders as select * from values
    ('u1', 'a', timestamp'2029-05-11 08:00:00', 'web', '2029-05-11'),
    ('u2', 'b', timestamp'2029-05-11 09:00:00', null, '2029-05-11'),
    ('u3', 'b', timestamp'2029-05-10 09:00:00', 'web', '2029-05-10') as (buyer, sku, bought_at, channel, day)"""


def test_tables_and_views_are_sources_like_files(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    day = date(2029, 5, 11)
    spark.sql("create database if not exists own")
    spark.sql(ORDERS)
    file = tmp_path / "site.py"
    file.write_text(f"from conf.site import *\n{TABLES}\n")
    site = load_site(file)
    with pytest.raises(SiteError, match=r"site.py:2: the query is of a day: name it with --date"):
        site_job.load_queried(spark, config, site, None, replaces=False)
    counts = site_job.load_queried(spark, config, site, day, replaces=False)
    assert [counts[f"rows_{name}"] for name in ("in", "out")] == [3, 3]
    warehouse = Warehouse(spark, config)
    rows = warehouse.read(dwd.interaction, [day]).orderBy("user_id").collect()
    assert [(row["user_id"], row["item_id"], row["action"], row["context"]) for row in rows] == [
        ("u1", "a", "order", {"channel": "web"}),
        ("u2", "b", "order", None),
    ]
    assert {row["user_id"]: row["city"] for row in warehouse.read(dim.user, [day]).collect()}["u1"] == "Rome"
    assert site_job.load_queried(spark, config, site, day, replaces=False)["rows_invalid"] == 2  # nothing is added
    gone = tmp_path / "gone.py"
    gone.write_text(file.read_text().replace("own.orders", "own.gone"))
    with pytest.raises(SiteError, match=r"gone.py:2: \[TABLE_OR_VIEW_NOT_FOUND\].*own.*gone"):
        site_job.load_queried(spark, config, load_site(gone), day, replaces=False)


FILES = """SITE = Site("files", actions=[Action("order", Query(
    "select user, lines.item, orders.at, lines.price from lines join orders on lines.order_no = orders.no",
    files={"lines": Files("lines.csv"), "orders": Files("orders-*.jsonl")}),
    user="user", item="item", at="at", value="price")])"""


def test_a_query_joins_files(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    """Order lines name an order, and only the order names the user and the time."""
    day, file = date(2029, 5, 28), tmp_path / "site.py"
    file.write_text(f"from conf.site import *\n{FILES}\n")
    (tmp_path / "lines.csv").write_text('order_no,item,price\n1,"a\n2",1.5\n1,b,2\n2,a,3\n9,a,1\n')
    for number in (1, 2):
        order = {"no": number, "user": f"u{number}", "at": f"{day}T08:00:00Z"} | ({"note": "x"} if number == 2 else {})
        (tmp_path / f"orders-{number}.jsonl").write_text(json.dumps(order) + "\n")
    with query_files(spark, config, load_site(file), tmp_path, None) as queried:
        groups = site_job.examine_site(config, load_site(file), tmp_path, None, queried)
        assert site_job.run(spark, config, load_site(file), groups, replaces=False)["rows_out"] == 3
    rows = Warehouse(spark, config).read(dwd.interaction, [day]).collect()
    assert {(row["user_id"], row["item_id"], row["value"]) for row in rows} == {
        ("u1", "a\n2", 1.5), ("u1", "b", 2.0), ("u2", "a", 3.0)
    }  # fmt: skip
    with (tmp_path / "lines.csv").open("a") as lines:
        lines.write("3,a\n")
    with (
        pytest.raises(SiteError, match=r"site.py:2: .*lines.csv: missing_cells in '3,a': correct that row"),
        query_files(spark, config, load_site(file), tmp_path, None),
    ):
        pass


def load_ready(spark: SparkSession, config: Config, name: str, folder: Path) -> int:
    """Load a ready site from a folder; returns the rows that came in whole."""
    site = load_site(site_file(name))
    with query_files(spark, config, site, folder, None) as queried:
        groups = site_job.examine_site(config, site, folder, None, queried)
        return int(site_job.run(spark, config, site, groups, replaces=False)["rows_out"])


def test_a_line_of_a_users_items_is_an_act_each_in_their_order(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    with gzip.open(tmp_path / "s3rec_Beauty.txt.gz", "wt") as file:
        file.write("1 12 3 7\n2 3 12\n")
    assert load_ready(spark, config, "beauty", tmp_path) == 5
    rows = Warehouse(spark, config).read(dwd.interaction, [date(2014, 7, 1)]).orderBy("user_id", "acted_at").collect()
    assert [(row["user_id"], row["item_id"]) for row in rows] == [
        ("1", "12"), ("1", "3"), ("1", "7"), ("2", "3"), ("2", "12")
    ]  # fmt: skip


def test_open_bandits_users_are_their_features_and_propensities_are_kept(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    (tmp_path / "item_context.csv").write_text(
        ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n0,0,-0.5,a,b,c\n1,1,0.5,a,d,c\n"
    )
    head = ",timestamp,item_id,position,click,propensity_score," + ",".join(f"user_feature_{n}" for n in range(4))
    rows = ["00:00.5+00:00,1,3,0,0.0125,a,b,c,d", "01:00.5+00:00,0,1,1,0.5,a,b,c,d", "02:00.5+00:00,0,1,0,1.0,a,b,c,e"]
    with gzip.open(tmp_path / "all.csv.gz", "wt") as file:
        file.write("\n".join([head, *[f"{n},2029-11-24 00:{row}" for n, row in enumerate(rows)]]) + "\n")
    assert load_ready(spark, config, "open-bandit", tmp_path) == 5  # two items, three impressions
    shown = Warehouse(spark, config).read(dwd.impression, [date(2029, 11, 24)]).orderBy("shown_at").collect()
    assert [(row["item_id"], row["position"], row["is_clicked"], row["propensity"]) for row in shown] == [
        ("1", 3, 0, 0.0125), ("0", 1, 1, 0.5), ("0", 1, 0, 1.0)
    ]  # fmt: skip
    first, second, third = (row["user_id"] for row in shown)
    assert first == second != third


def test_events_that_replace_a_day_let_its_files_be_loaded_again(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    day = date(2029, 5, 15)
    text = f"when,who,what,place,list,mood,label\n{day}T08:00:00,u1,a,1,L1,,1\n"
    assert load(spark, config, tmp_path / "rows", ROWS, text) == [1, 1, 0, 0]
    assert load(spark, config, tmp_path / "rows", ROWS, text) == [1, 0, 1, 0]
    landing = config.get(Paths).landing("events", day)
    landing.mkdir(parents=True)
    event = {"type": "impression", "event_id": "e1", "user_id": "u2", "item_id": "b", "ts": f"{day}T09:00:00Z"}
    event |= {"request_id": "r", "position": 1, "device": "phone"}
    (landing / "events.jsonl").write_text(json.dumps(event) + "\n")
    events.run(spark, config, [day])
    assert load(spark, config, tmp_path / "rows", ROWS, text) == [1, 1, 0, 0]
    rows = Warehouse(spark, config).read(dwd.impression, [day]).collect()
    assert {(row["user_id"], row["item_id"]) for row in rows} == {("u1", "a"), ("u2", "b")}


def test_the_same_lines_are_two_actions_where_two_are_declared(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    day = date(2029, 5, 17)
    for name in ("views", "orders"):
        (tmp_path / f"{name}.jsonl").write_text(
            json.dumps({"u": "u1", "i": "a", "t": f"{day}T08:00:00Z", "meta": {"brand": "acme", "n": 1}}) + "\n"
        )
    file = tmp_path / "site.py"
    part = "Action('{0}', Files('{0}.jsonl'), user='u', item='i', at='t', columns={{'meta.brand': Category()}})"
    file.write_text(
        f"from conf.site import *\nSITE = Site('two', actions=[{part.format('views')}, {part.format('orders')}])\n"
    )
    site = load_site(file)
    groups = site_job.examine_site(config, site, tmp_path, None)
    assert site_job.run(spark, config, site, groups, replaces=False)["rows_out"] == 2
    rows = Warehouse(spark, config).read(dwd.interaction, [day]).collect()
    # What is declared is kept, by its path; the rest of `meta` is not.
    assert {(row["action"], tuple(row["context"].items())) for row in rows} == {
        ("views", (("meta.brand", "acme"),)),
        ("orders", (("meta.brand", "acme"),)),
    }


def test_rows_of_a_file_with_other_columns_are_quarantined_where_it_is_declared(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    declared = ROWS.replace('Site("rows"', 'Site("contract"').replace(
        '"rows.csv"', '"rows*.csv", changes="discard_row"'
    )
    day = date(2029, 5, 30)
    head = "when,who,what,place,list,mood,label\n"
    (tmp_path / "rows-1.csv").write_text(f"{head}{day}T08:00:00,u1,a,1,L1,sunny,1\n")
    assert load(spark, config, tmp_path, declared, "") == [1, 1, 0, 0]
    (tmp_path / "rows-2.csv").write_text(f"{head.replace(',mood', ',humour')}{day}T09:00:00,u1,b,1,L2,sunny,1\n")
    (tmp_path / "rows-3.csv").write_text(f"{head}{day}T10:00:00,u1,c,1,L3,wet,0\n")
    assert load(spark, config, tmp_path, declared, "") == [3, 1, 1, 1]  # in, out, known before, refused
    warehouse = Warehouse(spark, config)
    rows = warehouse.read(dwd.impression, [day]).orderBy("shown_at").collect()
    assert [(row["item_id"], row["context"]) for row in rows] == [("a", {"mood": "sunny"}), ("c", {"mood": "wet"})]
    (refused,) = warehouse.read(ods.quarantine, [day]).where("stage = 'ingest'").collect()
    assert (Path(refused["file"]).name, refused["reason"]) == ("rows-2.csv", "other_columns")
