"""Remove files of replaced partitions: `millrace warehouse vacuum`."""

import time

from etl.table import Table
from etl.warehouse.store import Warehouse, comparable_url, sharing_files


def vacuum(warehouse: Warehouse, table: Table, *, older_than_s: float) -> int:
    """Delete run folders of a table that no partition points at; returns how many.

    Folders younger than `older_than_s` seconds stay: queries that have planned still read them, and writers have not
    swapped them in yet.
    """
    # ops_run has plain partition folders, to which each run adds a file; they are never replaced.
    run_folders = [
        folder
        for folder in warehouse.files.list_folder(f"{warehouse.root}/{table.name}")
        if folder.name.startswith("run-")
    ]
    if not run_folders:
        return 0
    # As a text comparison of URLs: the metastore has nothing to ask for the partitions that lie in a folder.
    locations = {
        location for reader in (table, *sharing_files(table)) for location in warehouse.locations(reader).values()
    }
    num_deleted = 0
    for folder in run_folders:
        is_in_use = any(location.startswith(comparable_url(folder.url) + "/") for location in locations)
        is_young = time.time() - folder.modified_at < older_than_s
        if not is_in_use and not is_young:
            warehouse.files.delete(folder.url)
            num_deleted += 1
    return num_deleted
