import hashlib
from datetime import date
from pathlib import Path

import pytest
from support import ROOT

from conf import UsageError
from etl.table import InRange, NotNull, OneOf, References, Table, Unique, check_text, columns, quote
from etl.tables import ALL, SCHEMA_VERSION, ods, table_named
from etl.warehouse.dictionary import render

LAYERS = ("ods_", "dwd_", "dim_", "dws_", "ads_", "ops_", "dw_")  # dw_oute_nums has its name from the requirements


@pytest.mark.parametrize("table", ALL.values(), ids=lambda table: table.name)
def test_a_table_says_its_grain_and_checks_its_own_columns(table: Table) -> None:
    assert table.name.startswith(LAYERS)
    assert table.description.startswith("One row per ")
    names = table.column_names
    assert len(set(names)) == len(names)
    assert all(0 < len(column.comment) <= 256 for column in table.columns)  # more does not fit Hive's schema
    for check in table.all_checks:
        used = check.columns if isinstance(check, (NotNull, Unique)) else (getattr(check, "column", names[0]),)
        assert set(used) <= set(names)


def test_the_schema_has_another_version_when_a_column_changes() -> None:
    """Without it, a home of the release before would not be upgraded, and one of this release not be refused there."""
    tables = sorted(ALL.values(), key=lambda table: table.name)
    texts = [f"{t.name} {t.partition} {[(column.name, column.type) for column in t.columns]}" for t in tables]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    assert (SCHEMA_VERSION, digest) == (2, "2c6d4271e6e91eb4"), "raise SCHEMA_VERSION, and write both here"


def test_the_key_implies_not_null_and_unique() -> None:
    table = Table("ads_x", "One row per a", columns(("a", "int", "a")), key=("a",), checks=(InRange("a", 0),))
    assert table.all_checks == (NotNull(("a",)), Unique(("a",)), InRange("a", 0))


def test_ddl_carries_comments_and_quotes_them() -> None:
    table = Table("ads_x", "One row per user's a", columns(("a", "int", "it's a")))
    ddl = table.create_statement("file:/w/ads_x")
    assert "`a` int COMMENT 'it\\'s a'" in ddl
    assert "COMMENT 'One row per user\\'s a'" in ddl
    assert "PARTITIONED BY (`dt` STRING" in ddl
    assert quote("a\\b") == "'a\\\\b'"


def test_web_log_tables_keep_the_old_names_and_partition() -> None:
    assert ods.weblog_detail.column_names == [
        "valid",
        "remote_addr",
        "remote_user",
        "time_local",
        "daystr",
        "timestr",
        "month",
        "day",
        "hour",
        "request",
        "status",
        "body_bytes_sent",
        "http_referer",
        "ref_host",
        "ref_path",
        "ref_query",
        "ref_query_id",
        "http_user_agent",
    ]
    assert ods.weblog_detail.partition_value(date(2013, 9, 18)) == "20130918"


def test_an_unknown_table_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown table 'x'; tables are ads_ctr_daily"):
        table_named("x")


def test_checks_read_as_rules() -> None:
    assert check_text(InRange("p", 0, 1)) == "0 <= p <= 1"
    assert check_text(InRange("p", low=1)) == "1 <= p"
    assert check_text(OneOf("a", ("x", "y"))) == "a in (x, y)"
    assert check_text(References("a", ods.quarantine, "file")) == "a is a ods_quarantine.file"


def test_the_data_dictionary_in_the_docs_is_what_the_tables_say() -> None:
    assert Path(ROOT / "docs/data-dictionary.md").read_text() == render(), "run `make docs`"
