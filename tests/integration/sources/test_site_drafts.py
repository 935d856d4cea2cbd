"""From files to a declaration that is right: init, then check, over public data sets as people have them."""

import csv
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conf import Config
from conf.site import Category, Site, load_site
from conf.site.checks import site_parts
from etl.ingest.sites.queries import query_files
from etl.site import job as init
from features.check import job as check

WIDE = pytest.mark.wide


def parts(site: Site) -> dict[str, tuple[str | None, ...]]:
    """File name -> what it is, with the columns of its ids, and of time and value of what happened."""
    described = {}
    for part in site_parts(site):
        names = [getattr(part, option, None) for option in ("key", "user", "item", "clicked", "at", "value")]
        described[Path(part.source.pattern).name] = (type(part).__name__, *filter(None, names))
    return described


SETS = {
    "ml-100k": {
        "ml-100k.inter": ("Action", "user_id", "item_id", "timestamp", "rating"),
        "ml-100k.item": ("Items", "item_id"),
        "ml-100k.user": ("Users", "user_id"),
    },
    "lastfm-hetrec": {
        "user_artists.dat.gz": ("Action", "userID", "artistID", "weight"),
        "artists.dat.gz": ("Items", "id"),
    },
    "ml-1m": {
        "derived_like.parquet": ("Action", "userID", "movieID", "like"),
        "movies.dat": ("Items", "item_id"),
        "users.dat": ("Users", "user_id"),
    },
    "mind-news": {
        "behaviors.tsv.gz": ("Impressions", "user_id", "shown", "timestamp"),
        "news.tsv.gz": ("Items", "item_id"),
    },
    "rees46-sample": {"2019-*.csv": ("Action", "user_id", "product_id", "event_time")},
    "ctr-samples": {
        "tiny_csv-*_sample.csv": ("Impressions", "userid", "adgroup_id", "clk", "time_stamp"),
        "diginetica_train-item-views-sample.csv": ("Action", "sessionId", "itemId", "eventdate"),
        "movielens_sample.txt": ("Action", "user_id", "movie_id", "timestamp", "rating"),
    },
    "frappe": {"frappe.csv": ("Action", "user", "item", "cnt"), "meta.csv": ("Items", "item")},
    "frappe_x1": {"*.parquet": ("Impressions", "user", "item", "label")},
    "amazon-seq": {"bert4rec_beauty.txt.gz": ("Action", "user_id", "item_id")},
    "book-crossing": {
        "BX-Book-Ratings.csv.gz": ("Action", "User-ID", "ISBN", "Book-Rating"),
        "BX-Book-Ratings.mac-cr.csv.gz": ("Action", "User-ID", "ISBN", "Book-Rating"),
        "BX-Users.csv.gz": ("Users", "User-ID"),
    },
    "online-retail": {"{date}.csv": ("Action", "CustomerID", "StockCode", "InvoiceDate", "Quantity")},
}
SMALL = ("mind-news", "ml-100k", "lastfm-hetrec", "rees46-sample", "ctr-samples")
# What is wrong with the data, and no guess can mend: users without rows, rows without users.
FAULTS = {
    "mind-news": "(96.2%) have no row",
    "book-crossing": "(100.0%) have no row",
    "online-retail": "missing_field in CustomerID",
}


@pytest.mark.parametrize("name", [name if name in SMALL else pytest.param(name, marks=WIDE) for name in SETS])
def test_a_public_data_set_is_declared_and_judged(config: Config, real_data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "site.py"
    counts = init.run([str(real_data / name)], out)
    assert counts["faults"] == []
    site = load_site(out)
    assert parts(site) == SETS[name]
    checked = check.run(config, site, tmp_path, 20_000)
    faults = [str(finding) for finding in checked.findings if finding.is_fault]
    assert len(faults) == (name in FAULTS), faults
    assert all(FAULTS[name] in fault for fault in faults)


@pytest.mark.parametrize("name", ["cookie-cats", pytest.param("open-bandit", marks=WIDE)])
def test_data_without_users_or_what_they_did_are_only_named(real_data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "site.py"
    faults = init.run([str(real_data / name)], out)["faults"]
    assert isinstance(faults, list)
    assert [fault.partition(": ")[2] for fault in faults] == [
        "Site: nothing to learn from: declare actions or impressions"
    ]
    assert "actions=" not in out.read_text()


def test_movielens_as_it_is_downloaded(config: Config, real_data: Path, tmp_path: Path) -> None:
    """The 100k set, written as `ratings.csv`, `movies.csv` and `tags.csv` of the later ones."""
    lines = (real_data / "ml-100k/ml-100k.inter").read_text().splitlines()[1:]
    ratings = [line.split("\t") for line in lines]
    films = [line.split("\t") for line in (real_data / "ml-100k/ml-100k.item").read_text().splitlines()[1:]]
    tables = {
        "ratings": [["userId", "movieId", "rating", "timestamp"], *ratings],
        "movies": [["movieId", "title", "genres"], *([i, f"{title} ({year})", of.replace(" ", "|")] for i, title, year, of in films)],
        "tags": [["userId", "movieId", "tag", "timestamp"], *([user, item, f"tag {int(item) % 50}", at] for user, item, _, at in ratings[::50])],
    }  # fmt: skip
    for table, rows in tables.items():
        with (tmp_path / f"{table}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    out = tmp_path / "site.py"
    init.run([str(tmp_path)], out)
    site = load_site(out)
    assert parts(site) == {
        "movies.csv": ("Items", "movieId"),
        "ratings.csv": ("Action", "userId", "movieId", "timestamp", "rating"),
        "tags.csv": ("Action", "userId", "movieId", "timestamp"),
    }
    assert site.items is not None
    assert (site.items.title, site.items.category) == ("title", "genres")
    assert site.label is not None
    assert (site.label.action, site.label.at_least) == ("rating", 4)
    assert not any(isinstance(kind, Category) for action in site.actions for kind in action.columns.values())
    checked = check.run(config, site, tmp_path, 200_000)
    assert [str(finding) for finding in checked.findings] == []
    assert any("54.3% of the rows are positives" in line for line in checked.lines)


def test_a_query_is_judged_as_files_are(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    rows = ", ".join(f"('u{i % 5}', 'i{i % 7}', {i % 2}, timestamp '2026-03-0{1 + i % 3} 10:00:00')" for i in range(40))
    out = tmp_path / "site.py"
    out.write_text(
        "from conf.site import *\n"
        f'SHOWN = Query("""select * from values {rows} as shown(who, what, clicked, at)""")\n'
        "SITE = Site('queried', impressions=Impressions(SHOWN, user='who', item='what', clicked='cliked', at='at'))\n"
    )
    site = load_site(out)
    with query_files(spark, config, site, tmp_path, None) as queried:
        checked = check.run(config, site, tmp_path, 1000, None, queried)
    assert checked.rows == 40
    (finding,) = checked.findings
    assert 'clicked is "cliked", a column that the query lacks; did you mean "clicked"?' in finding.text
    assert "3 days, 2026-03-01 10:00 to 2026-03-03 10:00 (UTC)" in "\n".join(checked.lines)
