"""Drafts of declarations from small files whose meaning is known: what is declared, and what is only named."""

import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from data.shop import write_shop
from support import run_front_door

from conf import UserError
from conf.site import Action, Category, Files, Impressions, Label, Number, Outcome, Site, Tags, load_site
from etl.site import job

START = datetime(2026, 3, 1)


def drafted(folder: Path, *names: str) -> tuple[Site, str]:
    """The declaration that is drafted of a folder's files, loaded, and its text."""
    out = folder / f"site{len(list(folder.glob('site*.py')))}.py"
    job.run([str(folder / name) for name in names] or [str(folder)], out)
    return load_site(out), out.read_text()


def drafted_text(folder: Path) -> str:
    """The text of a draft that lacks something."""
    job.run([str(folder)], folder / "site.py")
    return (folder / "site.py").read_text()


def ratings(number: int = 60) -> pd.DataFrame:
    """Ratings of 10 users of 12 films."""
    rows = range(number)
    return pd.DataFrame(
        {
            "userId": [i % 10 for i in rows],
            "movieId": [100 + i % 12 for i in rows],
            "rating": [1 + i % 5 for i in rows],
            "timestamp": [int((START + timedelta(hours=i)).timestamp()) for i in rows],
        }
    )


def movies(number: int = 12) -> pd.DataFrame:
    rows = range(number)
    genres = [("Drama", "Comedy|Drama", "Comedy")[i % 3] for i in rows]
    titles = [f"Film number {i}" for i in rows]
    return pd.DataFrame({"movieId": [100 + i for i in rows], "title": titles, "genres": genres})


def test_ratings_and_films_are_declared_as_they_are(tmp_path: Path) -> None:
    ratings().to_csv(tmp_path / "ratings.csv", index=False)
    movies().to_csv(tmp_path / "movies.csv", index=False)
    site, text = drafted(tmp_path)
    assert site.items is not None
    assert (site.items.key, site.items.title, site.items.category) == ("movieId", "title", "genres")
    action = Action("rating", Files("ratings.csv"), user="userId", item="movieId", at="timestamp", value="rating")
    assert site.actions == [action]
    assert site.label == Label("rating", at_least=4)
    assert "# ratings.csv: 60 rows; 10 users, 12 items; users and items by their names, userId and movieId" in text
    assert "# s since 1970: 2026-03-01 00:00 to 2026-03-03 11:00" in text
    assert 'label=Label("rating", at_least=4),  # 40.0% of the rows are positives' in text
    assert "# movies.csv: 12 rows; 0 of 12 ids of what happened have no row (0.0%)" in text


def test_odd_layouts_are_declared_as_the_ingest_will_read_them(tmp_path: Path) -> None:
    semicolons = ratings().assign(
        rating=lambda rows: rows.rating.map("{},5".format), movieId=lambda rows: "Café-" + rows.movieId.astype(str)
    )
    semicolons.to_csv(tmp_path / "ratings.csv", sep=";", index=False, encoding="latin-1")
    (tmp_path / "movies.json").write_text(
        "".join(json.dumps({"id": f"Café-{100 + i}", "meta": {"name": f"The film {i}"}}) + "\n" for i in range(12))
    )
    site, _ = drafted(tmp_path)
    assert site.actions[0].value == "rating"
    assert site.label is not None
    assert site.label.at_least == 4.5  # three quarters of 5.5 at least
    assert site.items is not None
    assert (site.items.key, site.items.title) == ("id", "meta.name")


def test_files_without_header_get_names(tmp_path: Path) -> None:
    ratings().to_csv(tmp_path / "u.data", sep="\t", index=False, header=False)
    movies().to_csv(tmp_path / "movies.dat", sep="|", index=False, header=False, quoting=3, escapechar="\\")
    site, _ = drafted(tmp_path, "u.data")
    source = site.actions[0].source
    assert source.header == ("user_id", "item_id", "value", "timestamp")
    assert (site.actions[0].name, site.actions[0].value, site.actions[0].at) == ("rating", "value", "timestamp")


