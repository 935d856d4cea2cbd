"""How fast a day of web logs becomes all its tables, beside a bare Spark job and DuckDB that only parse the lines.

python -m benchmarks.etl --scale 4     # 2,000,000 lines
"""

import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.harness import report, scale_option
from conf import Config, load
from etl.session import spark_session
from etl.weblog import job as weblog

DAY = date(2026, 1, 7)
COLUMNS = ("addr", "ident", "user", "time", "request", "status", "bytes", "referer", "agent")
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
LINE = rf"^(\S+) (\S+) (\S+) \[([^\]]*)\] {_QUOTED} (\d{{3}}) (\d+|-)(?: {_QUOTED} {_QUOTED})?\s*$"
AGENTS = 3000
BLOCK = 100_000


def main() -> None:
    lines = int(500_000 * scale_option(__doc__))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_log(folder / "small.log", 20_000)
        write_log(folder / "access.log", lines)
        settings = [f"paths.home={folder / 'home'}", "weblog.funnels.main=[^/, ^/item/, ^/cart]"]
        config = load(overrides=settings, environment={})
        seconds = {}
        with spark_session(config) as spark:
            for name, parse in contenders(spark, config, folder).items():
                parse(folder / "small.log")  # warms up the JVM: the first run pays for compiling
                started = time.perf_counter()
                parse(folder / "access.log")
                seconds[name] = time.perf_counter() - started
        rates = {name: lines / duration for name, duration in seconds.items()}
        ratios = {f"chain_to_{name}": seconds["chain"] / seconds[name] for name in seconds if name != "chain"}
        report(f"{lines:,} log lines", rates, "lines/s", {"lines": lines, **ratios, "chain_s": seconds["chain"]})


def contenders(spark: SparkSession, config: Config, folder: Path) -> dict[str, Callable[[Path], None]]:
    """Name -> function that processes a log file: Millrace's whole chain, and three that only parse the lines."""
    return {
        "chain": lambda log: weblog_chain(spark, config, log),
        "bare_spark": lambda log: bare_spark(spark, log, folder / "bare"),
        "bare_spark_one_match": lambda log: bare_spark_one_match(spark, log, folder / "one"),
        "duckdb": lambda log: duckdb_parse(log, folder / "duck.parquet"),
    }


def weblog_chain(spark: SparkSession, config: Config, log: Path) -> None:
    """`etl weblog`: from the lines to every table of the day."""
    counts = weblog.run(spark, config, [DAY], [str(log)])
    # A quarantined line would skip the work that is measured.
    assert counts["rows_quarantined"] == 0, counts


def bare_spark(spark: SparkSession, log: Path, out: Path) -> None:
    """The usual way: `regexp_extract` once a column, so Spark matches each line nine times."""
    cells = [F.regexp_extract("value", LINE, n).alias(name) for n, name in enumerate(COLUMNS, 1)]
    spark.read.text(str(log)).select(*cells).write.mode("overwrite").parquet(str(out))


def bare_spark_one_match(spark: SparkSession, log: Path, out: Path) -> None:
    """The same columns with each line matched once, as Millrace does it: replace by the joined groups, then split."""
    joined = F.regexp_replace("value", LINE, "\x01".join(f"${n}" for n in range(1, 10)))
    split = spark.read.text(str(log)).select(F.split(joined, "\x01").alias("cells"))
    cells = [F.col("cells")[n].alias(name) for n, name in enumerate(COLUMNS)]
    split.select(*cells).write.mode("overwrite").parquet(str(out))


def duckdb_parse(log: Path, out: Path) -> None:
    """The same nine columns to one Parquet file, by DuckDB on all cores."""
    names = ", ".join(f"'{name}'" for name in COLUMNS)
    pattern = LINE.replace("'", "''")
    out.unlink(missing_ok=True)
    # \x02 occurs in no line: DuckDB's CSV reader then gives each line as one column.
    duckdb.sql(
        f"copy (select unnest(regexp_extract(line, '{pattern}', [{names}])) from read_csv('{log}', columns={{'line': "
        f"'varchar'}}, delim='\x02', quote='', escape='', header=false, auto_detect=false)) to '{out}' (format parquet)"
    )


def write_log(path: Path, lines: int) -> None:
    """A day's log: addresses and pages by Zipf's law, half of the lines static files, some robots."""
    rng = np.random.default_rng(7)
    agents = [f"Mozilla/5.0 (Windows NT {n % 11}.{n % 7}) Gecko/20100101 Firefox/{n}.0" for n in range(AGENTS)]
    agents[::50] = [f"Mozilla/5.0 (compatible; Googlebot/2.{n}; +http://www.google.com/bot.html)" for n in range(60)]
    with path.open("w") as out:
        for start in range(0, lines, BLOCK):
            count = min(BLOCK, lines - start)
            second = (
                np.sort(rng.integers(start * 86_400 // lines, (start + count) * 86_400 // lines + 1, count)) % 86_400
            )
            visitor, item = rng.zipf(1.3, count) % 200_000, rng.zipf(1.2, count) % 50_000
            kind, referrer, agent = (
                rng.integers(0, 10, count),
                rng.integers(0, 6, count),
                rng.integers(0, AGENTS, count),
            )
            out.writelines(
                _line(int(s), int(v), int(i), int(k), int(r), agents[a])
                for s, v, i, k, r, a in zip(second, visitor, item, kind, referrer, agent, strict=True)
            )


def _line(second: int, visitor: int, item: int, kind: int, referrer: int, agent: str) -> str:
    page = f"/item/{item}?from=feed" if kind < 4 else "/cart" if kind == 4 else f"/static/{item % 100}.js"
    referrers = (
        "-",
        "http://www.example.com/",
        f"http://www.google.com/search?q=item+{item}",
        f"http://blog{item % 500}.example.org/p?id={item}",
        "-",
        f"http://www.example.com/item/{item}",
    )
    return (
        f"10.{visitor >> 16}.{visitor >> 8 & 255}.{visitor & 255} - - "
        f"[07/Jan/2026:{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} +0000] "
        f'"GET {page} HTTP/1.1" 200 {1000 + item % 9000} "{referrers[referrer]}" "{agent}"\n'
    )


if __name__ == "__main__":
    main()
