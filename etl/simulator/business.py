"""The company's relational database: users and items in an embedded Derby, filled by Derby's own `ij` tool."""

import csv
import shutil
import subprocess
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from pathlib import Path

import pyspark

from conf import UserError
from conf.machine.processes import utf8_locale
from etl.session import require_java
from etl.simulator.world import AGE_GROUPS, CITIES, GENDERS, TOPICS, World

IJ_TIMEOUT_S = 600
# The last argument of SYSCS_IMPORT_TABLE: 0 inserts, anything else would empty the table first.
SCHEMA = """
CREATE TABLE users (user_id VARCHAR(64) PRIMARY KEY, gender VARCHAR(8), age_group VARCHAR(8), city VARCHAR(64),
  registered_at TIMESTAMP);
CREATE TABLE items (item_id VARCHAR(64) PRIMARY KEY, title VARCHAR(256), category VARCHAR(64), author VARCHAR(64),
  published_at TIMESTAMP);
CALL SYSCS_UTIL.SYSCS_IMPORT_TABLE(NULL, 'USERS', '{users}', ',', '"', 'UTF-8', 0);
CALL SYSCS_UTIL.SYSCS_IMPORT_TABLE(NULL, 'ITEMS', '{items}', ',', '"', 'UTF-8', 0);
"""

Row = list[str | None]


def fill_database(world: World, folder: Path) -> None:
    """Write users and items into a new Derby database, then put it in the place of the one in `folder`.

    Bulk-loaded from CSV by Derby's command-line tool: a JVM of its own, because a Derby that this process had opened
    could not be opened by Spark.

    Raises:
        UserError: if there is no Java, or Derby reports an error.
    """
    require_java()
    staged = folder.with_name(folder.name + ".new")
    work = folder.with_name(folder.name + ".csv")
    for leftover in (staged, work):  # of a simulation that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    work.mkdir(parents=True)
    _write_csv(work / "users.csv", _users(world))
    _write_csv(work / "items.csv", _items(world))
    script = work / "fill.sql"
    script.write_text(
        f"CONNECT 'jdbc:derby:{staged};create=true';\n"
        + SCHEMA.format(users=work / "users.csv", items=work / "items.csv")
        + "DISCONNECT;\nEXIT;\n",
        encoding="utf-8",
    )
    _run_ij(script, work)
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
    shutil.rmtree(work)


def _run_ij(script: Path, work: Path) -> None:
    jars = (Path(pyspark.__file__).parent / "jars").glob("derby*.jar")
    log_file = f"-Dderby.stream.error.file={work / 'derby.log'}"  # else derby.log lands in the current folder
    class_path = ":".join(str(jar) for jar in jars)
    command = ["java", "-Dfile.encoding=UTF-8", log_file, "-cp", class_path, "org.apache.derby.tools.ij", str(script)]
    with utf8_locale():
        process = subprocess.run(command, capture_output=True, text=True, timeout=IJ_TIMEOUT_S, check=False)
    # ij ends with 0 even where a statement failed: its output has to be read.
    errors = [line for line in process.stdout.splitlines() if line.startswith("ERROR")]
    if process.returncode or errors:
        raise UserError(f"can't create the business database: {(errors or [process.stderr.strip()])[0]}")


def _users(world: World) -> Iterable[Row]:
    site_start = datetime.combine(world.settings.start, time())
    account_age_days = world.rng(13).integers(1, 900, world.num_users)
    for i in range(world.num_users):
        registered = site_start - timedelta(days=int(account_age_days[i]))
        # City follows number and topic, without a draw of its own.
        city = CITIES[(i * 7 + world.user_topic[i]) % len(CITIES)]
        gender, age_group = GENDERS[world.user_gender[i]], AGE_GROUPS[world.user_age[i]]
        yield [f"u{i}", gender, age_group, city, f"{registered:%Y-%m-%d %H:%M:%S}"]


def _items(world: World) -> Iterable[Row]:
    site_start = datetime.combine(world.settings.start, time())
    for i in range(world.num_items):
        topic = TOPICS[world.item_topic[i] % len(TOPICS)]
        published = site_start + timedelta(days=int(world.item_birth[i]))
        yield [f"i{i}", f"{topic} no. {i}", topic, f"a{i % 97}", f"{published:%Y-%m-%d %H:%M:%S}"]


def _write_csv(path: Path, rows: Iterable[Row]) -> None:
    # Derby reads an empty unquoted field as null.
    fields = (["" if value is None else value for value in row] for row in rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(fields)
