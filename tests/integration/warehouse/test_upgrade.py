"""A home of the last release opens in this one, and one of a later release is refused: real homes and metastores."""

import json
import subprocess
from pathlib import Path

import pytest
from engines.postgres import postgres_server
from pyspark.sql import SparkSession
from support import ROOT, Millrace

from etl import compat
from etl.tables import SCHEMA_VERSION

KEPT = ROOT / "tests/data/homes"
KEPT_HOME = "file:/tmp/millrace-kept-home"  # of homes/make.py
NEWER = f"alter database default set dbproperties ('millrace.schema' = '{SCHEMA_VERSION + 1}')"


def unpack(spark: SparkSession, archive: Path, home: Path) -> None:
    """Unpack a kept home; its metastore learns where its folders are now."""
    home.mkdir(mode=0o700)
    subprocess.run(["tar", "xJf", str(archive), "-C", str(home)], check=True)
    jvm = compat.jvm_of(spark)
    derby, nothing = jvm.org.apache.derby.iapi.jdbc.AutoloadedDriver(), jvm.java.util.Properties()
    url = f"jdbc:derby:;databaseName={home}/metastore/db"
    connection = derby.connect(url, nothing)
    for table, column in (("SDS", "LOCATION"), ("DBS", "DB_LOCATION_URI")):
        for prefix in (KEPT_HOME, KEPT_HOME.replace(":", "://")):
            connection.createStatement().executeUpdate(
                f"update APP.{table} set {column} = 'file:{home}' || substr({column}, {len(prefix) + 1}) "
                f"where {column} like '{prefix}/%'"
            )
    connection.close()
    with pytest.raises(Exception, match="shutdown"):  # which Derby says by an exception
        derby.connect(f"{url};shutdown=true", nothing)


@pytest.fixture(params=sorted(KEPT.glob("*.tar.xz")), ids=lambda path: path.name.split(".")[0])
def kept_home(request: pytest.FixtureRequest, spark: SparkSession, millrace: Millrace) -> Path:
    unpack(spark, request.param, millrace.home)
    return millrace.home


@pytest.mark.slow
@pytest.mark.usefixtures("kept_home")
def test_a_home_of_an_earlier_release_opens_with_its_rows_and_the_new_columns(millrace: Millrace) -> None:
    """It was written on 26 November 2026: 13 tables have gained columns since."""
    columns = (
        "select count(*) impressions, count(context) context, "
        "(select count(*) from dim_item) items, (select count(attributes) from dim_item) attributes, "
        "(select count(visitor_id) from ods_click_stream_visit) visitors from dwd_impression"
    )
    done = millrace("sql", columns, "--format", "json")
    rows = [{"impressions": 290, "context": 0, "items": 60, "attributes": 0, "visitors": 0}]
    assert (done.returncode, json.loads(done.stdout)) == (0, rows), done.stderr
    upgraded = f"upgraded the tables to version {SCHEMA_VERSION} of the schema: 23 columns of 13"
    assert upgraded in " ".join(done.stderr.split())

    done = millrace.in_one_session("warehouse upgrade", "warehouse check dwd_impression", f'sql "{NEWER}"')
    assert done.returncode == 0, done.stderr
    again, checked = map(json.loads, done.stdout.split("\n")[:2])
    assert again == {"version": SCHEMA_VERSION, "tables": 0, "columns": 0}
    assert checked == {"2026-01-01": 290}

    refused = millrace("warehouse", "upgrade")
    assert (refused.returncode, refused.stdout) == (1, "")
    line = " ".join(refused.stderr.split())
    assert (
        f"have version {SCHEMA_VERSION + 1} of the schema, this release has {SCHEMA_VERSION}: a later release" in line
    )
    assert "Traceback" not in line


@pytest.mark.slow
@pytest.mark.wide
def test_a_shared_metastore_is_upgraded_by_command_alone(millrace: Millrace) -> None:
    with postgres_server() as server:
        metastore = server.as_metastore
        done = millrace("warehouse", "init", **metastore)
        assert done.returncode == 0, done.stderr
        done = millrace.in_one_session(
            "sql 'drop table dwd_impression'",
            "sql 'create table dwd_impression (impression_id string) partitioned by (dt string) stored as parquet'",
            **metastore,
        )
        assert done.returncode == 0, done.stderr
        server.sql("""delete from "DATABASE_PARAMS" where "PARAM_KEY" = 'millrace.schema'""")
        refused = millrace("sql", "select 1", **metastore)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].endswith("run `millrace warehouse upgrade` once")
        done = millrace("warehouse", "upgrade", **metastore)
        assert (done.returncode, json.loads(done.stdout)["tables"]) == (0, 1), done.stderr
        done = millrace("sql", "select context from dwd_impression", **metastore)
        assert done.returncode == 0, done.stderr
