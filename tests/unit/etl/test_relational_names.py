"""Names of imports and exports are checked before Spark sees them; so are those of hosts in the landing zone."""

from datetime import date
from pathlib import Path

import pytest
from support import run_front_door

from conf import UserError, load
from etl.relational.database import find_database
from etl.relational.imports import find_imports
from etl.tables import ALL

NAMES = ("x'y", "../../x", "a b", "a;b", "a`b", "", "Orders", "1st", "a.b", "a" * 65)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["imports", "exports"])
def test_a_name_that_is_none_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    entry = {"imports": "{table: t}", "exports": "{table: ads_pv_daily, to: t}"}[kind]
    file = tmp_path / "site.yaml"
    file.write_text(f'relational: {{{kind}: {{"{name}": {entry}}}}}')
    with pytest.raises(UserError, match=f"setting relational.{kind}: .* is no name: write it as orders_2"):
        load(experiment=file, environment={})


def test_an_import_can_not_write_a_table_of_our_own(tmp_path: Path) -> None:
    own = [name.removeprefix("ods_") for name in ALL if name.startswith("ods_")]
    assert len(own) > 3
    for name in own:
        with pytest.raises(UserError, match=rf"ods_{name} is a table of Millrace's own; give the import another name"):
            find_imports(load(environment={}).with_values({f"relational.imports.{name}": {"table": "t"}}))
    file = tmp_path / "site.yaml"
    file.write_text(f"relational: {{imports: {{{own[0]}: {{table: t}}}}}}")
    day = date(2026, 1, 7)
    line = ["etl", "import", "--date", f"{day}", "--experiment", str(file)]
    code, out, err = run_front_door(*line, home=tmp_path / "home")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1  # Spark was not started


@pytest.mark.parametrize("setting", ["collect.host", "serving.instance"])
def test_a_host_is_no_way_out_of_the_landing_zone(setting: str) -> None:
    with pytest.raises(UserError, match=rf"setting {setting} = '\.\./\.\./x'"):
        load(overrides=[f"{setting}=../../x"], environment={})


def test_a_driver_gets_the_login_of_a_url_apart_from_it() -> None:
    config = load(environment={"MILLRACE__BUSINESS__URL": "jdbc:postgresql://host/db?user=me&password=geheim1"})
    database = find_database(config, "business")
    assert database.options["url"] == "jdbc:postgresql://host/db"
    assert (database.options["user"], database.options["password"]) == ("me", "geheim1")
    assert "geheim1" not in repr(database)
