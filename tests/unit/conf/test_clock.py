"""What the site's clock shows, where days have 23, 24 or 25 hours."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from conf.clock import day_start, local_time

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("UTC", date(2026, 3, 8), "2026-03-08T00:00+00:00", 24),
        ("America/New_York", date(2026, 3, 8), "2026-03-08T05:00+00:00", 23),
        ("America/New_York", date(2026, 11, 1), "2026-11-01T04:00+00:00", 25),
        ("Europe/Berlin", date(2026, 10, 25), "2026-10-24T22:00+00:00", 25),
        ("Asia/Kolkata", date(2026, 1, 7), "2026-01-06T18:30+00:00", 24),
        # The clocks skip midnight, so the day begins at 01:00, as the one before ends.
        ("Asia/Beirut", date(2022, 3, 27), "2022-03-26T22:00+00:00", 23),
        # At midnight they go back to 23:00 of the day before.
        ("America/Sao_Paulo", date(2018, 2, 17), "2018-02-17T02:00+00:00", 25),
        # Midnight comes twice.
        ("America/Havana", date(2026, 11, 1), "2026-11-01T04:00+00:00", 25),
    ],
)
def test_a_day_ends_where_the_next_one_begins(zone: str, day: date, start: str, hours: int) -> None:
    assert day_start(day, zone) == datetime.fromisoformat(start)
    assert day_start(day + DAY, zone) - day_start(day, zone) == timedelta(hours=hours)
    # The first moment of the day, by the clock: a second before, it shows the day before.
    assert local_time(day_start(day, zone), zone).date() == day
    assert local_time(day_start(day, zone) - timedelta(seconds=1), zone).date() == day - DAY


def test_a_moment_without_a_zone_is_utc() -> None:
    noon = datetime(2026, 7, 1, 12)
    same = [noon, noon.replace(tzinfo=UTC), datetime(2026, 7, 1, 10, tzinfo=timezone(timedelta(hours=-2)))]
    assert {local_time(moment, "Europe/Berlin") for moment in same} == {datetime(2026, 7, 1, 14)}
    assert {local_time(moment, "UTC") for moment in same} == {noon}