def test_headers_of_unusual_names_and_impressions_are_seen_by_values(tmp_path: Path) -> None:
    write_shop(tmp_path).unlink()
    site, _ = drafted(tmp_path)
    (shown,) = [site.impressions]
    assert not isinstance(shown, list)
    assert (shown.user, shown.item, shown.clicked, shown.position) == ("who", "what", "bought_it", "place")  # type: ignore[union-attr]
    assert shown.source == Files("shown-{date}.csv")  # type: ignore[union-attr]
    assert shown.columns == {  # type: ignore[union-attr]
        "weather": Category(buckets=16), "margin": Number(), "reviewed": Outcome("review")
    }  # fmt: skip
    assert [(action.name, action.source.pattern, action.user) for action in site.actions] == [
        ("cart", "carts/{date}.csv", "who")
    ]
    assert site.items is not None
    assert site.items.columns["uses"] == Tags(separator=",", buckets=32)
    assert site.users is not None
    assert (site.users.key, site.users.city) == ("customer", "town")
    assert site.label is None  # impressions say what was not clicked


def test_of_two_tables_of_items_one_is_declared_and_the_other_named(tmp_path: Path) -> None:
    ratings().to_csv(tmp_path / "ratings.csv", index=False)
    movies().to_csv(tmp_path / "movies.csv", index=False)
    pd.DataFrame({"movieId": range(100, 112), "imdbId": range(500, 512)}).to_csv(tmp_path / "links.csv", index=False)
    site, text = drafted(tmp_path)
    assert site.items is not None
    assert site.items.source.pattern == "movies.csv"
    assert "# links.csv: fits nothing: one row per movieId as well as movies.csv: join its columns to that file" in text


def test_lines_of_orders_are_of_no_user_and_a_join_is_told(tmp_path: Path) -> None:
    rows = range(400)
    lines = pd.DataFrame({"order_id": [i % 60 for i in rows], "product_id": [i % 25 for i in rows]})
    lines.to_csv(tmp_path / "lines.csv", index=False)
    orders = pd.DataFrame({"order_id": range(60), "user_id": [i % 15 for i in range(60)], "at": "2026-01-02 10:00"})
    orders.to_csv(tmp_path / "orders.csv", index=False)
    products = pd.DataFrame({"product_id": range(25), "name": [f"part {i}" for i in range(25)]})
    products.to_csv(tmp_path / "products.csv", index=False)
    text = " ".join(drafted_text(tmp_path).split("\n# "))
    assert "lines.csv: fits nothing: its order_id is the key of orders.csv, which has the user: join them" in text
    assert "select * from lines join orders using (`order_id`)" in text


