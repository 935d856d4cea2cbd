"""Where Millrace reads and writes: everything lies under one home, `MILLRACE_HOME` (default `.millrace/`)."""

import re
from datetime import date
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from conf.errors import UserError
from conf.settings import Settings

# Patterns of file names in Spark (* ? [ ] { } and backslash), parts of a URL in Petastorm and Arrow (# ? %), of one in
# Derby (; :), and what SQL and shells quote with. Control characters would break log lines and Spark's options file.
_REFUSED = re.compile(r"""[*?\[\]{}\\#%;:'"\x00-\x1f\x7f]""")
# Names of runs and versions: a first character that is no dot, then none that leads to another folder.
_ENTRY = re.compile(r"\w[\w.:+=@-]*")
_MAX_BYTES = 2000  # the metastore has 4,000 characters for a folder, Linux 4,096 bytes; run folders lie below the home


def file_url(path: Path) -> str:
    """`file://` and the path as it is: `Path.as_uri` would turn the = of a partition folder into %3D."""
    return f"file://{path}"


def path_of_url(url: str) -> Path | None:
    """The local path of a `file:` URL as `file_url` writes it; None for another file system's."""
    if not url.startswith("file:/"):
        return None
    # `file:/x`, as Hadoop writes it, and `file:///x` are the same file.
    return Path("/" + url.removeprefix("file:").lstrip("/"))


def entry(parent: Path, name: object, kind: str) -> Path:
    """The file or folder called `name` directly in `parent`; it need not exist.

    Names come from command lines, requests and files that others may have written: this is the one place that decides
    which are followed.

    Raises:
        UserError: the name is empty or leads elsewhere (`../../x`, `/etc`, `.`); `kind` says what it is a name of.
    """
    if not isinstance(name, str) or not _ENTRY.fullmatch(name):
        raise UserError(f"{kind} {name!r} is not the name of a folder in {parent}: letters, digits and _ - . : alone")
    return parent / name


def _refuse_name(text: str) -> None:
    """Raises ValueError, which becomes a UserError, for a path that a part of Millrace can't work with."""
    if refused := _REFUSED.search(text):
        raise ValueError(f"{text!r} has {refused[0]!r} in its name, which Spark or others can't work with")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name {text!r} is not UTF-8") from None


class Paths(Settings):
    """The folders of one installation. Code asks this object, it never joins folder names by hand."""

    section: ClassVar[str] = "paths"

    home: Path = Field(default=Path(".millrace"), validate_default=True)
    """Root of all state on this machine; `MILLRACE_HOME` sets it too. Its full path may have blanks and any letters,
    but none of * ? [ ] { } # % ; : ' ", no backslash, and no more than 2,000 bytes."""

    warehouse_root: str | None = Field(default=None, pattern="^[a-z][a-z0-9+.-]*:/")
    """Where tables lie, when not under the home: any Hadoop file system URL (hdfs://…, s3a://…)."""

    @field_validator("home")
    @classmethod
    def _is_usable(cls, home: Path) -> Path:
        # Before anything is written: Spark, Derby and Arrow would fail later, or write to another folder.
        try:
            root = home.expanduser().resolve()
        except RuntimeError as error:  # links in a circle, an unknown ~user
            raise ValueError(str(error)) from None
        text = str(root)
        _refuse_name(text)
        if (size := len(text.encode())) > _MAX_BYTES:
            raise ValueError(f"its full path has {size} bytes, more than {_MAX_BYTES}")
        if root.exists() and not root.is_dir():
            raise ValueError(f"{text} is not a folder")
        return home

    @field_validator("warehouse_root")
    @classmethod
    def _is_readable(cls, url: str | None) -> str | None:
        _refuse_name((url or "").partition(":")[2])
        return url

    @property
    def root(self) -> Path:
        """The home as an absolute path, with `~` expanded; all other local folders lie under it."""
        # Absolute, because Spark, Ray and Airflow run parts of a job in working folders of their own.
        return self.home.expanduser().resolve()

    def create_root(self) -> None:
        """Create the home, if there is none: for this user alone, because addresses of visitors are in it.

        One that is there stays as it is: who shares it with a cluster chose its mode. Raises UserError when it can't be
        created.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't create the home {self.root}: {error.strerror}") from None

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
    def swaps(self) -> Path:
        """The partitions that are changing together, as JSON; after a kill, what the next command completes."""
        return self.root / "swaps.json"

    @property
    def hive_scratch(self) -> Path:
        """Hive's temporary files: a folder `ID_resources` of each open session, which a kill leaves."""
        return self.root / "tmp/hive"

    @property
    def runs(self) -> Path:
        """Parent of the run folders, `runs/<run_id>/` (see `conf.runs`), and of the promotions, `runs/promoted/`."""
        return self.root / "runs"

    @property
    def truth(self) -> Path:
        """The simulator's true click probabilities. Read by `features oracle` and `demo --loop`, by no training job."""
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
