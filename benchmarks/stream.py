"""How long after its end a window of hot topics is in its table, while texts arrive all the time.

python -m benchmarks.stream --scale 1     # 1,000 texts a second for a minute, windows of 9 s every 3 s
"""

import json
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.harness import scale_option
from conf import load
from etl.session import spark_session
from etl.streams import hot

SECONDS = 60
FILES_PER_S = 2


def main() -> None:
    per_second = int(1000 * scale_option(__doc__))
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        windows = [
            "stream.window=9 seconds",
            "stream.slide=3 seconds",
            "stream.watermark=1 second",
            "stream.trigger=1 second",
        ]
        config = load(overrides=[f"paths.home={home}", *windows], environment={})
        folder = home / "landing/texts/dt=now"
        folder.mkdir(parents=True)
        with spark_session(config) as spark:
            land(folder, "warm-up.jsonl", per_second)
            hot.run(spark, config, "hot-topics", once=True)  # warms up the JVM: the first run pays for compiling
            feeder = threading.Thread(target=feed, args=(folder, per_second))
            feeder.start()
            started = time.time()
            with hot.running(spark, config, "hot-topics") as query:
                feeder.join()
                time.sleep(10)  # the last windows end and pass the watermark
                progress = query.recentProgress
        # Windows of the first 15 s wait for the query to start.
        delays = np.array(sorted(window_delays(home / "warehouse/ads_hot_topic", started + 15)))
        rate = np.median([batch["processedRowsPerSecond"] for batch in progress if batch["numInputRows"]])
        figures = {
            "windows": len(delays),
            "latency_p50_s": np.quantile(delays, 0.5),
            "latency_p95_s": np.quantile(delays, 0.95),
        }
        print(f"{per_second} texts/s: windows in the table after their end (watermark 1 s, trigger 1 s)\n")
        print(
            f"  p50 {figures['latency_p50_s']:.1f} s, p95 {figures['latency_p95_s']:.1f} s of {len(delays)} windows\n"
        )
        print(
            json.dumps({**{name: round(float(value), 2) for name, value in figures.items()}, "rows_per_s": round(rate)})
        )


def feed(folder: Path, per_second: int) -> None:
    """Land a file every half second for a minute, as the collector does."""
    for number in range(SECONDS * FILES_PER_S):
        land(folder, f"texts-{number:04d}.jsonl", per_second // FILES_PER_S)
        time.sleep(1 / FILES_PER_S)


def land(folder: Path, name: str, count: int) -> None:
    """Write a file of `count` texts whose topics follow Zipf's law; it appears under its name when it is complete."""
    now = datetime.now(UTC).isoformat()
    topics = np.random.default_rng(len(name)).zipf(1.4, count) % 500
    rows = ({"text_id": f"{name}-{n}", "ts": now, "text": f"about #topic {topic}#"} for n, topic in enumerate(topics))
    # Spark's file source ignores names that begin with a dot, and a rename is atomic.
    (folder / f".{name}").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f".{name}").rename(folder / name)


def window_delays(table: Path, since: float) -> list[float]:
    """Seconds from the end of each window to the first file that holds it, for windows that end after `since`."""
    written_at: dict[datetime, float] = {}
    for file in sorted(table.glob("run-*/*/*.parquet"), key=lambda path: path.stat().st_mtime):
        for end in pq.read_table(file, columns=["window_end"])["window_end"].to_pylist():
            written_at.setdefault(end, file.stat().st_mtime)
    ends = {end.replace(tzinfo=UTC).timestamp(): at for end, at in written_at.items()}
    return [at - end for end, at in ends.items() if end > since]


if __name__ == "__main__":
    main()
