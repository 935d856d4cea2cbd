"""Which databases there are, and which tables come from and go to them."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from conf import Settings
from conf.settings import SettingsEntry

BUSINESS = "business"
DIMENSIONS = ("users", "items")  # imports whose tables are dim_user and dim_item
_NAME = re.compile("[a-z][a-z0-9_]{0,63}")  # a part of a table's name and of a folder's


class BusinessSettings(Settings):
    """The relational database that users and items are imported from."""

    section: ClassVar[str] = "business"

    url: str | None = None
    """JDBC URL; the simulator's embedded Derby under the home when not given."""
    user: str | None = None
    password: SecretStr | None = None


class DatabaseSettings(SettingsEntry):
    """One database."""

    url: str
    """JDBC URL: jdbc:postgresql://host/name, jdbc:mariadb://host/name, jdbc:derby:/folder"""
    user: str | None = None
    password: SecretStr | None = None


class ImportSettings(SettingsEntry):
    """A table to import into `ods_NAME`, partitioned by day."""

    table: str
    """The source: TABLE or SCHEMA.TABLE."""
    database: str = BUSINESS
    mode: Literal["snapshot", "append", "merge"] = "snapshot"
    """snapshot: all rows each day. append: the day's partition has the rows added since the day before. merge: the
    newest state of every key, from the day before's partition and the rows changed since."""
    where: str | None = None
    """Only rows for which this SQL holds."""
    columns: list[str] = Field(default_factory=list)
    """Only these; all when empty."""
    types: dict[str, str] = Field(default_factory=dict)
    """Column -> SQL type to read it as, where the database's own does not fit."""
    split_by: str | None = None
    """Number, date or time column by whose ranges several connections read at once."""
    connections: int = Field(default=4, gt=0)
    """How many, with `split_by`."""
    check_column: str | None = None
    """Grows with every row added (append) or changed (merge): an id, or a time of change."""
    key: list[str] = Field(default_factory=list)
    """Names a row, for merge."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.mode != "snapshot" and not self.check_column:
            raise ValueError(f"mode {self.mode} needs check_column")
        if self.mode == "merge" and not self.key:
            raise ValueError("mode merge needs key")
        return self


class ExportSettings(SettingsEntry):
    """A warehouse table to export, a day at a time: to a table that exists, or to text files."""

    table: str
    """The warehouse's table."""
    database: str = BUSINESS
    to: str | None = None
    """The target: TABLE or SCHEMA.TABLE, which must exist."""
    mode: Literal["append", "upsert"] = "append"
    key: list[str] = Field(default_factory=list)
    """Columns with a unique constraint, for upsert."""
    columns: list[str] = Field(default_factory=list)
    """Only these; all of the table when empty, with its partition column where the target has it."""
    path: str | None = None
    """Folder for text files, instead of `to`."""
    delimiter: str = ","
    """Of text files: , (CSV with quotes) or \\u0001 (Hive's own text format)."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.to is None) == (self.path is None):
            raise ValueError("needs either `to` (a table) or `path` (text files)")
        if self.mode == "upsert" and not self.key:
            raise ValueError("mode upsert needs key")
        if len(self.delimiter) != 1:
            raise ValueError("delimiter is one character")
        return self


class RelationalSettings(Settings):
    """Databases beside the business one, and what is imported from and exported to them."""

    section: ClassVar[str] = "relational"

    databases: dict[str, DatabaseSettings] = Field(default_factory=dict)
    imports: dict[str, ImportSettings] = Field(default_factory=dict)
    """Besides others, `users` and `items`: where dim_user and dim_item come from, if not from tables of these names."""
    exports: dict[str, ExportSettings] = Field(default_factory=dict)

    @field_validator("imports", "exports")
    @classmethod
    def _have_names(cls, entries: dict[str, Any]) -> dict[str, Any]:
        if wrong := [name for name in entries if not _NAME.fullmatch(name)]:
            raise ValueError(f"{wrong[0]!r} is no name: write it as orders_2 (a-z, 0-9 and _, at most 64 characters)")
        return entries

    @model_validator(mode="before")
    @classmethod
    def _name_the_sources_of_dimensions(cls, values: Any) -> Any:
        imports = values.get("imports") if isinstance(values, Mapping) else None
        if not isinstance(imports, Mapping):
            return values
        named = {name: {"table": name, **entry} for name, entry in imports.items() if name in DIMENSIONS and entry}
        return {**values, "imports": {**imports, **named}}

    @model_validator(mode="after")
    def _dimensions_are_whole(self) -> Self:
        if partial := [name for name in DIMENSIONS if name in self.imports and self.imports[name].mode == "append"]:
            raise ValueError(
                f"imports.{partial[0]}.mode append: a day of dim_{partial[0][:-1]} has every row; use merge"
            )
        return self
