"""Ranks that stand still: each shows in the run folder that it runs, and the others end one that doesn't.

A rank that died closes its connections, which its peers notice at once. One that is stopped (SIGSTOP, a hung disk, a
machine that is gone) closes nothing, and they would wait in the next exchange for as long as its library does.
"""

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

RANKS = "ranks"  # folder of a file for each rank, while it trains
# Of the limit: how often a rank shows itself and looks, and the silence that ends it, so that both fit the limit.
BEAT, SILENCE = 0.1, 0.8


@dataclass(frozen=True)
class _Process:
    """What a rank writes of itself; `beat` grows while it runs."""

    host: str
    pid: int
    started: float
    """By psutil, which tells it from a later process with its number."""
    beat: int = 0


@contextmanager
def watch_peers(folder: Path, rank: int, limit_s: float, record: Callable[[int, str], None]) -> Iterator[None]:
    """While the block runs, show that this rank runs, and end ranks that don't.

    Args:
        folder: the run folder, which all ranks see.
        rank: this process among them.
        limit_s: seconds within which a rank that stands still is noticed; 0 watches nothing.
        record: called with a rank that stands still and what is known of it, before its process is killed. Where that
            is on another machine, this process ends, for nothing else can end its wait.
    """
    if not limit_s:
        yield
        return
    own = folder / RANKS / f"{rank}.json"
    own.parent.mkdir(exist_ok=True)
    is_over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(own, limit_s, record, is_over), name="peers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        own.unlink(missing_ok=True)  # as a rank that is done does, or one that failed and says so
        with suppress(OSError):  # the others have theirs in it
            own.parent.rmdir()


def _watch(own: Path, limit_s: float, record: Callable[[int, str], None], is_over: threading.Event) -> None:
    process = psutil.Process()
    mine = _Process(socket.gethostname(), process.pid, process.create_time())
    newest: dict[Path, _Process] = {}
    # Looks at a rank since its last beat, of ranks that were seen to run: a file may be of an attempt that is over.
    # Looks, not seconds: after a pause of the whole machine nobody has been silent.
    silent_looks: dict[Path, int] = {}
    beat = 0
    while not is_over.is_set():
        if not _write(own, _Process(mine.host, mine.pid, mine.started, beat := beat + 1)):
            silent_looks.clear()  # nor can the others write, on a disk that is full or gone: that is no silence
        for path in own.parent.glob("*.json"):
            peer = _read(path)
            if path == own or peer is None:
                continue
            if path in newest and newest[path] != peer:
                silent_looks[path] = 0
            elif path in silent_looks:
                silent_looks[path] += 1
            newest[path] = peer
            if silent_looks.get(path, 0) > SILENCE / BEAT:
                _end(int(path.stem), peer, silent_looks.pop(path) * BEAT * limit_s, mine, record)
                path.unlink(missing_ok=True)
        is_over.wait(BEAT * limit_s)


def _end(rank: int, peer: _Process, silent_s: float, mine: _Process, record: Callable[[int, str], None]) -> None:
    """Kill a rank that stands still, or this process where that isn't possible; nothing for one that is gone."""
    silence = f"it has stood still for {silent_s:.0f} s (process {peer.pid} on {peer.host})"
    if peer.host != mine.host:
        record(rank, silence)
        log.error("rank %d: %s, which nobody here can end", rank, silence)
        os._exit(1)  # the main thread waits in a library, where no exception reaches it
    with suppress(psutil.Error):
        process = psutil.Process(peer.pid)
        if process.create_time() == peer.started:
            record(rank, f"{silence} and was killed")
            log.error("rank %d: %s: killed", rank, silence)
            process.kill()


def _write(path: Path, process: _Process) -> bool:
    """Whether it could be written."""
    try:
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps(asdict(process)), encoding="utf-8")
        staged.replace(path)
    except OSError:
        return False
    return True


def _read(path: Path) -> _Process | None:
    try:
        return _Process(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # gone this moment, or half there
        return None
