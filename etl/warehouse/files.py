"""Folders of the warehouse on any Hadoop file system (local, HDFS, S3), through the JVM's own client.

Python's file systems would need credentials and drivers of their own; Spark's are configured already.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from conf import path_of_url
from conf.atomic import exchange
from etl import compat


@dataclass(frozen=True)
class Folder:
    """A folder as its parent lists it."""

    name: str
    url: str
    modified_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class WarehouseFiles:
    """Creates, lists, replaces and deletes folders by URL (file:///…, hdfs://…, s3a://…)."""

    spark: SparkSession

    def make_folders(self, parent: str, names: Iterable[str]) -> None:
        """Create folders of these names in `parent`, and that, too; those that exist stay as they are."""
        file_system, parent_path = self._open(parent)  # once, for it copies Hadoop's configuration
        path_class = compat.jvm_of(self.spark).org.apache.hadoop.fs.Path
        for name in names:
            file_system.mkdirs(path_class(parent_path, name))

    def touch(self, url: str) -> None:
        """Create an empty file, or replace it by a new one: its time of change is now. Its folder must exist."""
        file_system, path = self._open(url)
        # Without its folder `create` would make it, for a run that a vacuum has removed this moment.
        if file_system.exists(path.getParent()):
            file_system.create(path, True).close()

    def size(self, url: str) -> int:
        """Bytes of all files in a folder."""
        file_system, path = self._open(url)
        return int(file_system.getContentSummary(path).getLength())

    def delete(self, url: str) -> None:
        """Delete a folder with its content; nothing happens when there is none."""
        file_system, path = self._open(url)
        file_system.delete(path, True)  # recursively

    def list_folder(self, url: str) -> Iterator[Folder]:
        """Yield what a folder contains; nothing when there is no such folder."""
        file_system, path = self._open(url)
        # An object store has no empty folders: a table without rows has none at all there.
        if file_system.exists(path):
            for status in file_system.listStatus(path):
                child = status.getPath()
                yield Folder(child.getName(), child.toString(), status.getModificationTime() / 1000)

    def replace_folder(self, url: str, write: Callable[[str], object]) -> None:
        """Let `write` fill a hidden folder beside `url`, then give it that name.

        Readers see the old folder or the new one, and so does who comes after a failing `write` or a kill. The old one
        stays as `.NAME.old` until the next replacement, for those that have opened it. Where the file system can't
        exchange two folders (HDFS, S3, NFS), there is none between two renames; after a kill there the next call begins
        with bringing the old one back.
        """
        parent, name = url.rsplit("/", 1)
        # Readers of a folder of folders pass by names that begin with a dot, Spark and Hive as well.
        fresh, old = f"{parent}/.{name}.new", f"{parent}/.{name}.old"
        file_system, path = self._open(url)
        fresh_path, old_path = self._open(fresh)[1], self._open(old)[1]
        if not file_system.exists(path) and file_system.exists(old_path):
            file_system.rename(old_path, path)
        for leftover in (fresh, old):
            self.delete(leftover)
        write(fresh)
        # By the qualified path: a URL without a scheme is of the configured file system.
        local = [path_of_url(str(file_system.makeQualified(each).toString())) for each in (fresh_path, path)]
        if not file_system.exists(path):
            file_system.rename(fresh_path, path)
        elif local[0] and local[1] and exchange(local[0], local[1]):
            file_system.rename(fresh_path, old_path)
        else:
            file_system.rename(path, old_path)
            file_system.rename(fresh_path, path)

    def _open(self, url: str) -> tuple[Any, Any]:
        """The Hadoop file system of a URL, and its Path; Hadoop caches file systems by scheme, host and user."""
        path = compat.jvm_of(self.spark).org.apache.hadoop.fs.Path(url)
        return path.getFileSystem(compat.hadoop_configuration(self.spark)), path
