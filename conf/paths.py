"""Where Millrace reads and writes: everything lies under one home, `MILLRACE_HOME` (default `.millrace/`)."""

from datetime import date
from pathlib import Path
from typing import ClassVar

from conf.settings import Settings


def file_url(path: Path) -> str:
    """`file://` and the path as it is: `Path.as_uri` would turn the = of a partition folder into %3D."""
    return f"file://{path}"


class Paths(Settings):
    """The folders of one installation. Code asks this object, it never joins folder names by hand."""

    section: ClassVar[str] = "paths"

    home: Path = Path(".millrace")
    """Root of all state on this machine; `MILLRACE_HOME` sets it too."""

    warehouse_root: str | None = None
    """Where tables lie, when not under the home: any Hadoop file system URL (hdfs://…, s3a://…)."""

    @property
    def root(self) -> Path:
        """The home as an absolute path, with `~` expanded; all other local folders lie under it."""
        # Absolute, because Spark, Ray and Airflow run parts of a job in working folders of their own.
        return self.home.expanduser().resolve()

    @property
    def warehouse(self) -> str:
        """URL of the warehouse folder, without a slash at the end."""
        url = self.warehouse_root or file_url(self.root / "warehouse")
        # Locations in the metastore are compared as text with this as their beginning.
        return url.rstrip("/")

    @property
    def metastore(self) -> Path:
        """Folder of the embedded metastore (a Derby database), its log and its lock; unused with PostgreSQL."""
        return self.root / "metastore"

    @property
    def runs(self) -> Path:
        """Parent of the run folders, `runs/<run_id>/` (see `conf.runs`), and of the promotions, `runs/promoted/`."""
        return self.root / "runs"

    @property
    def truth(self) -> Path:
        """The simulator's true click probabilities. Only `features oracle` reads them, no training job does."""
        # Apart from the landing zone, so that no feature can read what it should predict.
        return self.root / "truth"

    @property
    def business(self) -> Path:
        """The embedded Derby database that stands in for the company's relational database of users and items."""
        return self.root / "business"

    def landing(self, kind: str, day: date) -> Path:
        """Folder of a day's raw files, as the collector or the simulator put them there.

        `kind` is weblog, events, texts or images.
        """
        # `dt=` as Hive names partitions: Spark could read the landing zone as a table, and a line's day is in its path.
        return self.root / "landing" / kind / f"dt={day.isoformat()}"

    def datasets(self, kind: str, day: date) -> Path:
        """Folder of a day's data set in published versions (see `conf.versions`), as Parquet.

        `kind` is examples (a training set), candidates (rows to rank), or one of the others of features/dataset.
        """
        return self.root / "datasets" / kind / f"dt={day.isoformat()}"
