"""What the text of an own column means: the same on Spark and in Python."""

from datetime import date, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf import Config
from conf.site import (
    Action,
    Category,
    Cross,
    Dense,
    Files,
    Impressions,
    Items,
    Number,
    Outcome,
    Site,
    SiteError,
    Sparse,
    Tags,
    Text,
    Tokens,
    Users,
    Vector,
    Weight,
)  # fmt: skip
from etl.ingest.sites import views
from etl.ingest.sites.views import write_views
from etl.sources.texts import tokens_of, yes_no_of
from etl.sources.values import to_yes_no
from etl.tables import dim, dwd
from etl.warehouse.store import Warehouse
from features.catalog import BUILT_IN, check_names, site_features
from features.compute.spark_own_columns import outcome_labels, own_values, row_weight
from features.dataset.sampling import OWN_WEIGHT, balance
from features.feature_index import check_sources
from features.own_columns import OWN_INDEX, OwnColumns, own_index
from features.settings import FeatureSettings

ACTION = Action("click", Files("c.csv"), user="u", item="i", at="t", columns={"weather": Category()})
SITE = Site(
    "shop",
    items=Items(
        Files("i.csv", decimal=","),
        key="i",
        columns={
            "Price": Number(transform="log1p", default=0.0),
            "tags": Tags(separator=".", slots=2, missing=("none",)),
            "note": Category(is_feature=False),
            "embedding": Vector(3),
            "title": Tokens(slots=3),
        },
    ),
    users=Users(Files("u.csv"), key="u", columns={"plan": Category(buckets=8), "age": Number()}),
    actions=[ACTION],
    features=[Cross(("user_plan", "item_tags"), name="inner"), Cross(("inner", "context_weather"), name="outer")],
)
TEXTS = [
    None, "", "  ", "7", "+4", ".5", "5.", "1e3", "1E-2", "1,5", "1.234,5", "1.234", "-0", "nan", "NaN", "inf", "Infinity",
    "1_000", "1d", "0x1p3", "1e999", "１２", "a", " a ", "\u00a0b\u3000", "a.b.c", ".a..b.", "a.a.b", "none.a", "none", "é", "x|y",
    "['a', 'b']", '["a, b", "it\'s", "none", "a, b"]', "[a.b, c ,, 'd]", "[]", "['']", "[\n 'a'\n]", "['a'b, \"c\"]", "]a[", "[b",
    "1 2 3", "[0.5, -1e-3, 2]", " ( 1;2|3 ) ", "[ 1.\n  2.\t.5]", "1,2", "1 2 3 4", "1 x 3", "1 nan 3", "1 1e999 3", "1  2,,3", "[[1,2,3]]", "1,,2",
    "The Cat and the cat, AND a dog_house №7 x²", "İstanbul ΣΟΦΟΣ ΣΟΦΌΣ. Straße ǅ ﬁn É e\u0301", "神经网络a机器 学习,々ア イウ😀漢", "한국어 हिन्दी ไทย",
]  # fmt: skip


@pytest.mark.parametrize("owner", ["user", "item", "context"])
def test_a_text_means_the_same_on_spark_and_in_python(spark: SparkSession, owner: str) -> None:
    columns = OwnColumns.of_site(SITE)
    sources = [column.source for column in columns.of_owner(owner)]
    maps = [None, {}, *({source: text for source in sources if text is not None} for text in TEXTS)]
    frame = spark.createDataFrame([(n, texts) for n, texts in enumerate(maps)], "n int, texts map<string,string>")
    values = own_values(columns.of_owner(owner), F.col("texts"))
    rows = frame.select("n", *[value.alias(name) for name, value in values.items()]).collect()
    assert len(rows) == len(maps)
    for row in rows:
        assert columns.read_texts(owner, maps[row["n"]]) == {name: row[name] for name in values}, maps[row["n"]]


