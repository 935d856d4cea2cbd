"""The files that a site declares: found, laid out as they are, and refused with the line of the declaration."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from data.shop import DAYS, write_shop

from conf import Config, load
from conf.site import SiteError, load_site
from conf.site.loading import site_file
from etl.ingest.sites.job import examine_site
from etl.ingest.sites.source_columns import remember_columns


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(overrides=[f"paths.home={tmp_path / 'home'}"], environment={})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop", shown=600)


def faults_of(config: Config, file: Path, day: date | None = None) -> list[str]:
    with pytest.raises(SiteError) as error:
        examine_site(config, load_site(file), file.parent, day)
    return [str(fault) for fault in error.value.faults]


def test_a_pattern_takes_all_days_or_one(config: Config, file: Path) -> None:
    site = load_site(file)
    every = examine_site(config, site, file.parent, None)
    assert [group[0].role for group in every.values()] == ["items", "users", "ratings", "impressions"]
    (carts,) = every[2]
    assert [Path(name).name for name in carts.files] == [f"{day}.csv" for day in DAYS]
    assert carts.action == "add_to_cart"
    assert carts.columns.sources == {"user_id": "who", "item_id": "what", "timestamp": "when"}
    (of_day,) = examine_site(config, site, file.parent, date.fromisoformat(DAYS[2]))[2]
    assert [Path(name).name for name in of_day.files] == [f"{DAYS[2]}.csv"]
    # A day without orders is no fault.
    (file.parent / "carts" / f"{DAYS[3]}.csv").write_text("when,who,what\n")
    assert 2 not in examine_site(config, site, file.parent, date.fromisoformat(DAYS[3]))


def test_nothing_is_guessed(config: Config, file: Path) -> None:
    items = examine_site(config, load_site(file), file.parent, None)[0][0]
    # `brand` and `label` would be an author or a title to a guess.
    assert items.columns.sources == {"item_id": "sku", "title": "label"}
    assert items.columns.others == ("Price (EUR)", "brand", "uses", "label")


def test_what_is_missing_is_told_with_its_line_all_at_once(config: Config, file: Path) -> None:
    (file.parent / "customers.jsonl").unlink()
    products = file.parent / "products.csv"
    products.write_text(products.read_text().replace("brand", "brands"))
    missing, renamed = faults_of(config, file)
    assert missing.startswith("site.py:5: ")
    assert "products.csv: no column brand; found sku, label, Price (EUR), brands, uses; did you mean brands?" in missing
    assert renamed.startswith("site.py:12: no file ")
    assert renamed.endswith("shop/customers.jsonl")


def test_columns_that_come_or_go_overnight_stop_the_load(config: Config, file: Path) -> None:
    site = load_site(file)
    remember_columns(config, site, examine_site(config, site, file.parent, None))
    examine_site(config, site, file.parent, None)
    products = file.parent / "products.csv"
    products.write_text(
        "\n".join(line + ",x" for line in products.read_text().splitlines()).replace("uses,x", "uses,hue")
    )
    assert faults_of(config, file) == [
        "site.py:5: products.csv: other columns than it had: new: hue; if so it shall be, say Files(…, "
        'changes="evolve"). Nothing was changed'
    ]
    lenient = file.with_name("lenient.py")
    lenient.write_text(file.read_text().replace('Files("products.csv")', 'Files("products.csv", changes="evolve")'))
    groups = examine_site(config, load_site(lenient), file.parent, None)
    assert groups[0][0].dialect.names[-1] == "hue"
    assert groups[0][0].columns.others == ("Price (EUR)", "brand", "uses", "label")  # what is not declared is left out
    remember_columns(config, site, groups)
    examine_site(config, site, file.parent, None)  # as it was loaded last


@pytest.mark.parametrize("changes", ["discard_value", "discard_row"])
def test_values_or_rows_of_changed_files_are_left_out_where_it_is_declared(
    config: Config, file: Path, caplog: pytest.LogCaptureFixture, changes: str
) -> None:
    file.write_text(file.read_text().replace('Files("products.csv")', f'Files("products*.csv", changes="{changes}")'))
    site = load_site(file)
    remember_columns(config, site, examine_site(config, site, file.parent, None))
    products = pd.read_csv(file.parent / "products.csv", dtype=str)
    products.assign(sku="x" + products["sku"]).drop(columns="uses").to_csv(file.parent / "products-2.csv", index=False)
    groups = examine_site(config, site, file.parent, None)
    by_file = {Path(group.files[0]).name: group for group in groups[0]}
    assert by_file["products.csv"].columns.others == ("Price (EUR)", "brand", "uses", "label")
    assert by_file["products-2.csv"].columns.others == ("Price (EUR)", "brand", "label")
    assert "products-2.csv: no column uses: its rows have no value of it" in caplog.text
    assert {name: group.is_refused for name, group in by_file.items()} == {
        "products.csv": False,
        "products-2.csv": changes == "discard_row",
    }
    remember_columns(config, site, groups)
    again = examine_site(config, site, file.parent, None)[0]  # what was refused is no rule for the next load
    assert sorted(group.is_refused for group in again) == [False, changes == "discard_row"]


@pytest.mark.parametrize(
    ("name", "folder", "rows_of"),
    [
        ("movielens-100k", "ml-100k", ["items", "users", "ratings"]),
        ("frappe", "frappe", ["items", "ratings"]),
        ("frappe-x1", "frappe_x1", ["impressions"] * 3),
        ("mind", "mind-news", ["items", "impressions"]),
        ("online-retail", "online-retail/by-day", ["ratings"]),
        ("book-crossing", "book-crossing", ["users", "ratings"]),
        ("lastfm", "lastfm-hetrec", ["items", "ratings"]),
    ],
)
def test_a_ready_site_fits_its_data_set(
    config: Config, real_data: Path, name: str, folder: str, rows_of: list[str]
) -> None:
    groups = examine_site(config, load_site(site_file(name)), real_data / folder, None)
    assert [group[0].role for group in groups.values()] == rows_of


@pytest.mark.parametrize("file", sorted(site_file("mind").parent.glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_a_ready_site_has_at_most_30_lines(file: Path) -> None:
    assert len(file.read_text().split("SITE = ")[1].splitlines()) <= 30
