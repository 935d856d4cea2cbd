"""A long-running command finishes the work at hand when it is asked to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list that receives the SIGTERM or SIGINT sent to this process; while it is empty, go on.

    Inside the block the signals no longer end the process; the handlers before it are restored at its end.
    """
    # A handler that only takes note: raising in it could tear the work at hand, a commit to a metastore say.
    received: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda n, _: received.append(n)) for number in signals}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
