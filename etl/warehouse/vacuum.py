"""Remove files of replaced partitions: `millrace warehouse vacuum`."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from etl.metastore import catalog
from etl.metastore.catalog import comparable_url
from etl.metastore.swaps import decided_folders
from etl.tables import ALL, ops
from etl.warehouse.own_writes import sharing_files
from etl.warehouse.store import Warehouse


def vacuum_all(warehouse: Warehouse, *, older_than_s: float) -> int:
    """As `vacuum`, of every table that the metastore has: imports write tables of names of their own."""
    names = catalog.table_names(warehouse.spark)
    folders = sum(vacuum(warehouse, name, older_than_s=older_than_s) for name in names)
    return folders + _remove_hidden_rows(warehouse, older_than_s)


def remove_session_folders(hive_scratch: Path, *, older_than_s: float) -> int:
    """Remove the folders that sessions had when they were killed, and that are so old; returns how many."""
    removed = 0
    for folder in hive_scratch.glob("*_resources"):
        with suppress(FileNotFoundError):  # its session ended this moment
            if time.time() - folder.stat().st_mtime >= older_than_s:
                shutil.rmtree(folder)
                removed += 1
    return removed


def vacuum(warehouse: Warehouse, table: str, *, older_than_s: float) -> int:
    """Delete run folders of a table, by its name, that no partition points at, or is going to; returns how many.

    Folders stay for `older_than_s` seconds after they were replaced: queries that have planned still read them. For one
    that nobody has noted, left by a kill or not swapped in yet, this time begins with the first vacuum that meets it.
    """
    # ops_run has plain partition folders, to which each run adds a file; they are never replaced.
    run_folders = [
        folder for folder in warehouse.files.list_folder(f"{warehouse.root}/{table}") if folder.name.startswith("run-")
    ]
    if not run_folders:
        return 0
    # First what a decided change is going to point at: when it ends this moment, its folders are among the partitions'.
    decided = decided_folders(warehouse.config)
    # As a text comparison of URLs: the metastore has nothing to ask for the partitions that lie in a folder.
    readers = [table, *(reader.name for reader in (sharing_files(ALL[table]) if table in ALL else ()))]
    locations = decided | {
        comparable_url(url)
        for reader in readers
        if catalog.column_names(warehouse.spark, reader) is not None  # else no stage has written it yet
        for _, url in catalog.partition_locations(warehouse.spark, reader)
    }
    num_deleted = 0
    for folder in run_folders:
        if any(location.startswith(comparable_url(folder.url) + "/") for location in locations):
            continue
        replaced_at = warehouse.replaced_at(folder.url)
        if replaced_at is None:
            warehouse.note_replaced(folder.url)
            replaced_at = time.time()
        if time.time() - replaced_at >= older_than_s:
            warehouse.files.delete(folder.url)
            num_deleted += 1
    return num_deleted


def _remove_hidden_rows(warehouse: Warehouse, older_than_s: float) -> int:
    """Remove files of ops_run that a kill left before their rename; returns how many."""
    hidden = [
        file
        for partition in warehouse.files.list_folder(f"{warehouse.root}/{ops.run.name}")
        for file in warehouse.files.list_folder(partition.url)
        if file.name.startswith(".") and file.name.endswith(".parquet")
    ]
    old = [file for file in hidden if time.time() - file.modified_at >= older_than_s]
    for file in old:
        warehouse.files.delete(file.url)
    return len(old)
