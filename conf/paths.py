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
        """The home as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def warehouse(self) -> str:
        """URL of the warehouse folder, without a slash at the end."""
        return (self.warehouse_root or file_url(self.root / "warehouse")).rstrip("/")

    @property
    def metastore(self) -> Path:
        """Folder of the embedded metastore (Derby) and its lock."""
        return self.root / "metastore"

    @property
    def runs(self) -> Path:
        """One folder per training, ranking or tuning run: `runs/<run_id>/`."""
        return self.root / "runs"

    @property
    def truth(self) -> Path:
        """The simulator's true click probabilities. Only `features oracle` reads them, no training job does."""
        return self.root / "truth"

    @property
    def business(self) -> Path:
        """The embedded Derby database that stands in for the company's relational database of users and items."""
        return self.root / "business"

    def landing(self, kind: str, day: date) -> Path:
        """Folder of a day's raw files; `kind` is weblog, events, texts or images."""
        return self.root / "landing" / kind / f"dt={day.isoformat()}"

    def datasets(self, kind: str, day: date) -> Path:
        """Folder of a day's data set in published versions (see `conf.versions`), as Parquet.

        `kind` is examples (a training set), candidates (rows to rank), or one of the others of features/dataset.
        """
        return self.root / "datasets" / kind / f"dt={day.isoformat()}"
