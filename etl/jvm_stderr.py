"""What Spark's launcher and JVM write to stderr: hidden while all is well, the reason when the JVM ends too early."""

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from conf import UserError

_TAIL_BYTES = 65536
# What the launcher says at every start.
_GREETING = re.compile(r"WARNING: |Setting default log level|To adjust logging level|Picked up JAVA_TOOL_OPTIONS")
_OUT_OF_HEAP = re.compile(r"java\.lang\.OutOfMemoryError: (?:Java heap space|GC overhead limit exceeded)")
_OUT_OF_MEMORY = re.compile(r"java\.lang\.OutOfMemoryError: .*")


@contextmanager
def quiet_stderr(file: BinaryIO) -> Iterator[None]:
    """Let what processes started in the block write to stderr go to `file`, also after the block.

    By descriptor, not `redirect_stderr`: another process writes it. Our own log lines go on to where they went.
    Raises UserError for whatever fails inside; the last line of `file` is the reason.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        with _log_to(saved):
            yield
    except BaseException:
        raise UserError(f"Spark did not start: {(last_lines(file) or ['see --debug'])[-1]}") from None
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def last_lines(file: BinaryIO) -> list[str]:
    """The lines at the end of a file that another process writes: at most 64 KB of them, the last line last."""
    size = os.fstat(file.fileno()).st_size
    # Not `seek` and `read`: the position is the writing process's, too.
    text = os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
    return [line for line in map(str.strip, text.splitlines()) if line and not _GREETING.match(line)]


def reason_of_end(code: int, lines: list[str], driver_memory: str) -> str:
    """Why a JVM ended by itself, in one line for its user.

    Args:
        code: what `Popen.returncode` has: an exit code, or the negative number of a signal.
        lines: what it last wrote to stderr.
        driver_memory: its heap, as `spark.driver_memory` has it.
    """
    text = "\n".join(lines)
    if reason := out_of_heap(text, driver_memory):
        return reason
    how = f"with exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    match = _OUT_OF_MEMORY.search(text)
    words = match[0] if match else lines[-1] if lines else "it wrote no reason"
    return f"Spark's JVM ended before its time, {how}: {words}"


def out_of_heap(text: str, driver_memory: str) -> str | None:
    """What to do, if a text of the JVM's or an error of Spark's says that there was too little memory."""
    match = _OUT_OF_HEAP.search(text)
    if match is None:
        return None
    return f"Spark ran out of memory ({match[0]}): give it more than spark.driver_memory={driver_memory}"


@contextmanager
def _log_to(descriptor: int) -> Iterator[None]:
    """Let this process's log lines, and whatever else Python writes to stderr, go to `descriptor` inside the block."""
    if sys.stderr is not sys.__stderr__:  # not descriptor 2: a test's or a notebook's
        yield
        return
    before = sys.stderr
    with open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False) as stream:
        handlers = [h for h in logging.root.handlers if isinstance(h, logging.StreamHandler) and h.stream is before]
        for handler in handlers:
            handler.setStream(stream)
        sys.stderr = stream  # rich's handler looks it up at each line
        try:
            yield
        finally:
            sys.stderr = before
            for handler in handlers:
                handler.setStream(before)
