"""Long work says what it is and how far it is: `with waiting("recall 2026-01-07", progress): …`."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

EVERY_S = 10.0
GROWTH = 12.0  # from two minutes on, the pause is a twelfth of the time so far: a day's stream is no flood of lines

# Work that goes on, the innermost last: it alone speaks, for it says most.
_open: list[object] = []


@contextmanager
def waiting(what: str, progress: Callable[[], str] | None = None, *, every_s: float = EVERY_S) -> Iterator[None]:
    """Log that `what` still goes on, while the block runs: first after half of `every_s`, then about every `every_s`.

    Args:
        what: names the work, as `recall 2026-01-07: lists to serve`.
        progress: how far it is, as `12 of 40 Spark tasks`, or an empty text; called in a thread, an error is ignored.
        every_s: seconds between two lines.
    """
    ended, own = threading.Event(), object()

    def report() -> None:
        started, pause = time.monotonic(), every_s / 2
        while not ended.wait(pause):
            seconds = time.monotonic() - started
            if _open[-1:] == [own]:
                log.info("%s: still going on after %.0f s%s", what, seconds, _suffix(progress))
            pause = max(every_s, seconds / GROWTH)

    _open.append(own)
    thread = threading.Thread(target=report, name=f"progress of {what}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        _open.remove(own)


def _suffix(progress: Callable[[], str] | None) -> str:
    try:
        text = progress() if progress else ""
    except Exception as error:  # an engine that is just closing: the work itself must not fail of it
        log.debug("no progress: %s", error)
        return ""
    return f", {text}" if text else ""
