"""The site's clock as columns of Spark: what `conf/clock.py` is for single moments, in a session of UTC."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def local_time(moment: Column | str, zone: str) -> Column:
    """Date and time that the clocks of `zone` show, as a timestamp: its day and hour, and no moment any more."""
    return F.from_utc_timestamp(moment, zone)


def local_day(moment: Column | str, zone: str) -> Column:
    """The day, as 2026-01-07, that a timestamp is on by the clocks of `zone`."""
    return F.date_format(local_time(moment, zone), "yyyy-MM-dd")
