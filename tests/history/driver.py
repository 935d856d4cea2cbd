"""Walk small days with kills, freezes, full and read-only disks, while readers read; then compare with a quiet run."""

import hashlib
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from history.checker import WHOLE_OR_NOTHING
from history.days import COLUMNS, FIRST, FIRST_IMPORT, ORDERS, Days, settings, shuffled
from history.forks import Act, End, drain, keep_connections, run_forked
from history.points import JOURNAL
from history.readers import Readers
from history.record import Attempt, History, Outcome, StageRow
from pyspark.sql import SparkSession

from conf import Config, Paths, path_of_url
from conf.errors import error_line
from etl.metastore import catalog
from etl.metastore.swaps import complete_interrupted
from etl.table import quote
from etl.tables import ALL
from etl.warehouse.store import Warehouse

STAGES = {"import": 6, "export": 4, "collect": 4, "results": 2, "vacuum": 2, "events": 2, "ingest": 3}
"""How often a stage is tried among the others."""
COMPARED = ("dim_user", "dim_item", "dwd_impression", "ads_ctr_daily", "ods_quarantine", "dwd_interaction")
TOUCHED = (*COMPARED, "ops_run", "ops_watermark", "ops_event_day", "ads_model_metric", "dim_model", f"ods_{ORDERS}")
OF_A_RUN = {"file", "line_number", "recorded_at"}  # columns that differ from home to home
HOME_BYTES = 64 << 20
TRIES = 3


