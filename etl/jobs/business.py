"""Users and items from the company's database, over JDBC, into dim_user and dim_item: `millrace etl import`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf import Config, Paths, UserError
from etl.session import SPARK_ERRORS
from etl.settings import BusinessSettings
from etl.simulator.business import derby_url
from etl.stage import stage_run, total_of
from etl.table import Table
from etl.tables import dim
from etl.warehouse import Warehouse


@dataclass(frozen=True)
class Import:
    """A source table and the warehouse table that its snapshot goes to."""

    source: str
    target: Table
    transform: Callable[[DataFrame], DataFrame]


def _as_it_is(rows: DataFrame) -> DataFrame:
    return rows


IMPORTS: dict[str, Import] = {
    "users": Import("users", dim.user, _as_it_is),
    "items": Import("items", dim.item, _as_it_is),
}


def run(spark: SparkSession, config: Config, day: date, names: Sequence[str]) -> dict[str, int]:
    """Import whole snapshots of `names` (all when empty) as the partitions of `day`."""
    warehouse = Warehouse(spark, config.get(Paths))
    with stage_run(warehouse, "import", [day]) as counts:
        for name in names or IMPORTS:
            entry = IMPORTS[name]
            rows = _read(spark, config, entry.source).transform(entry.transform)
            written = warehouse.write(entry.target, rows.withColumn("dt", F.lit(day.isoformat())), [day])[day]
            counts[day].rows_in += written
            counts[day].rows_out += written
    return total_of(counts)


def _read(spark: SparkSession, config: Config, table: str) -> DataFrame:
    settings = config.get(BusinessSettings)
    folder = config.get(Paths).business
    if settings.url is None and not folder.is_dir():
        raise UserError(
            f"no business database: set business.url, or make one with `millrace simulate` ({folder} is missing)"
        )
    options = {"url": settings.url or derby_url(folder), "dbtable": table}
    if settings.user:
        options["user"] = settings.user
    if settings.password:
        options["password"] = settings.password.get_secret_value()
    try:
        rows = spark.read.format("jdbc").options(**options).load()
    except SPARK_ERRORS as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"can't read table '{table}' of {settings.url or folder}: {cause}") from None
    return rows.toDF(*[name.lower() for name in rows.columns])
