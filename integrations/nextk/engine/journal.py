"""The journal beside the file of an index, which is SQLite's write-ahead log, and whether it belongs to that file.

SQLite replays whatever journal it finds beside a file, also over a copy that somebody has put in the place of the file.
So the file and its journal carry a mark: 23 random bits in the number that SQLite's header keeps for its user, above
the 8 bits of the format. The mark in the file is renewed before the first write to a journal without writes, and every
transaction writes the page with the header. A journal therefore belongs to the file whose mark is in it.
"""

import contextlib
import itertools
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nextk.engine.publish import publish

log = logging.getLogger("nextk.engine")

__all__ = [
    "HEADER_SIZE",
    "USER_VERSION",
    "belongs",
    "empty",
    "format_of",
    "has_writes",
    "header_of",
    "marked",
    "path_beside",
    "read_header",
    "set_aside",
    "with_format",
]

HEADER_SIZE = 100
"""The bytes of the header of a database."""

USER_VERSION = slice(60, 64)
"""The bytes of the header that hold the format and the mark, a big-endian whole number."""

_FORMAT_BITS, _MARK_BITS = 8, 23  # together they stay positive in the 32 bits that SQLite reads with a sign

# The layout of a write-ahead log: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
_MAGIC = (0x377F0682, 0x377F0683)
_LOG_HEADER, _FRAME_HEADER = 32, 24


def path_beside(path: Path) -> Path:
    """Return where SQLite keeps the journal of a file."""
    return path.with_name(f"{path.name}-wal")


def marked(format: int, *, unlike: int = 0) -> int:
    """Return a number for the header with a format and a new mark.

    Args:
        format: The format of the file, from 1 to 255.
        unlike: A number whose mark is not to be used again. Default 0, for any mark.
    """
    mark = 0
    while mark in (0, unlike >> _FORMAT_BITS):
        mark = secrets.randbits(_MARK_BITS)
    return mark << _FORMAT_BITS | format


def format_of(version: int) -> int:
    """Return the format in a number of the header; 0 or less if nextk did not write the number."""
    return version & ((1 << _FORMAT_BITS) - 1) if version > 0 else version


def with_format(version: int, format: int) -> int:
    """Return a number for the header with the mark of another one and a format from 1 to 255."""
    return version >> _FORMAT_BITS << _FORMAT_BITS | format


def header_of(journal: Path) -> bytes:
    """Return the header of a journal; `b""` if there is no journal, or no frame in it."""
    try:
        with journal.open("rb", buffering=0) as file:
            return read_header(file)
    except FileNotFoundError:
        return b""


def read_header(file: BinaryIO) -> bytes:
    """Read the header of an open journal from where the file stands; `b""` if the journal has no frame."""
    header = file.read(_LOG_HEADER)
    return header if len(header) == _LOG_HEADER and int.from_bytes(header[:4], "big") in _MAGIC else b""


def has_writes(journal: Path) -> bool:
    """Return whether a journal holds writes that the file may lack."""
    return next(_marks(journal), None) is not None


def belongs(header: bytes, journal: Path) -> bool:
    """Return whether a journal may be replayed over a file.

    Args:
        header: The first bytes of the file, at least 100.
        journal: The journal, which need not exist.

    Returns:
        `True` also if there is nothing to replay, or if neither of the two has a mark, as before format 2.
    """
    mark = int.from_bytes(header[USER_VERSION], "big") >> _FORMAT_BITS
    marks = set(_marks(journal))
    return not marks or mark in marks or (mark == 0 and marks == {None})


def set_aside(journal: Path) -> Path:
    """Rename a journal that no connection has open, so that SQLite does not find it. Returns its new path."""
    for aside in _names_aside(journal):
        with contextlib.suppress(FileExistsError):
            publish(journal, aside)
            break
    journal.unlink(missing_ok=True)
    return aside


def empty(journal: Path) -> Path | None:
    """Empty a journal that a connection has open, and keep a copy of it.

    The connection has read the journal, and would write it into the file when it is closed. So the journal is emptied
    also if it cannot be copied, which is logged.

    Returns:
        The path of the copy; `None` if there is none.
    """
    aside = next(name for name in _names_aside(journal) if not name.exists())
    partial = aside.with_name(f".{aside.name}.partial")
    try:
        shutil.copyfile(journal, partial)
        publish(partial, aside)
    except OSError as error:
        log.error("the journal %s cannot be kept, and is lost: %s", journal, error)
        return None
    else:
        return aside
    finally:
        os.truncate(journal, 0)
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _names_aside(journal: Path) -> Iterator[Path]:
    return (journal.with_name(f"{journal.name}.stale-{number}") for number in itertools.count(1))


def _marks(journal: Path) -> Iterator[int | None]:
    """Yield the mark of every frame of a journal that holds the header, and `None` for every other frame."""
    with contextlib.suppress(FileNotFoundError), journal.open("rb") as file:
        header = read_header(file)
        page_size = int.from_bytes(header[8:12], "big")
        if page_size >= HEADER_SIZE:
            yield from _marks_of_frames(file, page_size, salts=header[16:24])


def _marks_of_frames(file: BinaryIO, page_size: int, *, salts: bytes) -> Iterator[int | None]:
    """Yield the marks up to the last commit. SQLite does not replay what a killed transaction has left behind it."""
    uncommitted: list[int | None] = []
    while len(frame := file.read(_FRAME_HEADER + USER_VERSION.stop)) == _FRAME_HEADER + USER_VERSION.stop:
        if frame[8:16] != salts:  # what follows is left from before the journal was begun anew
            return
        page = frame[_FRAME_HEADER:]
        first = int.from_bytes(frame[:4], "big") == 1
        uncommitted.append(int.from_bytes(page[USER_VERSION], "big") >> _FORMAT_BITS if first else None)
        if frame[4:8] != bytes(4):  # the size of the file, which is given by the last frame of a transaction alone
            yield from uncommitted
            uncommitted.clear()
        file.seek(page_size - USER_VERSION.stop, os.SEEK_CUR)