@dataclass
class Driver:
    """One seed in one home."""

    spark: SparkSession
    config: Config
    seed: int
    stages: dict[str, int] = field(default_factory=lambda: dict(STAGES))
    is_mounted: bool = False
    history: History = field(init=False)
    days: Days = field(init=False)
    points: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage -> the moments that its last whole attempt passed."""
    killed_stage: str = ""
    """One of WHOLE_OR_NOTHING that was killed, until a command after it has ended."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.history = History(self.seed)
        self.days = Days(self.spark, self.config, self.seed)
        self.readers = Readers(self.days, self.history, random.Random(self.seed + 1))

    def walk(self, num_attempts: int) -> History:
        """Attempts in a random order with random faults, then every stage until it is done, and the end."""
        keep_connections()
        forget(self.spark, self.config)
        self.days.create_database()
        for day in self.days.days("events"):
            self.days.change("events", day)  # a late event is loaded when its own day has landed
        with self.readers.going_on():
            for _ in range(num_attempts):
                stage = self.rng.choices(list(self.stages), weights=list(self.stages.values()))[0]
                self.attempt(stage, self.rng.choice(self.days.days(stage)))
            self.finish()
        self.record_end()
        return self.history

    # --- attempts ---

    def attempt(self, stage: str, day: date, *, is_quiet: bool = False) -> End:
        """One attempt, on changed input or again on the same, with a fault unless it is quiet."""
        is_changed = stage != "export" and (not is_quiet or not self._has_input(stage, day)) and self.rng.random() < 0.8
        is_bad = is_changed and not is_quiet and stage == "import" and self.rng.random() < 0.15
        with self.readers.forking:
            if is_changed or not self._has_input(stage, day):
                self.days.change(stage, day, is_bad=is_bad)
        version = self._version(stage, day)
        if stage == "export" and version < 0:
            return self.attempt("import", day)  # nothing to export yet
        fault = "" if is_quiet or is_bad else self._choose_fault(stage)
        started = time.monotonic()
        end, fault = self._run(stage, day, fault)
        self.history.attempts.append(
            Attempt(
                stage, str(day), version, started, time.monotonic(), end.outcome, fault, end.error,
                must_fail=is_bad or self._is_bad_still(stage),
            )
        )  # fmt: skip
        self._look_after_a_kill(stage, end)
        return end

    def _look_after_a_kill(self, stage: str, end: End) -> None:
        """Read all that a killed stage changes together once another command has ended: the next may begin at once."""
        if end.outcome == "killed" and stage in WHOLE_OR_NOTHING:
            self.killed_stage = stage
        elif self.killed_stage and end.outcome == "done" and stage != "collect":
            for target in self.days.targets():
                if target.stage == self.killed_stage:
                    for day in list(target.rows):
                        self.readers.read("driver", target.table, day)
            self.killed_stage = ""

    def _has_input(self, stage: str, day: date) -> bool:
        if stage == "events":
            return str(day) in self.days.folders
        inputs = {"import": self.days.orders, "ingest": self.days.files, "collect": self.days.lines}
        return bool(inputs.get(stage, self.days.run_ids if stage == "results" else True))

    def _is_bad_still(self, stage: str) -> bool:
        """Whether the database has the rows of a bad version, which no import accepts."""
        return stage == "import" and self._version("import", FIRST) not in self._versions("import")

    def _versions(self, stage: str) -> set[int]:
        expected = self.days.expected.items()
        return {version for key, days in expected if key[0] == stage for rows in days.values() for version in rows}

    def _version(self, stage: str, day: date) -> int:
        """The version of the source that the attempt is going to publish."""
        if stage == "import":
            return self.database_version()
        if stage == "export":
            content = self.readers.read("driver", "dim_user", str(day)).get("db", {})
            for version, rows in content.items():
                self.days.expect("export", "export", "db", day, rows, version)
            return max(content, default=-1)
        if stage == "events":
            return int(self.days.folders[str(day)][0].split("|")[1].split('"')[0])
        return max(self.days.files, default=0) if stage == "ingest" else self.days.version

    def database_version(self) -> int:
        from etl.relational.connection import connect
        from etl.relational.database import find_database

        with self.readers.forking, connect(self.spark, find_database(self.config, "business")) as connection:
            return int(str(connection.query("select max(city) from users")[0][0]).split("|")[1])

    def _choose_fault(self, stage: str) -> str:
        if stage not in self.points:
            return ""  # the first one counts its moments
        choices = {
            "": 1,
            "kill": 5,
            "freeze": 2,
            "full disk": 1 * self.is_mounted,
            "read-only": 1 * self.is_mounted,
        }
        return self.rng.choices(list(choices), weights=list(choices.values()))[0]

    def _run(self, stage: str, day: date, fault: str) -> tuple[End, str]:
        act: Act | None = "kill" if fault == "kill" else "freeze" if fault == "freeze" else None
        at = self._choose_point(stage, act) if act else 0

        def job() -> None:
            if stage != "collect":
                complete_interrupted(self.spark, self.config)  # as every command does that opens a session
            self.days.run(stage, day)

        has_frozen: list[float] = []

        def look_on() -> None:
            has_frozen.append(time.monotonic())
            if "vacuum" in self.stages and self.rng.random() < 0.8:
                self._vacuum_beside(day)
            time.sleep(self.rng.uniform(0.1, 0.6))

        with self._broken_disk(fault) as fault:
            end = run_forked(
                job,
                act=act,
                at=at,
                while_frozen=look_on,
                forking=self.readers.forking,
                in_main_thread=stage == "collect",
            )
        if end.outcome == "killed":
            with self.readers.forking:  # no reader's job is cancelled
                drain(self.spark)
            return end, f"kill at {at}"
        if end.outcome == "done":
            self.points[stage] = end.points
        return end, ("freeze" if has_frozen else "") if act else fault

    def _choose_point(self, stage: str, act: Act) -> int:
        """The number of a moment, from 1. One in three is while the journal of a change is there, where there is one.

        Half of the freezes that remain come when a folder is written and no partition points at it: for `vacuum`.
        """
        names = dict(enumerate(self.points[stage], 1))
        journal = [number for number, name in names.items() if JOURNAL in name]
        if journal and self.rng.random() < 1 / 3:
            return self.rng.randint(journal[0], min(journal[-1] + 1, len(names)))
        staged = [number for number, name in names.items() if name == "after parquet"]
        if act == "freeze" and staged and self.rng.random() < 1 / 2:
            return self.rng.choice(staged)
        return self.rng.randint(1, len(names))

    def _vacuum_beside(self, day: date) -> None:
        """A vacuum while another attempt is frozen, as of a second session on PostgreSQL: it spares what is staged."""
        started, error = time.monotonic(), ""
        try:
            self.days.run("vacuum", day)
        except Exception as failure:
            error = error_line(failure)
        outcome: Outcome = "failed" if error else "done"
        times = started, time.monotonic()
        self.history.attempts.append(
            Attempt("vacuum", str(day), self.days.version, *times, outcome, error=error, is_beside=True)
        )

    @contextmanager
    def _broken_disk(self, fault: str) -> Iterator[str]:
        ballast = self.days.home / "ballast"
        if fault == "full disk":
            with ballast.open("wb", buffering=0) as out, suppress(OSError):
                while True:
                    out.write(bytes(1 << 16))
        elif fault == "read-only":
            command = ["mount", "-o", "remount,ro", str(self.days.home)]
            if subprocess.run(command, check=False, capture_output=True).returncode:
                fault = ""  # a file there is still being written
        try:
            yield fault
        finally:
            if fault == "read-only":
                subprocess.run(["mount", "-o", "remount,rw", str(self.days.home)], check=True, capture_output=True)
            ballast.unlink(missing_ok=True)

    # --- the end ---

    def finish(self) -> None:
        """Every stage of every day, in a random order, until it is done."""
        with self.readers.forking:
            self.days.change("import", FIRST)
        for stage in self.stages:
            for day in shuffled(self.rng, self.days.days(stage)):
                for _ in range(TRIES):
                    if self.attempt(stage, day, is_quiet=True).outcome == "done":
                        break

    def record_end(self) -> None:
        """What the tables have, and what is left over after a vacuum of everything."""
        history, days = self.history, self.days
        for table, day in {(t.table, d) for t in days.targets() for d in t.rows}:
            self.readers.read("at the end", table, day)
        history.targets = days.targets()
        history.runs = stage_rows(self.spark, days)
        history.lines = count_lines(self.spark, days)
        history.watermarks = watermarks(self.spark, days)
        history.final = digests(self.spark, self.config)
        millrace_vacuum(self.config)
        history.leftovers = leftovers(self.spark, self.config)
        history.quiet = self._quiet()
        forget(self.spark, self.config)

    def _quiet(self) -> dict[str, str]:
        """Digests of the last versions, loaded once and in another order into another home."""
        forget(self.spark, self.config)
        home = self.days.home.with_name(f"{self.days.home.name}-quiet")
        home.mkdir(parents=True, exist_ok=True)
        config = self.config.with_values({"paths.home": str(home), "relational.exports.users.path": f"file://{home}/e"})
        quiet = Days(self.spark, config, self.seed, folders=self.days.folders, files=self.days.files)
        for day in quiet.folders:
            quiet.write_folder(date.fromisoformat(day))
        quiet.write_files()
        for stage in ("ingest", "import", "events"):
            if stage in self.stages:
                for day in reversed(quiet.days(stage)):
                    quiet.run(stage, day)
        result = digests(self.spark, config)
        forget(self.spark, config)
        return result


