"""Where a stage finds what it has written itself; between stages, others write."""

from collections.abc import Iterable, Sequence

from etl.metastore.run_rows import StageStart
from etl.table import Table
from etl.tables import ALL
from etl.warehouse.small.checks import STAGED

Written = tuple[Table, str, list[str]]
"""A table, the folder of a run, and the partitions in it."""


class OwnWrites:
    """The run folders of partitions that stages have written through one `Warehouse`."""

    def __init__(self) -> None:
        self.staged: set[str] = set()
        """Those that have the rows of all their partitions in few files as well."""
        self._folders: dict[StageStart, dict[Table, dict[str, str]]] = {}

    def of(self, stage: StageStart | None, table: Table) -> dict[str, str]:
        """Partition value -> folder of a run, of what a stage has written."""
        return {} if stage is None else self._folders.get(stage, {}).get(table, {})

    def note(self, stage: StageStart | None, writes: Iterable[Written]) -> None:
        """Record writes of a stage; of none there is nothing to record."""
        if stage is not None:
            own = self._folders.setdefault(stage, {})
            for table, folder, values in writes:
                for reader in (table, *sharing_files(table)):
                    own[reader] = own.get(reader, {}) | dict.fromkeys(values, folder)

    def readable(self, folder: str) -> str:
        """What to open for all partitions of a run's folder."""
        return f"{folder}/{STAGED}" if folder in self.staged else folder

    def folders(self, stage: StageStart | None, table: Table, values: Sequence[str]) -> dict[str, str]:
        """Partition value -> folder, of those that a stage has written; a staged one where it has just these."""
        own = self.of(stage, table)
        run_folders = {own.get(value) for value in values}
        folder = run_folders.pop() if len(run_folders) == 1 else None
        if folder in self.staged and sum(other == folder for other in own.values()) == len(values):
            return dict.fromkeys(values, f"{folder}/{STAGED}")
        return {value: f"{own[value]}/{table.partition}={value}" for value in values if value in own}


def sharing_files(table: Table) -> list[Table]:
    """The tables that read the files of `table`, with fewer columns."""
    return [other for other in ALL.values() if other.files_of == table.name]
