"""What all of the warehouse's jobs share: the site's clock, and how Spark is started."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import ClassVar, Literal
from zoneinfo import available_timezones

from pydantic import Field, field_validator

from conf import Settings
from conf.clock import local_time


class SiteSettings(Settings):
    """What is true of the site as a whole."""

    section: ClassVar[str] = "site"

    timezone: str | None = None
    """Time zone of days and hours, as Europe/Berlin. Without it they are UTC's, a web log's those written in it. After
    a change, load all days and build their training sets again; values logged with impressions stay."""

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in available_timezones():
            raise ValueError(f"no time zone {name!r}: write it as Europe/Berlin")
        return name

    @property
    def zone(self) -> str:
        """Time zone of the days of everything but web logs: `timezone`, or UTC."""
        return self.timezone or "UTC"

    def today(self) -> date:
        """The day that it is by the site's clock, whatever the machine's."""
        return local_time(datetime.now(UTC), self.zone).date()


class SparkSettings(Settings):
    """How Spark is started."""

    section: ClassVar[str] = "spark"

    master: str = "local[*]"
    """Where Spark runs: local[N], spark://host:7077, yarn, k8s://…"""
    deploy_mode: Literal["client", "cluster"] = "client"
    """For `millrace submit --on spark`: the driver on this machine, or in the cluster."""
    driver_memory: str = "4g"
    """Heap of the driver; in local mode all work happens there."""
    compile_little: bool | None = None
    """No code generation in Spark and only the JVM's fast compiler: less CPU time for small days, where compiling costs
    more than it saves, and more for large ones. When not given, `etl weblog` does so for small logs. Spark's
    `catalog.listTables()` fails without code generation; `SHOW TABLES` works."""
    python: str | None = None
    """Python of the executors, with Millrace's packages; the driver's own path when not given."""
    shuffle_partitions: int = Field(default=4, gt=0)
    """Partitions after a shuffle; adaptive execution merges small ones."""
    jdbc_jars: tuple[str, ...] = ("/usr/share/java/postgresql.jar", "/usr/share/java/mariadb-java-client.jar")
    """JDBC drivers, where they exist: those of Debian's libpostgresql-jdbc-java and libmariadb-java."""
    extra: dict[str, str] = Field(default_factory=dict)
    """Any further `spark.…` option, passed to Spark unchanged."""

    @property
    def is_local(self) -> bool:
        """Whether executors are threads of the driver's own JVM: `local`, `local[4]`, `local[*]`."""
        return self.master.startswith("local")

    @property
    def installed_jdbc_jars(self) -> list[str]:
        """Those of `jdbc_jars` that this machine has; Spark would fail on a class path with others."""
        return [jar for jar in self.jdbc_jars if Path(jar).exists()]