def millrace_vacuum(config: Config) -> None:
    import millrace

    millrace.invoke_with(config, "warehouse", ["vacuum", "--older-than-h", "0"])


def own_partitions(spark: SparkSession, config: Config) -> Iterator[tuple[str, str, str, str]]:
    """(table, partition column, value, folder) of the partitions that lie in a home."""
    for table in catalog.table_names(spark):
        if table in TOUCHED:
            for values, url in catalog.partition_locations(spark, table):
                ((column, value),) = values.items()
                if catalog.comparable_url(url).startswith(catalog.comparable_url(config.get(Paths).warehouse) + "/"):
                    yield table, column, value, url


def forget(spark: SparkSession, config: Config) -> None:
    """Drop a home's partitions: all homes share the metastore of one warm session."""
    for table, column, value, _ in list(own_partitions(spark, config)):
        spark.sql(f"ALTER TABLE {table} DROP IF EXISTS PARTITION (`{column}` = {quote(value)})")


def digests(spark: SparkSession, config: Config) -> dict[str, str]:
    """Table -> number of rows in this home and a hash of them, in any order."""
    rows: dict[str, list[str]] = {table: [] for table in COMPARED}
    for table, column, value, _ in own_partitions(spark, config):
        # Users and items of a file stay when another one replaces its days.
        if table in COMPARED and not (table.startswith("dim_") and value < str(FIRST_IMPORT)):
            frame = spark.table(table).where(f"`{column}` = {quote(value)}")
            frame = frame.where(f"{COLUMNS[table]} is not null") if table in COLUMNS else frame
            frame = frame.drop(*[name for name in frame.columns if name in OF_A_RUN])
            rows[table] += [str(row) for row in frame.collect()]
    return {
        table: f"{len(texts)} rows, {hashlib.sha256('|'.join(sorted(texts)).encode()).hexdigest()[:12]}"
        for table, texts in rows.items()
    }


