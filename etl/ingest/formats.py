"""Public data sets' own layouts, by name: what their files don't say themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from etl.ingest.columns import FileRole


@dataclass(frozen=True)
class FileFormat:
    """What is known of a data set's files; the rest is detected."""

    separator: str | None = None
    names: Mapping[FileRole, tuple[str, ...]] = field(default_factory=dict)
    """Column names in order, of files without a header."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The file's name of a column -> ours, where it isn't a usual one."""


AUTO = "auto"
FORMATS: dict[str, FileFormat] = {
    AUTO: FileFormat(),
    # Not its years and genres only: what it calls occupation is the nearest to a group of people that it has.
    "recbole": FileFormat("\t", columns={"class": "category", "occupation": "city"}),
    "movielens": FileFormat(
        "::",
        names={
            "ratings": ("user_id", "item_id", "rating", "timestamp"),
            "items": ("item_id", "title", "genres"),
            "users": ("user_id", "gender", "age", "occupation", "zip_code"),
        },
    ),
    "movielens-csv": FileFormat(","),
    "events": FileFormat(","),
}
