"""The files to follow, recognised again after rotation: renamed, copied and truncated, or compressed.

A file is a copy of a followed one only when every byte of it that was read agrees. While it agrees with a file that is
still there, and holds no more than that one, it may be a copy that is being written: it is skipped until it differs,
or until the other is gone and it is read on in its place.
"""

import glob
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from etl.collect.sources import BLOCK_BYTES, READ_ERRORS, MovedError, Source, crc_of, digest_of, stamp_of

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 100
# A file that is gone may come back: its folder was not mounted for a moment, or a slow tool compresses it.
GONE_S = 7 * 86400.0


class SourceFinder:
    """Lists the sources again and again, and remembers what it compared.

    Args:
        patterns: glob patterns, or names of files.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = patterns
        self.num_files = 0
        """Files that matched in the last round."""
        self.skipped: dict[str, str] = {}
        """Path -> why, of the files that were not read in the last round."""
        self._announced: set[str] = set()
        # (copy, original) -> size and time of the copy, and how many bytes of it are the original's.
        self._compared: dict[tuple[tuple[int, int], tuple[int, int]], tuple[str, int]] = {}

    def find(self, sources: Iterable[Source]) -> list[Source]:
        """List the files that match and those that were followed before, each with its offset.

        Args:
            sources: those so far. Their paths are updated.

        Returns:
            Followed files first; those with `gone_at` are not there to read. `sources` as they are, if files keep being
            renamed while they are listed.
        """
        followed = list(sources)
        retrying = Retrying(
            retry=retry_if_exception_type(MovedError),  # rotated while we listed
            stop=stop_after_attempt(MAX_ATTEMPTS),
            retry_error_callback=lambda _: followed,
        )
        return retrying(self._match_files, followed)

    def skip(self, path: str, reason: str) -> None:
        """Count a file as not read, and say so once for each reason."""
        self.skipped[path] = reason
        self.announce(f"{path} is not read: {reason}")

    def announce(self, message: str) -> None:
        """Log a message the first time."""
        if message not in self._announced:
            self._announced.add(message)
            log.info(message)

    def _match_files(self, followed: Iterable[Source]) -> list[Source]:
        self.skipped = {}
        matched: list[Source] = []
        missing: list[Source] = []
        # The more was read of a file, the surer is what it is recognised by: others are compared with it.
        # One of which nothing was read is as good as a new one.
        for source in sorted((source for source in followed if source.offset), key=lambda source: -source.offset):
            is_followed = not source.gone_at and self._is_in_place(source)
            # A copy of another source may have the path and the inode's number of a file that began alike.
            is_longer = not source.hour and is_followed and _size(source) > source.offset
            is_replaced = is_longer and self._is_copy(source, matched)
            (matched if is_followed and not is_replaced else missing).append(source)
        # Listed only now: what a file was copied to before it was truncated is among them.
        candidates = {candidate.key: candidate for candidate in map(_source_at, self._matching_paths())}
        self.num_files = len(candidates)
        for source in matched:
            candidates.pop(source.key, None)
        # What was compared with files that were truncated or deleted since goes: their numbers are used again.
        in_place = {source.key for source in matched}
        self._compared = {
            (copy, original): compared
            for (copy, original), compared in self._compared.items()
            if copy in candidates and original in in_place
        }
        gone = []
        for source in missing:
            if (path := self._find_again(source, candidates, matched)) is not None:
                new = _source_at(path)
                candidates.pop(new.key, None)
                stamp = source.stamp if new.key == source.key else ""
                moved = replace(source, path=path, device=new.device, inode=new.inode, stamp=stamp, gone_at=0.0)
                matched.append(moved)
            else:
                source.gone_at = source.gone_at or time.time()
                gone.append(source)
        for candidate in candidates.values():
            if candidate.path not in self.skipped and _size(candidate) and not self._is_copy(candidate, matched):
                matched.append(candidate)
        return matched + [source for source in gone if time.time() - source.gone_at < GONE_S]

    def _matching_paths(self) -> list[str]:
        """Distinct regular files, without links: two names of one file are one source."""
        # A name that exists is that file, though it may also be a pattern: app[1].log.
        named = [[pattern] if os.path.exists(pattern) else glob.glob(pattern) for pattern in self.patterns]
        paths = {os.path.realpath(path) for names in named for path in names}
        return sorted(path for path in paths if os.path.isfile(path))

    def _is_in_place(self, source: Source) -> bool:
        try:
            return source.is_continued()
        except MovedError:
            return False
        except READ_ERRORS as error:
            self.skip(source.path, reason_of(error))
            return True

    def _find_again(
        self, source: Source, candidates: Mapping[tuple[int, int], Source], matched: list[Source]
    ) -> str | None:
        """Path of a renamed file, or of the copy of what was truncated or deleted: its end may not be read yet."""
        renamed = candidates.get(source.key)
        if renamed is None and not source.gone_at:  # only once: later the inode's number may be another file's
            renamed = next((candidate for candidate in _files_beside(source) if candidate.key == source.key), None)
        # Without a line with a time, by headers say, each log is like the other: new ones must not be copies either.
        others = [] if source.hour else [candidate for key, candidate in candidates.items() if key != source.key]
        if renamed is not None:
            place = replace(source, path=renamed.path)
            is_continued = place.is_gz == source.is_gz and self._is_in_place(place)
            if is_continued and not self._is_copy(place, [*matched, *others]):
                return renamed.path
        for candidate in candidates.values():
            try:
                if _holds_all_of(candidate, source) and not self._is_copy(candidate, matched):
                    return candidate.path
            except MovedError:
                raise
            except READ_ERRORS as error:
                self.skip(candidate.path, reason_of(error))
        return None

    def _is_copy(self, candidate: Source, sources: Iterable[Source]) -> bool:
        """Whether the content of one of the sources begins with all that a file holds so far, as far as it can be read.

        Then the file is counted as skipped.
        """
        try:
            for source in sources:
                if _is_beside(candidate, source) and self._is_beginning(candidate, source):
                    self.skip(candidate.path, f"all its bytes are the first of {source.path}: it may be a copy of that")
                    return True
        except MovedError:
            raise
        except READ_ERRORS as error:
            self.skip(candidate.path, reason_of(error))
            return True
        return False

    def _is_beginning(self, candidate: Source, source: Source) -> bool:
        with candidate.open() as file:
            stamp = stamp_of(file)
            last_stamp, length = self._compared.get((candidate.key, source.key), ("", 0))
            if stamp == last_stamp:
                return True
            is_grown = not candidate.is_gz and os.fstat(file.fileno()).st_size >= length
        compared = _compare(candidate, source, length if is_grown and _begins_as(candidate, source) else 0)
        if compared is None:
            # Truncated meanwhile, the source would look like another file than its copy.
            if not self._is_in_place(source):
                raise MovedError(source.path)
            return False
        self._compared[candidate.key, source.key] = stamp, compared
        return True


def _source_at(path: str) -> Source:
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise MovedError(path) from None
    return Source(path, status.st_dev, status.st_ino, crc=0)


def _files_beside(source: Source) -> list[Source]:
    try:
        return [_source_at(entry.path) for entry in os.scandir(Path(source.path).parent) if entry.is_file()]
    except MovedError:
        raise
    except OSError:
        return []


def reason_of(error: BaseException) -> str:
    """Why a file is not read, of one of READ_ERRORS."""
    return "it is still being written" if isinstance(error, EOFError) else f"it can't be read: {error}"


def _size(candidate: Source) -> int:
    """Bytes on disk. An empty file says nothing about what it is: it is looked at again in the next round."""
    try:
        return Path(candidate.path).stat().st_size
    except FileNotFoundError:
        raise MovedError(candidate.path) from None


def _is_beside(candidate: Source, source: Source) -> bool:
    """Whether a file is named as a rotated one: access.log.1, access.log-20260107, access.log.2.gz …"""
    path, original = Path(candidate.path), Path(source.path)
    stem = original.name.removesuffix(".gz").rstrip("0123456789.-_")
    return path.parent == original.parent and bool(stem) and path.name.startswith(stem)


def _begins_as(candidate: Source, source: Source) -> bool:
    with candidate.open() as file:
        return bool(source.head_length) and digest_of(file.read(source.head_length)) == source.head


def _holds_all_of(candidate: Source, gone: Source) -> bool:
    """Whether a file begins with every byte that was read of one that is gone."""
    if not _is_beside(candidate, gone):
        return False
    if not _begins_as(candidate, gone):
        return False
    with candidate.open() as file:
        # Without a CRC, in the state of an older release, the head must do.
        return gone.crc is None or crc_of(file, gone.offset) == gone.crc


def _compare(candidate: Source, source: Source, start: int) -> int | None:
    """Length of the candidate's content when the source's begins with it; None when it does not.

    Args:
        candidate: may grow while it is read.
        source: may grow, too.
        start: bytes that were compared before.
    """
    with candidate.open() as copy, source.open() as original:
        copy.seek(start)
        original.seek(start)
        length = start
        # First the copy: what it has by then, the original has had before.
        while block := copy.read(BLOCK_BYTES):
            try:
                if original.read(len(block)) != block:
                    return None
            except READ_ERRORS:
                return None
            length += len(block)
        return length
