"""Small days whose rows carry the version of what they come from, and the stages that load them.

A source is a folder of events, a file, or the business database; each time that it changes, it gets the next version.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from history.record import Target
from pyspark.sql import SparkSession

import millrace
from conf import Config, Paths
from conf.runs import start_run
from etl.relational.connection import connect
from etl.relational.database import find_database

DAY = timedelta(days=1)
# Of past years, in which no other test has rows. Imports get days of the future: nobody takes their users for his own.
FIRST, FIRST_IMPORT = date(1999, 3, 1), date(2051, 3, 1)
ORDERS = "history_orders"  # the import that has a watermark
COLUMNS = {"dim_user": "city", "dim_item": "author", "dwd_impression": "item_id", "dwd_interaction": "item_id"}
"""Where the mark of a row is, by table: `SOURCE|VERSION`."""
MARKS = COLUMNS | {
    "ops_watermark": "case when import_name like 'ingest %' then"
    " concat(dt, '|', regexp_extract(last_value, 'ratings-([0-9]+)', 1)) end"
}
"""SQL of a row's mark; null for rows without one."""


@dataclass
class Days:
    """The inputs of one home, and the command lines of its stages.

    Args:
        spark: for the business database.
        config: a home of its own.
        seed: of the sizes of versions.
        num_days: of each stage.
    """

    spark: SparkSession
    config: Config
    seed: int
    num_days: int = 2
    version: int = 0
    expected: dict[tuple[str, str, str], dict[str, dict[int, int]]] = field(default_factory=dict)
    """(stage, table, source) -> day -> version -> rows."""
    lines: list[str] = field(default_factory=list)
    orders: int = 0
    run_ids: list[str] = field(default_factory=list)
    folders: dict[str, list[str]] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    """Version -> content of the file that was ingested."""

    @property
    def home(self) -> Path:
        return self.config.get(Paths).root

    def targets(self) -> list[Target]:
        return [Target(stage, table, source, rows) for (stage, table, source), rows in self.expected.items()]

    def days(self, stage: str) -> list[date]:
        """The days that a stage is run for; the ingested file has rows of a day of its own."""
        if stage == "ingest":
            return [FIRST - 9 * DAY]
        first = FIRST_IMPORT if stage in ("import", "export") else FIRST
        number = self.num_days if stage in ("import", "export", "events") else 1
        return [first + n * DAY for n in range(number)]

    def expect(self, stage: str, table: str, source: str, day: date, rows: int, version: int | None = None) -> None:
        versions = self.expected.setdefault((stage, table, source), {}).setdefault(str(day), {})
        versions[self.version if version is None else version] = rows

    # --- the sources ---

    def create_database(self) -> None:
        with connect(self.spark, find_database(self.config, "business")) as connection:
            for statement in (
                "create table users (user_id varchar(64), gender varchar(8), age_group varchar(8), city varchar(64),"
                " registered_at timestamp)",
                "create table items (item_id varchar(64), title varchar(64), category varchar(64), author varchar(64),"
                " published_at timestamp)",
                "create table orders (id int)",
            ):
                connection.execute(statement)
            connection.commit()

    def change(self, stage: str, day: date, *, is_bad: bool = False) -> None:
        """Give the source of a stage its next version; a bad one has the same user twice, which the table refuses."""
        self.version += 1
        if stage == "import":
            self.change_database(is_bad=is_bad)
        elif stage == "events":
            self.land_events(day)
        elif stage == "ingest":
            self.write_file()
        elif stage == "collect":
            self.log_lines()
        elif stage == "results":
            with start_run(self.config, "fm", FIRST) as run:
                run.log_metrics("fine", "test", {"auc": 0.5 + self.version / 1000}, 10)
            self.run_ids.append(run.folder.name)

    def change_database(self, *, is_bad: bool = False) -> None:
        num_users, num_items = 3 + self.version % 5, 2 + self.version % 4
        with connect(self.spark, find_database(self.config, "business")) as connection:
            for table, column, number in (("users", "city", num_users), ("items", "author", num_items)):
                connection.execute(f"delete from {table}")
                names = [f"{table[0]}{n}" for n in range(number)] + ([f"{table[0]}0"] if is_bad else [])
                key = f"{table[:-1]}_id"
                for name in names:
                    connection.execute(f"insert into {table} ({key}, {column}) values ('{name}', 'db|{self.version}')")
            for _ in range(2):
                self.orders += 1
                connection.execute(f"insert into orders values ({self.orders})")
            connection.commit()
        if is_bad:
            return
        for day in self.days("import"):
            self.expect("import", "dim_user", "db", day, num_users)
            self.expect("import", "dim_item", "db", day, num_items)

    def land_events(self, day: date) -> None:
        """A folder with impressions of its day, of the day before that come late, and a line that is refused."""
        number, late = 4 + self.version % 5, 1 + self.version % 3
        ats = [f"{day}T10:00:{n:02d}Z" for n in range(number)]
        if day > FIRST:
            ats += [f"{day - DAY}T22:00:{n:02d}Z" for n in range(late)]
            self.expect("events", "dwd_impression", str(day), day - DAY, late)
        self.expect("events", "dwd_impression", str(day), day, number)
        base = {"type": "impression", "user_id": "u1", "item_id": f"{day}|{self.version}", "position": 1}
        events = [{**base, "event_id": f"{day}-{self.version}-{n}", "ts": at} for n, at in enumerate(ats)]
        self.folders[str(day)] = [*map(json.dumps, events), "no event"]
        self.write_folder(day)

    def write_folder(self, day: date) -> None:
        folder = self.config.get(Paths).landing("events", day)
        folder.mkdir(parents=True, exist_ok=True)
        # In one step: a landed file never changes while it is read.
        staged = folder.parent / "staged.jsonl"
        staged.write_text("\n".join(self.folders[str(day)]) + "\n", encoding="utf-8")
        staged.replace(folder / "events.jsonl")

    def write_file(self) -> None:
        number = 3 + self.version % 3
        rows = [f"u{n},{FIRST - 9 * DAY}|{self.version},4,{FIRST - 9 * DAY}T10:00:{n:02d}Z" for n in range(number)]
        day = FIRST - 9 * DAY
        self.expect("ingest", "dwd_interaction", f"{day}", day, number)
        self.expect("ingest", "ops_watermark", f"{day}", day, 1)
        self.files = {self.version: "user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n"}
        self.write_files()

    def write_files(self) -> None:
        for version, text in self.files.items():
            (self.home / f"ratings-{version}.csv").write_text(text, encoding="utf-8")

    def log_lines(self) -> None:
        for n in range(20):
            self.lines.append(json.dumps({"ts": f"{FIRST}T{n % 24:02d}:00:00Z", "id": f"{self.version}-{n}"}))
        with (self.home / "texts.log").open("a", encoding="utf-8") as log:
            log.write("\n".join(self.lines[-20:]) + "\n")

    # --- the stages ---

    def command(self, stage: str, day: date) -> list[str]:
        """The words after `millrace`."""
        commands = {
            "import": f"etl import --date {day}",
            "export": f"etl export --date {day}",
            "events": f"etl events --date {day}",
            "ingest": f"ingest interactions --ratings {self.home}/ratings-{max(self.files, default=0)}.csv --replace",
            "collect": f"etl collect --once {self.home}/texts.log",
            "results": "etl results",
            "vacuum": "warehouse vacuum --older-than-h 1",
        }
        return commands[stage].split()

    def run(self, stage: str, day: date) -> None:
        """Run a stage in this process, on the open session."""
        area, *words = self.command(stage, day)
        millrace.invoke_with(self.config, area, words)


