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

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


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
    is_over = threading.Event()
    with _shown(folder, rank) as own:
        watcher = threading.Thread(target=_watch, args=(own, limit_s, record, is_over), name="peers", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()


@contextmanager
def name_stopped_peers(folder: Path, rank: int, record: Callable[[int, str], None]) -> Iterator[None]:
    """When the block fails, name and kill the ranks of this machine that are stopped: its failure is their doing.

    For Horovod, which waits for others without letting this process's threads run, so that they can't show anything; it
    has a limit of its own. Arguments as of `watch_peers`.
    """
    with _shown(folder, rank) as own:
        mine = _this_process()
        _write(own, mine)
        try:
            yield
        except Exception:
            for path in own.parent.glob("*.json"):
                peer = _read(path)
                if path != own and peer is not None and peer.host == mine.host:
                    _kill(int(path.stem), peer, "it stands still", record, only_stopped=True)
            raise


@contextmanager
def _shown(folder: Path, rank: int) -> Iterator[Path]:
    """The file of this rank, which goes when it is done, or has failed and says so."""
    own = folder / RANKS / f"{rank}.json"
    own.parent.mkdir(exist_ok=True)
    try:
        yield own
    finally:
        own.unlink(missing_ok=True)
        with suppress(OSError):  # the others have theirs in it
            own.parent.rmdir()


def _this_process() -> _Process:
    process = psutil.Process()
    return _Process(socket.gethostname(), process.pid, process.create_time())


def _watch(own: Path, limit_s: float, record: Callable[[int, str], None], is_over: threading.Event) -> None:
    mine = _this_process()
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
    silence = f"it has stood still for {silent_s:.0f} s"
    if peer.host != mine.host:
        record(rank, f"{silence} ({peer})")
        log.error("rank %d: %s (%s), which nobody here can end", rank, silence, peer)
        os._exit(1)  # the main thread waits in a library, where no exception reaches it
    _kill(rank, peer, silence, record)


def _kill(
    rank: int, peer: _Process, silence: str, record: Callable[[int, str], None], *, only_stopped: bool = False
) -> None:
    with suppress(psutil.Error):
        process = psutil.Process(peer.pid)
        is_same = process.create_time() == peer.started
        if is_same and (not only_stopped or process.status() == psutil.STATUS_STOPPED):
            record(rank, f"{silence} ({peer}) and was killed")
            log.error("rank %d: %s (%s): killed", rank, silence, peer)
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
