"""Layouts of the files that `millrace ingest` reads: separators, headers, and what their columns mean here."""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conf import UserError
from conf.console.cli import one_of

REQUIRED = ("user_id", "item_id", "timestamp")


@dataclass(frozen=True)
class FileFormat:
    """How a file is laid out."""

    separator: str
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Column names in order, of the ratings, items and users, for files without a header."""
    renames: dict[str, str] = field(default_factory=dict)
    """The file's name of a column -> ours."""

    def column_names(self, path: Path, kind: str) -> list[str]:
        """Column names as the warehouse has them: from the file's first line, or the format's own for `kind`."""
        if self.names:
            return list(self.names[kind])
        open_text = gzip.open if path.suffix == ".gz" else open  # as Spark decides it
        with open_text(path, "rt", encoding="utf-8", errors="replace") as file:
            header = file.readline().rstrip("\r\n")
        # RecBole writes `name:type`.
        names = [name.split(":")[0].strip() for name in header.split(self.separator)]
        return [self.renames.get(name, name) for name in names]


FORMATS: dict[str, FileFormat] = {
    "recbole": FileFormat(
        "\t", renames={"rating": "value", "class": "category", "movie_title": "title", "occupation": "city"}
    ),
    "movielens": FileFormat(
        "::",
        names={
            "ratings": ("user_id", "item_id", "value", "timestamp"),
            "items": ("item_id", "title", "category"),
            "users": ("user_id", "gender", "age", "occupation", "zip_code"),
        },
    ),
    "movielens-csv": FileFormat(
        ",", renames={"userId": "user_id", "movieId": "item_id", "rating": "value", "genres": "category"}
    ),
    "events": FileFormat(","),
}


def check_files(format_name: str, ratings: Path, items: Path | None, users: Path | None) -> None:
    """Check that the files are there and have their required columns, before Spark starts.

    Args:
        format_name: one of `FORMATS`.
        ratings: needs user_id, item_id and timestamp.
        items: needs item_id.
        users: needs user_id.

    Raises:
        UsageError: for an unknown format.
        UserError: for a missing file or column, by its name.
    """
    layout = FORMATS[one_of("format", format_name, FORMATS)]
    files = {"ratings": (ratings, REQUIRED), "items": (items, ("item_id",)), "users": (users, ("user_id",))}
    for kind, (path, required) in files.items():
        if path is None:
            continue
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        names = layout.column_names(path, kind)
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path}: two columns {', '.join(doubled)}; found {', '.join(names)}")
        if missing := [name for name in required if name not in names]:
            raise UserError(f"{path}: no column {', '.join(missing)}; found {', '.join(names)}")