def test_a_search_stands_for_the_user_that_no_column_has(tmp_path: Path) -> None:
    rows = range(200)
    shown = pd.DataFrame({"srch_id": [i // 5 for i in rows], "prop_id": [i % 17 for i in rows], "click_bool": 0})
    shown = shown.assign(click_bool=[int(i % 7 == 0) for i in rows], date_time="2026-01-02 10:00:00")
    shown.to_csv(tmp_path / "train.csv", index=False)
    site, text = drafted(tmp_path)
    assert isinstance(site.impressions, Impressions)
    assert (site.impressions.user, site.impressions.item) == ("srch_id", "prop_id")
    assert "no column of users: srch_id stands for it" in " ".join(text.split())


def test_what_fits_nothing_is_named_and_not_guessed(tmp_path: Path) -> None:
    ratings().to_csv(tmp_path / "ratings.csv", index=False)
    pd.DataFrame({"day": ["2026-01-01", "2026-01-02"], "visits": [3, 4]}).to_csv(tmp_path / "traffic.csv", index=False)
    (tmp_path / "poster.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\0")
    (tmp_path / "empty.csv").write_text("user_id,item_id\n")
    _, text = drafted(tmp_path)
    assert "# traffic.csv: fits nothing: no column of users or items by its name" in text
    assert "# poster.jpg: left out: " in text
    assert "# empty.csv: left out: has a header (user_id, item_id) and no rows" in text


def test_copies_and_links_are_no_second_action(tmp_path: Path) -> None:
    ratings().to_csv(tmp_path / "ratings.csv", index=False)
    ratings().to_csv(tmp_path / "copy.dat", sep="\t", index=False, header=False)
    links = pd.DataFrame({"one": [1, 2, 1, 3, 2, 3] * 5, "other": [2, 1, 3, 1, 3, 2] * 5})
    links.to_csv(tmp_path / "friends.dat", sep="\t", index=False, header=False)
    site, text = drafted(tmp_path)
    assert [action.source.pattern for action in site.actions] == ["ratings.csv"]
    assert "# copy.dat: fits nothing: the same users and items, row by row, as ratings.csv" in text
    assert "ids of one kind, as of friends" in text


def test_a_column_of_actions_names_the_label(tmp_path: Path) -> None:
    events = (
        ratings(300)
        .drop(columns="rating")
        .assign(event_type=lambda rows: ["view", "view", "cart", "view", "purchase"] * 60)
    )
    events = events.assign(timestamp=lambda rows: rows.timestamp * 1000)
    events.to_csv(tmp_path / "events.csv", index=False)
    site, text = drafted(tmp_path)
    assert site.actions[0].column == "event_type"
    assert site.label == Label("purchase")
    assert "# ms since 1970: 2026-03-01 00:00 to 2026-03-13 11:00" in text


def test_rows_without_times_are_of_a_day_that_is_said_to_be_none(tmp_path: Path) -> None:
    ratings().drop(columns="timestamp").to_csv(tmp_path / "ratings.csv", index=False)
    site, text = drafted(tmp_path)
    assert site.actions[0].source.day is not None
    assert not site.has_counts
    assert "no column of times" in text
    (tmp_path / "ratings.csv").rename(tmp_path / "ratings-2026-02-03.csv")
    assert drafted(tmp_path)[0].actions[0].source.day == "name"


def test_a_day_that_may_be_the_month_is_left_to_the_user(tmp_path: Path) -> None:
    rows = ratings(12).assign(timestamp=[f"{1 + i}/{1 + i}/2026 10:00" for i in range(12)])
    rows.to_csv(tmp_path / "ratings.csv", index=False)
    site, text = drafted(tmp_path)
    assert site.actions[0].source.time_format == "d/M/yyyy H:mm"
    assert "the day or the month may be first" in text


def test_columns_that_give_the_item_away_are_left_out_of_actions(tmp_path: Path) -> None:
    rows = (
        ratings(200)
        .merge(movies()[["movieId", "title"]])
        .assign(device=lambda rows: [("phone", "desktop")[i // 7 % 2] for i in range(200)])
    )
    rows = rows.assign(review=[f"text {i}" for i in range(200)], site="main")
    rows.to_csv(tmp_path / "ratings.csv", index=False)
    site, text = drafted(tmp_path)
    assert list(site.actions[0].columns) == ["device"]
    assert "# title: the same in all rows of an item: left out" in text
    assert "# review: by its name known only afterwards: left out" in text
    assert "# site: constant: skipped ('main' in all rows)" in text


def test_packed_files_of_one_layout_are_one_source(tmp_path: Path) -> None:
    for part in range(3):
        with gzip.open(tmp_path / f"part-{part}.csv.gz", "wt") as file:
            ratings().iloc[part * 20 : part * 20 + 20].to_csv(file, index=False)
    movies().to_parquet(tmp_path / "films.parquet")
    site, _ = drafted(tmp_path)
    assert site.actions[0].source.pattern == "part-*.csv.gz"
    assert site.items is not None
    assert site.items.source.pattern == "films.parquet"


def test_a_pattern_takes_no_file_of_another_kind(tmp_path: Path) -> None:
    ratings().iloc[:30].to_csv(tmp_path / "a-1.csv", index=False)
    ratings().iloc[30:].to_csv(tmp_path / "a-2.csv", index=False)
    movies().to_csv(tmp_path / "a-3.csv", index=False)
    site, _ = drafted(tmp_path)
    assert sorted(action.source.pattern for action in site.actions) == ["a-1.csv", "a-2.csv"]


def test_a_file_is_written_over_only_with_force(tmp_path: Path) -> None:
    ratings().to_csv(tmp_path / "ratings.csv", index=False)
    out = tmp_path / "mine.py"
    out.write_text("# mine\n")
    with pytest.raises(UserError, match="exists: --force writes over it, --out names another file"):
        job.run([str(tmp_path)], out)
    assert out.read_text() == "# mine\n"
    job.run([str(tmp_path)], out, replaces=True)
    assert load_site(out).actions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "{folder}/none.csv"], "no such file: "),
        (["--from", "{folder}/empty"], "the folder has no files"),
        (["--from", "{folder}/only.md"], "no table among 1 files; only.md: by its name it has no rows"),
        (["--from", "{folder}/only.md", "--out", "{folder}/no/site.py"], "no such folder"),
        ([], "Missing option '--from'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "only.md").write_text("# notes\n")
    out = [] if "--out" in arguments else ["--out", "{folder}/new.py"]
    code, _, err = run_front_door("init", *(part.format(folder=tmp_path) for part in [*arguments, *out]), home=tmp_path)
    assert code > 0
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_same_column_of_two_tables_has_one_type(tmp_path: Path) -> None:
    ratings(100).assign(place=[i // 7 for i in range(100)]).to_csv(tmp_path / "ratings.csv", index=False)
    views = (
        ratings(100)
        .drop(columns="rating")
        .assign(movieId=lambda rows: 111 - rows.index % 12, place=[("a", "b")[i // 7 % 2] for i in range(100)])
    )
    views.to_csv(tmp_path / "views.csv", index=False)
    site, _ = drafted(tmp_path)
    one, other = (action.columns["place"] for action in site.actions)
    assert one == other


def test_columns_whose_names_no_feature_can_have_get_one(tmp_path: Path) -> None:
    ratings().assign(
        **{
            "größe": [("klein", "groß")[i // 7 % 2] for i in range(60)],
            "Wetter heute": [("gut", "schlecht")[i // 11 % 2] for i in range(60)],
        }
    ).to_csv(tmp_path / "r.csv", index=False)
    site, _ = drafted(tmp_path)
    assert site.actions[0].columns == {
        "größe": Category(buckets=16, name="context_column_5"),
        "Wetter heute": Category(buckets=16),
    }


def test_lists_of_what_was_shown_are_impressions(tmp_path: Path) -> None:
    rows = [
        f"u{i % 15},2026-03-0{1 + i % 9} 10:00,{' '.join(f'i{(i + j) % 12}-{int(j == i % 3)}' for j in range(3))}"
        for i in range(60)
    ]
    (tmp_path / "shown.csv").write_text("who,when,articles\n" + "\n".join(rows))
    site, text = drafted(tmp_path)
    assert site.impressions == Impressions(Files("shown.csv"), user="who", item="articles", separator=" ", at="when")
    assert "# 33.3% of 180 items in the lists were clicked" in text


def test_lists_without_labels_are_only_named(tmp_path: Path) -> None:
    rows = [f"u{i % 15},2026-03-0{1 + i % 9} 10:00,i{100 + i % 12} i{100 + (i + 1) % 12}" for i in range(60)]
    (tmp_path / "shown.csv").write_text("who,when,seen\n" + "\n".join(rows))
    films = movies().assign(movieId=lambda rows: "i" + rows.movieId.astype(str))
    films.to_csv(tmp_path / "movies.csv", index=False)
    out = tmp_path / "site.py"
    job.run([str(tmp_path)], out)
    assert (
        "# shown.csv: fits nothing: seen has several ids of movies.csv in a cell: write a row for each"
        in out.read_text()
    )


def test_names_stand_for_ids_where_there_are_none(tmp_path: Path) -> None:
    orders = pd.DataFrame(
        {
            "User ID": [f"u{i % 15}" for i in range(60)],
            "Product Name": [f"Brötchen {i % 11}" for i in range(60)],
            "Order Date": [f"{13 + i % 9}.03.2025" for i in range(60)],
            "Preis": [f"{i % 7},5" for i in range(60)],
        }
    )
    orders.to_csv(tmp_path / "orders.csv", sep=";", index=False, encoding="latin-1")
    site, text = drafted(tmp_path)
    (action,) = site.actions
    assert (action.name, action.user, action.item, action.at) == ("order", "User ID", "Product Name", "Order Date")
    assert action.columns == {"Preis": Number()}
    assert "# latin-1, separator ;, quotes" in text


def test_lists_of_ids_in_brackets_beside_the_clicked_ones_are_impressions(tmp_path: Path) -> None:
    articles = [f"art-{n}" for n in range(30)]
    pd.DataFrame({"article_id": articles, "headline": [f"News of {n}" for n in range(30)]}).to_csv(
        tmp_path / "articles.csv", index=False
    )
    shown = [[articles[(n + 7 * k) % 30] for k in range(4)] for n in range(60)]
    requests = {
        "req_id": [f"r{n}" for n in range(60)],
        "reader": [f"u{n % 9}" for n in range(60)],
        "at": [(START + timedelta(hours=n)).isoformat() for n in range(60)],
        "shown": list(map(json.dumps, shown)),
        "opened": [json.dumps(one[: n % 3]) for n, one in enumerate(shown)],
    }
    pd.DataFrame(requests).to_csv(tmp_path / "requests.csv", index=False)
    site, text = drafted(tmp_path)
    assert isinstance(site.impressions, Impressions)
    one = site.impressions
    assert (one.user, one.item, one.separator, one.chosen, one.request) == ("reader", "shown", ",", "opened", "req_id")
    assert "# 25.0% of the items were clicked" in text


def test_a_users_name_is_enough_where_the_items_are_told_by_values(tmp_path: Path) -> None:
    """Moments of Parquet are times under any name, objects in cells are no texts, and maps are objects, too."""
    things = pd.DataFrame({"thing": [f"T {n}'s" for n in range(20)], "title": [f"Thing {n}" for n in range(20)]})
    things.to_csv(tmp_path / "things.csv", index=False)
    seen = {
        "viewer": [n % 11 for n in range(80)],
        "thing": [f"T {n % 20}'s" for n in range(80)],
        "clicked": [n % 4 == 0 for n in range(80)],
        "mark": [START + timedelta(hours=n) for n in range(80)],
        "about": [{"weather": ("sun", "rain")[n % 2], "n": n % 3} for n in range(80)],
    }
    pd.DataFrame(seen).astype({"mark": "datetime64[ns]"}).to_parquet(tmp_path / "seen.parquet")
    site, text = drafted(tmp_path)
    assert isinstance(site.impressions, Impressions)
    assert (site.impressions.user, site.impressions.item, site.impressions.at) == ("viewer", "thing", "mark")
    assert site.items is not None
    assert "# about: objects such as" in text
    assert not site.impressions.columns


def test_a_query_is_told_for_lists_of_objects(tmp_path: Path) -> None:
    rows = [
        {"name": "view", "ts": n, "user": {"pseudo_id": f"u{n % 7}"}, "items": [{"sku": f"s{n % 5}", "price": n}]}
        for n in range(60)
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = " ".join(line.removeprefix("# ") for line in drafted_text(tmp_path).splitlines())
    assert "get_json_object(`user`, '$.pseudo_id') as who, one.`sku` as what from rows lateral view" in text
    assert "array<struct<`sku`: string, `price`: string>>" in text
