"""Layouts of the files that `millrace ingest` reads: separators, headers, and what their columns mean here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conf import UserError
from conf.cli import one_of

REQUIRED = ("user_id", "item_id", "timestamp")


@dataclass(frozen=True)
class FileFormat:
    """How a file is laid out."""

    separator: str
    names: Sequence[str] = ()
    """Column names in order, for files without a header."""
    renames: dict[str, str] = field(default_factory=dict)
    """The file's name of a column -> ours."""

    def column_names(self, path: Path) -> list[str]:
        """Column names as the warehouse has them: from the file's first line, or the format's own."""
        if self.names:
            return list(self.names)
        with path.open(encoding="utf-8", errors="replace") as file:
            header = file.readline().rstrip("\r\n")
        # RecBole writes `name:type`.
        names = [name.split(":")[0].strip() for name in header.split(self.separator)]
        return [self.renames.get(name, name) for name in names]


FORMATS: dict[str, FileFormat] = {
    "recbole": FileFormat(
        "\t", renames={"rating": "value", "class": "category", "movie_title": "title", "occupation": "city"}
    ),
    "movielens": FileFormat("::", names=("user_id", "item_id", "value", "timestamp")),
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
    for path, required in ((ratings, REQUIRED), (items, ("item_id",)), (users, ("user_id",))):
        if path is None:
            continue
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        names = layout.column_names(path)
        if missing := [name for name in required if name not in names]:
            raise UserError(f"{path}: no column {', '.join(missing)}; found {', '.join(names)}")
