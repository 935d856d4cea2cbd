"""Files as people pack them: gz, bz2 and zst, which Spark reads as well, and zip, which it doesn't."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from conf import UserError

ZIP = ".zip"
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@contextmanager
def open_unpacked(path: str | Path, member: str | None = None) -> Iterator[IO[bytes]]:
    """The bytes of a file as they were before it was packed, by the end of its name.

    Args:
        path: the file; one without a known ending is read as it is.
        member: of a zip, the file inside; the only one without it.

    Raises:
        UserError: the file is damaged, or a zip with more than one file is opened without `member`.
    """
    suffix = Path(path).suffix
    try:
        if suffix == ZIP:
            with zipfile.ZipFile(path) as archive, archive.open(member or only_member(path)) as stream:
                yield stream
        elif suffix in _CODECS:
            with pa.OSFile(str(path)) as packed, pa.CompressedInputStream(packed, _CODECS[suffix]) as stream:
                yield stream
        else:
            with Path(path).open("rb") as stream:
                yield stream
    # pyarrow's errors are OSErrors without a number, those of a missing file have one.
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"can't read {path}: it is corrupt or cut off; nothing was changed") from None


def zip_members(path: str | Path) -> list[str]:
    """The files inside a zip, in its order, without folders and what macOS adds.

    Raises:
        UserError: it is no zip, it is damaged, or its files are encrypted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    except zipfile.BadZipFile:
        raise UserError(f"can't read {path}: it is corrupt or cut off; nothing was changed") from None
    if any(info.flag_bits & 1 for info in members):
        raise UserError(f"{path} is encrypted: unpack it first")
    return [info.filename for info in members]


def only_member(path: str | Path) -> str:
    """The one file inside a zip.

    Raises:
        UserError: there are several or none; the message names them.
    """
    members = zip_members(path)
    if len(members) != 1:
        raise UserError(f"{path} has {len(members)} files ({', '.join(members[:5])}): unpack the one to read")
    return members[0]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in Path(name).parts)
