"""Events that the server accepted, as the daily load finds them: each once, with the features of its list."""

from datetime import UTC, date, datetime, timedelta

import msgspec
import orjson
from pyspark.sql import SparkSession

from conf import Config
from etl.events import job
from etl.tables import dwd, ods
from etl.warehouse.store import Warehouse
from recsys.serve.events.event import Event
from recsys.serve.events.journal import Writer, open_folder, segment_path, segments
from recsys.serve.events.landing import journal_folder, land_served, landed_events, roll, served_folder

NOW = datetime.now(UTC).replace(microsecond=0)
REQUEST = "0123456789abcdef0123"


def event(event_id: str, kind: str, item: str, minutes: int, **fields: object) -> Event:
    ts = (NOW - timedelta(minutes=minutes)).isoformat()
    return Event(event_id, kind, "u1", item, ts, **fields)  # type: ignore[arg-type]


def test_accepted_events_are_loaded_once_with_the_features_of_their_list(spark: SparkSession, config: Config) -> None:
    folder = journal_folder(config)
    open_folder(folder)
    served_folder(config).mkdir(parents=True, exist_ok=True)
    about = {"user_id": "u1", "items": ["i1", "i2"], "features": {"user_rate": [0.25, 0.5], "item_rate": [None, 0.125]}}
    served = served_folder(config) / f"{NOW:%Y-%m-%dT%H}-vm-1.log"
    served.write_bytes(orjson.dumps({"request_id": REQUEST, **about}) + b"\n")
    events = [
        event(f"{REQUEST}-1", "impression", "i1", 30, position=1),
        event(f"{REQUEST}-2", "impression", "i2", 30, position=2),
        event(f"{REQUEST}-9", "impression", "i9", 30, position=9),  # no such place in the list
        event("elsewhere-1", "impression", "i1", 20, position=1),
        event("c1", "click", "i2", 10, impression_id=f"{REQUEST}-2"),
        event("c1", "click", "i2", 10, impression_id=f"{REQUEST}-2"),  # sent again
        event("yesterday", "like", "i1", 24 * 60),
    ]
    writer = Writer(folder)
    writer.append(b"".join(msgspec.json.encode(one) + b"\n" for one in events))
    with segment_path(folder, 1).open("ab") as torn:
        torn.write(b'{"event_id": "torn')
    content = segment_path(folder, 1).read_bytes()
    assert roll(config) == 0  # not old enough
    assert roll(config, everything=True) == 6
    # Killed after the files were written: the same landing again replaces them.
    segment_path(folder, 1).with_suffix(".landed").unlink()
    segment_path(folder, 1).write_bytes(content)
    assert roll(config, everything=True) == 6
    assert segments(folder) == [2]
    land_served(config, everything=True)
    assert not list(served_folder(config).iterdir())
    long_ago = (NOW - timedelta(days=9)).date()
    assert len(list(landed_events(config, long_ago, "UTC"))) == 6

    days = sorted({one.moment.date() for one in events})
    job.run(spark, config, [date.fromordinal(n) for n in range(days[0].toordinal(), days[-1].toordinal() + 1)])
    warehouse = Warehouse(spark, config)
    rows = {row["impression_id"]: row for row in warehouse.read(dwd.impression, days).collect()}
    assert {key: row["features"] for key, row in rows.items()} == {
        f"{REQUEST}-1": {"user_rate": 0.25},
        f"{REQUEST}-2": {"user_rate": 0.5, "item_rate": 0.125},
        f"{REQUEST}-9": None,
        "elsewhere-1": None,
    }
    assert {key: row["is_clicked"] for key, row in rows.items() if row["is_clicked"]} == {f"{REQUEST}-2": 1}
    acts = {row["event_id"]: row["action"] for row in warehouse.read(dwd.interaction, days).collect()}
    assert acts == {"c1": "click", "yesterday": "like"}
    assert warehouse.read(ods.quarantine, days).where("file like '%serve-%'").count() == 0