def settings(home: Path, seed: int) -> dict[str, object]:
    """Of a home: a database in memory, an import with a watermark, an export to files, and small batches to collect."""
    return {
        "paths.home": str(home),
        "business.url": f"jdbc:derby:memory:history{seed}-{home.name};create=true",
        f"relational.imports.{ORDERS}.table": "orders",
        f"relational.imports.{ORDERS}.mode": "append",
        f"relational.imports.{ORDERS}.check_column": "id",
        "relational.exports.users.table": "dim_user",
        "relational.exports.users.path": f"file://{home}/export",
        "relational.exports.users.columns": ["city", "user_id"],
        "collect.kind": "texts",
        "collect.batch_bytes": 400,
        "collect.roll_records": 30,
        "collect.idle_s": 0,
        "ingest.max_refused": 0,
    }


def content_of(marks: Mapping[str, int]) -> dict[str, dict[int, int]]:
    """Rows by mark (`SOURCE|VERSION`) as rows by source and version."""
    content: dict[str, dict[int, int]] = {}
    for mark, rows in marks.items():
        source, _, version = mark.rpartition("|")
        content.setdefault(source, {})[int(version)] = rows
    return content


def count_marks(texts: list[str]) -> Counter[str]:
    return Counter(text.split(",")[0].strip('"') for text in texts)


def shuffled(rng: random.Random, values: list[date]) -> list[date]:
    return rng.sample(values, len(values))