def test_views_have_own_columns_as_features_read_them(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, warehouse = date(2029, 6, 3), Warehouse(spark, config)
    items = Items(
        Files("i.csv", decimal=","),
        key="i",
        columns={
            "Price": Number(),
            "tags": Tags(separator=".", slots=20, missing=("none",)),
            "it's": Category(),
            "n": Text(),
            "v": Vector(3),
            "w": Tokens(slots=64),
        },
    )
    shown = {"paid": Outcome("purchase"), "s": Outcome("long", at_least=1.5), "w": Weight(), "category": Category()}
    impressions = Impressions(Files("s.csv"), user="u", item="i", clicked="c", at="t", columns=shown)
    site = Site("shop", items=items, impressions=impressions)
    maps = [dict.fromkeys((*items.columns, *shown), text) if text is not None else None for text in TEXTS]
    frame = spark.createDataFrame(
        [(str(n), texts) for n, texts in enumerate(maps)], "item_id string, m map<string,string>"
    )
    one = frame.withColumns({"dt": F.lit(str(day)), "attributes": F.col("m"), "context": F.col("m")})
    columns = {column.name: F.lit(None) for column in dim.item.columns if column.name not in ("item_id", "attributes")}
    warehouse.write(dim.item, one.withColumns(columns), [day])
    columns = {"impression_id": F.col("item_id"), "request_id": F.lit("r"), "user_id": F.lit("u"), "position": F.lit(1)}
    columns |= {
        "device": F.lit(None),
        "shown_at": F.lit(datetime(2029, 6, 3)),
        "is_clicked": F.lit(1),
        "features": F.lit(None),
    }
    warehouse.write(dwd.impression, one.withColumns(columns), [day])
    assert write_views(spark, warehouse, site) == ["site_item", "site_impression"]
    own = OwnColumns.of_site(site)
    values = own_values(own.of_owner("item"), F.col("attributes"))
    tags = F.filter(F.array(*[values.pop(name) for name in own.columns[1].names]), lambda tag: tag.isNotNull())
    for name in own.columns[4].names:
        del values[name]
    vector = F.array(*[values.pop(name) for name in own.columns[3].names]).alias("item_v")
    expected = {
        row["item_id"]: row
        for row in one.select(
            "item_id", *[c.alias(n) for n, c in values.items()], tags.alias("item_tags"), vector
        ).collect()
    }
    rows = spark.table("site_item").where(f"dt = '{day}'").collect()
    assert len(rows) == len(TEXTS)
    for row in rows:
        wanted = expected[row["item_id"]]
        assert [row[name] for name in values] == [wanted[name] for name in values], row
        assert (row["item_tags"] or []) == wanted["item_tags"], row
        assert (row["item_v"] or [None] * 3) == wanted["item_v"], row
        assert (row["item_w"] or []) == tokens_of(TEXTS[int(row["item_id"])] or ""), row
    labels = outcome_labels(own.labels, F.col("context"), F.lit(True))
    weight = row_weight(own.labels, F.col("context"))
    assert weight is not None
    wanted_rows = (
        one.select("item_id", *[c.alias(n) for n, c in labels.items()], weight.alias("weight"))
        .orderBy("item_id")
        .collect()
    )
    shown_rows = spark.table("site_impression").where(f"dt = '{day}'").orderBy("item_id")
    got = shown_rows.select("item_id", "label_purchase", "label_long", F.coalesce("context_w", F.lit(1.0))).collect()
    assert [tuple(row) for row in got] == [tuple(row) for row in wanted_rows]
    assert "context_category" in shown_rows.columns
    comments = {row["col_name"]: row["comment"] for row in spark.sql("describe site_item").collect()}
    assert comments["item_price"] == "Price of i.csv: Number"
    # As a view of hundreds of columns is written, which would be too long for the metastore.
    monkeypatch.setattr(views, "MAX_QUERY_CHARS", 0)
    write_views(spark, warehouse, site)
    compact = spark.table("site_item").where(f"dt = '{day}'")
    assert sorted(compact.collect(), key=str) == sorted(rows, key=str)


@pytest.mark.parametrize(("at_least", "decimal"), [(None, "."), (5.0, "."), (1.5, ",")])
def test_yes_and_no_mean_the_same_on_spark_and_in_python(
    spark: SparkSession, at_least: float | None, decimal: str
) -> None:
    texts = [*TEXTS, "yes", "NO", "True", "f", "-1", "-1.0", "maybe", "4.99", "5", "5,0"]
    frame = spark.createDataFrame([(n, text) for n, text in enumerate(texts)], "n int, text string")
    rows = frame.select("n", to_yes_no(F.col("text"), at_least, decimal).alias("value")).orderBy("n").collect()
    assert [row["value"] for row in rows] == [yes_no_of(text, at_least, decimal) for text in texts]


def test_what_came_of_a_row_is_a_label_and_its_weight_counts(spark: SparkSession) -> None:
    columns = {"paid": Outcome("purchase"), "s": Outcome("long", at_least=30, needs_click=False), "w": Weight()}
    other = {"bought": Outcome("purchase"), "w": Weight()}
    options = {"user": "u", "item": "i", "clicked": "c", "at": "t"}
    shown = [Impressions(Files(name), columns=own, **options) for name, own in (("a", columns), ("b", other))]  # type: ignore[arg-type]
    own = OwnColumns.of_site(Site("shop", impressions=shown))
    assert own.outcomes == ("purchase", "long")
    assert own.needs_context
    assert not own.columns
    rows = [
        (1, {"paid": "yes", "s": "31", "w": "2"}),
        (1, {"bought": "1"}),
        (1, {"paid": "what", "s": "x", "w": "x"}),
        (1, None),
        (0, {"paid": "yes", "s": "40", "w": "0"}),
    ]
    frame = spark.createDataFrame(rows, "label int, context map<string,string>")
    weight = row_weight(own.labels, F.col("context"))
    assert weight is not None
    labels = outcome_labels(own.labels, F.col("context"), F.col("label") == 1)
    labelled = frame.withColumns({**labels, OWN_WEIGHT: weight})
    assert [tuple(row) for row in labelled.select(*labels, OWN_WEIGHT).collect()] == [
        (1.0, 1.0, 2.0),
        (1.0, 0.0, 1.0),
        (0.0, None, 1.0),  # of the first file unknown, of the other one an empty cell
        (0.0, 0.0, 1.0),
        (None, 1.0, 0.0),
    ]
    settings = FeatureSettings(balance="class_weights")
    assert [row["weight"] for row in balance(labelled, settings).collect()] == [1.25, 0.625, 0.625, 0.625, 0.0]
    assert [row["weight"] for row in balance(labelled, FeatureSettings()).collect()] == [2.0, 1.0, 1.0, 1.0, 0.0]


def test_numbers_have_the_decimals_of_their_file() -> None:
    columns = OwnColumns.of_site(SITE)
    assert columns.read_texts("item", {"Price": "1.234,5", "tags": "none.a.b.c", "embedding": "[1.234, 5,6e1]"}) == {
        "item_price": 1234.5, "item_tags_1": "a", "item_tags_2": "b", "item_note": None,
        "item_embedding_1": 1.234, "item_embedding_2": 5, "item_embedding_3": 60,  # between numbers a comma is none
        "item_title_1": None, "item_title_2": None, "item_title_3": None,
    }  # fmt: skip
    assert columns.read_texts("user", {"age": "1.234,5"})["user_age"] is None
    assert columns.read_texts("user", {"age": "1.234"})["user_age"] == 1.234


def test_a_word_has_the_same_slot_wherever_it_stands_and_the_first_word_of_a_slot_is_read() -> None:
    columns = OwnColumns.of_site(SITE)

    def title(text: str) -> list[object]:
        values = columns.read_texts("item", {"title": text})
        return [values[f"item_title_{n}"] for n in (1, 2, 3)]

    # Models trained today must find each word in its slot for ever.
    assert title("The Big old") == title("OLD, big: the") == ["the", "big", "old"]
    assert title("the old sea") == ["the", None, "old"]
    assert title("sea the old") == ["sea", None, "old"]


def test_columns_and_crosses_become_features() -> None:
    assert list(site_features(SITE)) == [
        Dense("item_price", "item_price", "Price of the item", "log1p", 0.0),
        Sparse("item_tags_1", "item_tags_1", 1024, "tags of the item, tag 1"),
        Sparse("item_tags_2", "item_tags_2", 1024, "tags of the item, tag 2"),
        *(Dense(f"item_embedding_{n}", f"item_embedding_{n}", f"embedding of the item, number {n}") for n in (1, 2, 3)),
        *(Sparse(f"item_title_{n}", f"item_title_{n}", 4096, f"title of the item, words of slot {n}") for n in (1, 2, 3)),
        Sparse("user_plan", "user_plan", 8, "plan of the user"),
        Dense("user_age", "user_age", "age of the user"),
        Sparse("context_weather", "context_weather", 1024, "weather of the context"),
        Sparse("inner", "concat(user_plan, '|', item_tags_1)", 65536, "user_plan crossed with item_tags"),
        Sparse(
            "outer", "concat(user_plan, '|', item_tags_1, '|', context_weather)", 65536,
            "inner crossed with context_weather",
        ),
    ]  # fmt: skip


def test_an_own_index_follows_from_the_name_and_meets_no_built_in_one() -> None:
    names = [f"item_{n}" for n in range(5000)]
    indices = [own_index(name) for name in names]
    assert min(indices) >= OWN_INDEX > len(BUILT_IN)
    assert max(indices) < 2**31
    assert len(set(indices)) == len(names)
    assert own_index("item_price") == 1715289288  # models trained today must read the same ids for ever


def test_a_source_that_can_not_be_computed_is_refused_with_its_line(spark: SparkSession) -> None:
    check_sources(spark, [*BUILT_IN, Sparse("tag_city", "concat(user_tag1, city)", 8, "")])
    with pytest.raises(SiteError) as error:
        check_sources(
            spark,
            [
                Dense("a", "user_shwon + 1", ""),
                Dense("b", "item_shown *", ""),
                Dense("c", "isnull(city) * 2", ""),
                Dense("d", "pow(item_shown, 2)", ""),
                Dense("e", "item_shown", "", transform="cube"),
                Sparse("f", "item_shown", 8, ""),
                Dense("g", "city", ""),
                Dense("fine", "ln(item_shown) + datediff(at, user_last_click) / position", ""),
            ],
        )
    texts = [fault.text for fault in error.value.faults]
    assert texts[0].startswith('"a": no column "user_shwon"; did you mean "user_shown"? There are: ')
    assert texts[1] == '"b": invalid syntax: item_shown *'
    assert texts[2].startswith('"c": [DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] Cannot resolve "((city IS NULL) * 2)"')
    assert texts[3].startswith("\"d\": 'pow(item_shown, 2)' (in 'pow(item_shown, 2)') is no column or function")
    assert texts[4].startswith("\"e\": feature 'e' has the transform 'cube'; choose from identity, ")
    assert texts[5] == '"f": an id is of texts and whole numbers, and this is double'
    assert texts[6] == '"g": city mixes texts and numbers'
    assert len(texts) == 7
    assert all("test_own_columns.py:" in fault.place for fault in error.value.faults)


def test_another_reading_of_a_column_is_another_definition() -> None:
    def reading(**options: object) -> str:
        site = Site("s", actions=[ACTION], items=Items(Files("i"), key="i", columns={"t": Tags(**options)}))  # type: ignore[arg-type]
        return OwnColumns.of_site(site).columns[0].reading

    assert reading() == "item_t: Tags item 't' '|'"
    assert reading(separator=",", missing=("x",)) == "item_t: Tags item 't' ',' 'x'"
    assert OwnColumns.of_site(SITE).columns[0].reading == "item_price: Number item 'Price' ,"


@pytest.mark.parametrize("name", ["user_tag1", "category_share", "item_rate", "prior_rate"])
def test_a_name_that_a_built_in_feature_reads_is_refused(name: str) -> None:
    site = Site("shop", actions=[ACTION], users=Users(Files("u"), key="u", columns={"x": Category(name=name)}))
    with pytest.raises(SiteError, match=rf"test_own_columns.py:\d+: {name}: a built-in feature or column has that"):
        check_names(site, site_features(site))
