"""Threads that read partitions all the while, some of them long after they have planned, and record what they saw."""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from history.days import MARKS, Days, content_of, count_marks
from history.record import Content, History, Read
from pyspark.sql import functions as F

from conf.errors import error_line
from etl.tables import ALL

SLOW_S = 0.7  # from plan to read of a slow reader


@dataclass
class Readers:
    """Reads of one home, by threads or one by one."""

    days: Days
    history: History
    rng: random.Random
    _is_over: threading.Event = field(default_factory=threading.Event)
    # A fork copies only its own thread: locks that a reader holds at that moment would never be free in it.
    forking: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def going_on(self, number: int = 2) -> Iterator[None]:
        """Readers read inside the block; every second one is slow."""
        threads = [threading.Thread(target=self._go_on, args=(f"reader {n}", n % 2 == 1)) for n in range(number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _go_on(self, name: str, is_slow: bool) -> None:
        while not self._is_over.is_set():
            choices = [(target.table, day) for target in self.days.targets() for day in list(target.rows)]
            if choices:
                table, day = self.rng.choice(sorted(choices))
                self.read(name, table, day, is_slow=is_slow)
            self._is_over.wait(0.05)

    def read(self, reader: str, table: str, day: str, *, is_slow: bool = False) -> Content:
        """Read one partition and record it."""
        with self.forking:
            started = time.monotonic()
        content: Content = {}
        error = ""
        try:
            content = self._exported(day) if table == "export" else self._partition(table, day, is_slow)
        except Exception as failure:
            error = error_line(failure)
        self.history.reads.append(Read(reader, table, day, started, time.monotonic(), content, error))
        return content

    def _partition(self, table: str, day: str, is_slow: bool) -> Content:
        spark = self.days.spark
        with self.forking:
            if not spark.catalog.tableExists(table):
                return {}
            value = ALL[table].partition_value(date.fromisoformat(day))
            # Users and items that only a file names have no mark.
            rows = spark.table(table).where(F.col(ALL[table].partition) == value).groupBy(F.expr(MARKS[table])).count()
            rows._jdf.queryExecution().executedPlan()  # from here on its files are chosen
        if is_slow:
            time.sleep(SLOW_S)
        with self.forking:
            return content_of({row[0]: row[1] for row in rows.collect() if row[0] is not None})

    def _exported(self, day: str) -> Content:
        """As a reader does who has opened the folder: it stays his while another one takes its name."""
        path = self.days.home / f"export/dt={day}"
        try:
            folder = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if any(read.table == "export" and read.day == day and read.content for read in self.history.reads):
                raise
            return {}
        try:
            lines: list[str] = []
            for name in sorted(os.listdir(folder)):
                if name.endswith(".csv"):
                    with open(os.open(name, os.O_RDONLY, dir_fd=folder), encoding="utf-8") as file:
                        lines += file.read().splitlines()
            return content_of({mark: rows for mark, rows in count_marks(lines).items() if mark})
        finally:
            os.close(folder)