def stage_rows(spark: SparkSession, days: Days) -> list[StageRow]:
    own = {value for table, _, value, _ in own_partitions(spark, days.config) if table == "ops_run"}
    if not own:
        return []
    rows = Warehouse(spark, days.config).read(ALL["ops_run"], [date.fromisoformat(value) for value in own]).collect()
    names = ("rows_in", "rows_out", "rows_invalid", "rows_quarantined")
    return [StageRow(row["stage"], row["dt"], row["status"], *(row[name] for name in names)) for row in rows]


def count_lines(spark: SparkSession, days: Days) -> dict[str, int]:
    """How often each collected line, order and run is there."""
    landed: Counter[str] = Counter()
    for path in (days.home / "landing/texts").rglob("*.log"):
        if not path.name.startswith("."):
            landed.update(path.read_text(encoding="utf-8").splitlines())
    counts = {line: landed[line] for line in [*days.lines, *landed]}
    own = {table for table, *_ in own_partitions(spark, days.config)}
    if f"ods_{ORDERS}" in own:
        orders = Counter(row["id"] for row in spark.table(f"ods_{ORDERS}").collect())
        counts |= {f"order {n}": orders[n] for n in range(1, days.orders + 1)}
    if days.run_ids:
        loaded = Counter(row["run_id"] for row in spark.table("ads_model_metric").where(f"dt = '{FIRST}'").collect())
        counts |= {f"run {run_id}": loaded[run_id] for run_id in days.run_ids}
    return counts


def watermarks(spark: SparkSession, days: Days) -> dict[str, tuple[int, int]]:
    own = {table for table, *_ in own_partitions(spark, days.config)}
    if f"ods_{ORDERS}" not in own:
        return {}
    orders = [(row["dt"], row["id"]) for row in spark.table(f"ods_{ORDERS}").collect()]
    rows = spark.table("ops_watermark").where(f"import_name = '{ORDERS}'").collect()
    return {
        f"{ORDERS} {row['dt']}": (int(row["last_value"]), max(n for dt, n in orders if dt <= row["dt"])) for row in rows
    }


def leftovers(spark: SparkSession, config: Config) -> list[str]:
    """Folders and files in the home that nobody owns."""
    home = config.get(Paths).root
    local = [path_of_url(url) for *_, url in own_partitions(spark, config)]
    live = {path.parent for path in local if path is not None}
    strays = [path for path in (home / "warehouse").glob("*/run-*") if path not in live]
    # Of exports the last folder stays hidden, for who has opened it; Hadoop's checksums are hidden, too.
    patterns = ("**/.*.new", "**/.*.parquet", ".*", "**/*.json.*", "swaps.json", "landing/**/.*.open")
    hidden = [path for pattern in patterns for path in home.glob(pattern)]
    return [str(path.relative_to(home)) for path in dict.fromkeys([*strays, *hidden])]


@contextmanager
def home_of(folder: Path, *, is_small_disk: bool) -> Iterator[Path]:
    """An empty home, on a small file system of its own where that is allowed and asked for."""
    home = folder / "home"
    home.mkdir(parents=True)
    if is_small_disk:
        command = ["mount", "-t", "tmpfs", "-o", f"size={HOME_BYTES}", "tmpfs", str(home)]
        subprocess.run(command, check=True, capture_output=True)
    try:
        yield home
    finally:
        if is_small_disk:
            subprocess.run(["umount", "-l", str(home)], check=False, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Whether this user may have a file system of his own: root on Linux."""
    if os.geteuid() != 0:
        return False
    probe = folder / "probe"
    probe.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(probe)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(probe)], check=False, capture_output=True)
    return True


def run_seed(
    spark: SparkSession,
    config: Config,
    seed: int,
    folder: Path,
    attempts: int = 40,
    stages: Sequence[str] | None = None,
) -> History:
    """One seed in a folder of its own, which is created; `stages` are those of STAGES that it tries, or all."""
    is_mounted = can_mount(folder)
    weights = {stage: weight for stage, weight in STAGES.items() if stages is None or stage in stages}
    with home_of(folder, is_small_disk=is_mounted) as home:
        own = config.with_values(settings(home, seed))
        return Driver(spark, own, seed, weights, is_mounted=is_mounted).walk(attempts)
