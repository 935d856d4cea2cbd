"""Settings of the warehouse jobs and the simulator."""

import re
from datetime import date
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from conf import Settings


class SparkSettings(Settings):
    """How Spark is started."""

    section: ClassVar[str] = "spark"

    master: str = "local[*]"
    """Where Spark runs: local[N], spark://host:7077, yarn, k8s://…"""
    deploy_mode: Literal["client", "cluster"] = "client"
    """Of `millrace submit --on spark`: the driver here, or in the cluster."""
    driver_memory: str = "4g"
    """Heap of the driver; in local mode all work happens there."""
    compile_little: bool = False
    """Spark makes no code of plans, and the JVM compiles fast and not thoroughly: less work for small days, where
    compiling costs more than it saves, and more for large ones. Spark's `catalog.listTables()` fails without that code;
    `SHOW TABLES` works."""
    python: str | None = None
    """Python of the executors, with Millrace's packages; the driver's own path when not given."""
    shuffle_partitions: int = Field(default=4, gt=0)
    """Partitions after a shuffle; adaptive execution merges small ones."""
    jdbc_jars: tuple[str, ...] = ("/usr/share/java/postgresql.jar", "/usr/share/java/mariadb-java-client.jar")
    """JDBC drivers, where they exist: those of Debian's libpostgresql-jdbc-java and libmariadb-java."""
    extra: dict[str, str] = Field(default_factory=dict)
    """Any further `spark.…` option, handed on as it is."""

    @property
    def is_local(self) -> bool:
        """Whether executors are threads of the driver."""
        return self.master.startswith("local")


def existing_jars(settings: SparkSettings) -> list[str]:
    """JDBC drivers of `spark.jdbc_jars` that this machine has."""
    return [jar for jar in settings.jdbc_jars if Path(jar).exists()]


class MetastoreSettings(Settings):
    """Where the definitions of the tables live."""

    section: ClassVar[str] = "metastore"

    url: str | None = Field(default=None, pattern="^jdbc:postgresql:")
    """JDBC URL of a PostgreSQL database, for several processes at once; the embedded Derby when not given. Make its
    schema once by `millrace warehouse init`."""
    user: str | None = None
    password: SecretStr | None = None
    lock_wait_s: float = Field(default=600.0, ge=0)
    """Seconds to wait for another Millrace process to leave the embedded metastore (it serves one at a time)."""


class SimulatorSettings(Settings):
    """The generated site. Sizes are for `--scale 1`."""

    section: ClassVar[str] = "simulator"

    start: date = date(2026, 1, 1)
    """First day."""
    users: int = Field(default=3000, gt=0)
    items: int = Field(default=600, gt=0)
    topics: int = Field(default=12, gt=1)
    requests_per_day: int = Field(default=2860, gt=0)
    """Lists of ten items shown in a day, over all users."""


class WeblogSettings(Settings):
    """Rules for web logs."""

    section: ClassVar[str] = "weblog"

    max_line_bytes: int = Field(default=65536, gt=0)
    """A longer line is quarantined: no browser or server sends one."""
    first_day: date = date(1990, 1, 1)
    """The calendar (dim_date) begins here; a line of an earlier day is quarantined."""
    last_day: date = date(2059, 12, 31)
    """The calendar ends here."""
    area_table: Path | None = None
    """CSV file with columns network (CIDR) and area: then visitors have areas (dim_area)."""
    funnels: dict[str, list[str]] = Field(default_factory=dict)
    """Name -> regular expressions of URLs, in order; `main` names its steps step1, step2 …, others NAME.step1 …"""

    @field_validator("funnels")
    @classmethod
    def _are_patterns(cls, funnels: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, steps in funnels.items():
            if not steps:
                raise ValueError(f"funnel {name} has no steps")
            for step in steps:
                try:
                    re.compile(step)
                except re.error as error:
                    raise ValueError(f"{step!r} is no regular expression: {error}") from None
        return funnels


class EventSettings(Settings):
    """Rules for events from the site."""

    section: ClassVar[str] = "events"

    max_line_bytes: int = Field(default=65536, gt=0)
    """A longer line is quarantined."""


class BusinessSettings(Settings):
    """The relational database that users and items are imported from."""

    section: ClassVar[str] = "business"

    url: str | None = None
    """JDBC URL; the simulator's embedded Derby under the home when not given."""
    user: str | None = None
    password: SecretStr | None = None
