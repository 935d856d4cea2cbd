"""The company's relational database: users and items in an embedded Derby, filled by Derby's own `ij` tool."""

import csv
import shutil
import subprocess
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pyspark

from conf import UserError
from etl.session import require_java
from etl.simulator.world import AGE_GROUPS, CITIES, GENDERS, TOPICS, World

TABLES = """
CREATE TABLE users (user_id VARCHAR(64) PRIMARY KEY, gender VARCHAR(8), age_group VARCHAR(8), city VARCHAR(64),
  registered_at TIMESTAMP);
CREATE TABLE items (item_id VARCHAR(64) PRIMARY KEY, title VARCHAR(256), category VARCHAR(64), author VARCHAR(64),
  published_at TIMESTAMP);
CALL SYSCS_UTIL.SYSCS_IMPORT_TABLE(NULL, 'USERS', '{users}', ',', '"', 'UTF-8', 0);
CALL SYSCS_UTIL.SYSCS_IMPORT_TABLE(NULL, 'ITEMS', '{items}', ',', '"', 'UTF-8', 0);
"""


def derby_url(folder: Path, *, create: bool = False) -> str:
    return f"jdbc:derby:{folder}" + (";create=true" if create else "")


def fill_database(world: World, folder: Path) -> None:
    """Make the database anew beside the old one, then put it in its place."""
    require_java()
    staged = folder.with_name(folder.name + ".new")
    work = folder.with_name(folder.name + ".csv")
    for old in (staged, work):
        shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True)
    _write_csv(work / "users.csv", _users(world))
    _write_csv(work / "items.csv", _items(world))
    script = work / "fill.sql"
    script.write_text(
        f"CONNECT '{derby_url(staged, create=True)}';\n"
        + TABLES.format(users=work / "users.csv", items=work / "items.csv")
        + "DISCONNECT;\nEXIT;\n"
    )
    _run_ij(script, work)
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
    shutil.rmtree(work)


def _run_ij(script: Path, work: Path) -> None:
    jars = Path(pyspark.__file__).parent / "jars"
    path = ":".join(str(jar) for jar in jars.glob("derby*.jar"))
    command = [
        "java",
        f"-Dderby.stream.error.file={work / 'derby.log'}",
        "-cp",
        path,
        "org.apache.derby.tools.ij",
        str(script),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    problems = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    if done.returncode or problems:
        raise UserError(f"the business database was not made: {(problems or [done.stderr.strip()])[0]}")


def _users(world: World) -> Iterable[list[str | None]]:
    first = datetime(world.settings.start.year, world.settings.start.month, world.settings.start.day)
    ages = world.rng(13).integers(1, 900, world.num_users)
    for i in range(world.num_users):
        registered = first - timedelta(days=int(ages[i]))
        gender, age = GENDERS[world.user_gender[i]], AGE_GROUPS[world.user_age[i]]
        yield [
            f"u{i}",
            gender,
            age,
            CITIES[(i * 7 + world.user_topic[i]) % len(CITIES)],
            f"{registered:%Y-%m-%d %H:%M:%S}",
        ]


def _items(world: World) -> Iterable[list[str | None]]:
    first = datetime(world.settings.start.year, world.settings.start.month, world.settings.start.day)
    for i in range(world.num_items):
        topic = TOPICS[world.item_topic[i] % len(TOPICS)]
        born = first + timedelta(days=int(world.item_birth[i]))
        yield [f"i{i}", f"{topic} no. {i}", topic, f"a{i % 97}", f"{born:%Y-%m-%d %H:%M:%S}"]


def _write_csv(path: Path, rows: Iterable[list[str | None]]) -> None:
    """Derby reads an empty unquoted field as null."""
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(
            ["" if value is None else value for value in row] for row in rows
        )
