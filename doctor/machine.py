"""The machine itself: Python, Java, memory, disk, shared memory, ports, clock, locale, and the home."""

import locale
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import psutil

from conf import Config, Paths
from conf.code import ROOT
from dags.local_airflow import DagsSettings
from doctor.check import Check
from etl.settings import SiteSettings, SparkSettings
from recsys.serve.settings import ServingSettings
from training.settings import RaySettings

GB = 2**30
MIN_DISK_GB, USUAL_DISK_GB = 1.0, 10.0
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def python(config: Config) -> Check:
    """Python 3.11, which the lock is for."""
    text = f"Python {sys.version.split()[0]} at {sys.executable}"
    if sys.version_info[:2] == (3, 11):
        return Check("ok", text)
    return Check("missing", text, "Millrace needs 3.11: make setup PYTHON=python3.11")


def java(config: Config) -> Check:
    """Java 17 or 21."""
    from etl import compat
    from etl.session import require_java

    require_java()  # its error says what to do
    return Check("ok", f"17 or 21, at {compat.java_program()}")


def cpus(config: Config) -> Check:
    """CPUs against those that a local Ray is told of."""
    count, logical = os.cpu_count() or 1, config.get(RaySettings).num_cpus
    text = f"{count}; a local Ray counts {logical} (ray.num_cpus)"
    if logical <= 2 * count:
        return Check("ok", text)
    return Check("warning", text, f"workers on all of them slow one another down: set ray.num_cpus={count}")


def memory(config: Config) -> Check:
    """Memory that is free against Spark's heap and Ray's object store."""
    heap = config.get(SparkSettings).driver_memory.lower().removesuffix("b")
    need = float(heap.rstrip("kmgt")) * _UNITS.get(heap[-1], 1) / GB + config.get(RaySettings).object_store_mb / 1024
    free = psutil.virtual_memory().available / GB
    text = f"{free:.1f} GB free, Spark's driver and Ray's object store take up to {need:.1f} GB"
    if free >= need:
        return Check("ok", text)
    return Check("warning", text, "lower spark.driver_memory or ray.object_store_mb, or end other programs")


def disk(config: Config) -> Check:
    """Room where the home is."""
    home = config.get(Paths).root
    free = shutil.disk_usage(next(folder for folder in (home, *home.parents) if folder.exists())).free / GB
    text = f"{free:.1f} GB free for {home}"
    if free < MIN_DISK_GB:
        return Check("missing", text, "free some, or set MILLRACE_HOME to a larger disk")
    return Check(
        "ok" if free >= USUAL_DISK_GB else "warning", text, "" if free >= USUAL_DISK_GB else "enough for a demo"
    )


def shared_memory(config: Config) -> Check:
    """/dev/shm, where Ray's object store and NCCL's buffers lie; containers often have 64 MB."""
    folder, need = Path("/dev/shm"), config.get(RaySettings).object_store_mb / 1024
    if not folder.exists():
        return Check("warning", "no /dev/shm", "Ray falls back to files in /tmp, which is slower")
    size = shutil.disk_usage(folder).total / GB
    text = f"/dev/shm has {size:.2f} GB, Ray's object store takes {need:.2f} GB"
    return (
        Check("ok", text) if size > need else Check("warning", text, "start the container with --shm-size=1g or more")
    )


def ports(config: Config) -> Check:
    """Ports of the servers that commands start here."""
    airflow, serving = config.get(DagsSettings), config.get(ServingSettings)
    busy = []
    for setting, host, port in (
        ("dags.port", airflow.host, airflow.port),
        ("serving.port", serving.host, serving.port),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                busy.append(f"{setting}={port} ({error.strerror})")
    if busy:
        return Check("warning", f"not free: {', '.join(busy)}", "set another, or 0, before starting that server")
    return Check("ok", f"{airflow.port} for Airflow and {serving.port} for serving are free")


def clock(config: Config) -> Check:
    """The clock against the newest of Millrace's files; nodes of a cluster are in its own line."""
    newest = max(path.stat().st_mtime for path in ROOT.glob("*.py"))
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    if time.time() + 60 < newest:
        return Check("missing", f"{now}, before Millrace's own files", "set the clock: days, locks and tokens go by it")
    return Check("ok", now)


def language(config: Config) -> Check:
    """The locale, by which Java names files, and the time zone of days."""
    text = f"{locale.setlocale(locale.LC_CTYPE)}, files in {sys.getfilesystemencoding()}"
    text += f", days by {config.get(SiteSettings).zone}, machine in {time.tzname[0]}"
    if sys.getfilesystemencoding() == "utf-8":
        return Check("ok", text)
    return Check("warning", text, "names beyond ASCII fail: export LC_ALL=C.UTF-8")


def home(config: Config) -> Check:
    """Whether this user can write the home, and others can't."""
    folder = config.get(Paths).root
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("missing", f"{there} is not writable", "set MILLRACE_HOME to a folder of yours")
    mode = there.stat().st_mode & 0o777
    if there == folder and mode & 0o002:
        return Check("warning", f"{folder} is writable by everybody ({mode:o})", f"chmod o-w {folder}")
    return Check("ok", str(folder) if there == folder else f"{folder} will be made")
