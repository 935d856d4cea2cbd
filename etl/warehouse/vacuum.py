"""Remove files of replaced partitions: `millrace warehouse vacuum`."""

import time

from etl.metastore.catalog import comparable_url
from etl.table import Table
from etl.warehouse.store import Warehouse, sharing_files


def vacuum(warehouse: Warehouse, table: Table, *, older_than_s: float) -> int:
    """Delete run folders of a table that no partition points at; returns how many.

    Folders stay for `older_than_s` seconds after they were replaced: queries that have planned still read them. For one
    that nobody has noted, left by a kill or not swapped in yet, this time begins with the first vacuum that meets it.
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
