"""Folders of the warehouse on any Hadoop file system (local, HDFS, S3), through the JVM's own client.

Python's file systems would need credentials and drivers of their own; Spark's are configured already.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from etl import compat


@dataclass(frozen=True)
class Folder:
    """A folder as its parent lists it."""

    name: str
    url: str
    modified_at: float
    """Seconds since the epoch."""


class WarehouseFiles:
    """Makes, lists, replaces and deletes folders by URL."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def make_folder(self, url: str) -> None:
        """Create a folder and its parents; one that exists stays as it is."""
        self._file_system(url).mkdirs(self._path(url))

    def delete(self, url: str) -> None:
        """Delete a folder with its content; nothing happens when there is none."""
        self._file_system(url).delete(self._path(url), True)

    def list_folder(self, url: str) -> Iterator[Folder]:
        """Yield what a folder contains; nothing when there is no such folder."""
        system, path = self._file_system(url), self._path(url)
        if system.exists(path):
            for status in system.listStatus(path):
                child = status.getPath()
                yield Folder(child.getName(), child.toString(), status.getModificationTime() / 1000)

    def replace_folder(self, url: str, write: Callable[[str], object]) -> None:
        """Let `write` fill a hidden folder beside `url`, then rename it into place.

        A failing `write` leaves the old folder; a kill between the two renames leaves it as `.NAME.old`.
        """
        parent, name = url.rsplit("/", 1)
        fresh, old = f"{parent}/.{name}.new", f"{parent}/.{name}.old"
        for leftover in (fresh, old):
            self.delete(leftover)
        write(fresh)
        system = self._file_system(url)
        if system.exists(self._path(url)):
            system.rename(self._path(url), self._path(old))
        system.rename(self._path(fresh), self._path(url))
        self.delete(old)

    def _path(self, url: str) -> Any:
        return compat.jvm_of(self._spark).org.apache.hadoop.fs.Path(url)

    def _file_system(self, url: str) -> Any:
        return self._path(url).getFileSystem(compat.session_hadoop_configuration(self._spark))
