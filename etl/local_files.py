"""Local files of Hadoop without a process for each: etl/LocalFiles.java, compiled at the start of a JVM."""

import logging
from importlib.resources import files
from typing import Any

from py4j.protocol import Py4JError

from etl import compat

log = logging.getLogger(__name__)


def use_java_permissions(jvm: Any) -> None:
    """Let Hadoop set the permissions of the driver's local files by Java, if it can; else all goes on as it was.

    Without its C library, which PySpark does not have, it starts the program `chmod` twice for every file and once for
    every folder: most of the time of a write of many small partitions. There is no option for it; but Hadoop's clients
    in a JVM share one object for all local files, the first that is asked for. Other file systems have their own
    objects, and executors of a cluster their own JVMs.
    """
    try:
        loader = compat.compile_java(jvm, (files("etl") / "LocalFiles.java").read_text(encoding="utf-8"))
        # With the options of the session to come, such as a umask.
        configuration = compat.submitted_hadoop_configuration(jvm)
        configuration.setClassLoader(loader)
        configuration.set("fs.file.impl", "millrace.LocalFiles")
        jvm.org.apache.hadoop.fs.FileSystem.get(jvm.java.net.URI("file:///"), configuration)
    except (Py4JError, TypeError) as error:  # py4j calls a class that is not there, and raises TypeError
        log.debug("local files get their permissions from chmod: %s", str(error).splitlines()[0])
