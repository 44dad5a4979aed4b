"""Copy the two files of an index as they are at one moment, while a process writes to them.

An index on disk is its main file and, since the last write, the journal beside it, which is SQLite's write-ahead log. A
commit goes to the journal. A checkpoint moves the pages of the journal into the main file, the first page before all
others, and then empties the journal. The first page holds a mark that every checkpoint renews, and the first write
after it once more (`nextk.engine.journal`).

So the journal is copied before the main file, and the first page is read before and after both. If it has not changed,
no checkpoint began in the meantime. A checkpoint that had begun before can only have moved pages that the copied
journal has, too, provided that this journal is still there. Then the two copies together are the index as it was at
one moment.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nextk.engine.index_file import read_at
from nextk.engine.journal import HEADER_SIZE, belongs, header_of, path_beside, read_header
from nextk.errors import ClientError

_MAGIC = b"SQLite format 3\0"

_CHUNK = 1024 * 1024  # bytes that are read at once


@dataclass(frozen=True, slots=True)
class CopySource:
    """The main file of an index, and what it takes to read it safely.

    A process that has the index open must not open and close the file by other means than SQLite: with the close it
    would lose the lock that it holds. So the file is read by a descriptor that stays open.

    Attributes:
        path: The path of the main file.
        descriptor: Returns the descriptor by which the file is read. It is called, and the descriptor used, only under
            `lock`.
        lock: The lock that keeps the index from being written and from being closed, if this process has it open;
            otherwise a context manager that does nothing.
        pauses: The seconds between the attempts to copy the index without the lock. The last attempt has the lock.
    """

    path: Path
    descriptor: Callable[[], int]
    lock: AbstractContextManager[object]
    pauses: Sequence[float]

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes from an offset; fewer at the end of the file."""
        with self.lock:
            return read_at(self.descriptor(), size, offset)

    def size(self) -> int:
        """Return the size of the file in bytes."""
        with self.lock:
            return os.fstat(self.descriptor()).st_size

    def require_in_place(self) -> None:
        """Refuse to go on if the path leads to another file by now, because the journal is found by the path.

        Raises:
            ClientError: The file was removed, or another one is in its place.
        """
        with self.lock:
            opened = os.fstat(self.descriptor())
        try:
            if os.path.samestat(opened, self.path.stat()):
                return
        except FileNotFoundError:
            pass
        message = f"{self.path} was removed or replaced while it was open, so there is no backup of it"
        raise ClientError(message)


@dataclass(frozen=True, slots=True)
class FileState:
    """The parts of an index's files that show whether they were written between two looks at them.

    Attributes:
        header: The header of the main file.
        journal: The header of the journal; `b""` if there is no journal, or no page in it.
    """

    header: bytes
    journal: bytes


def one_moment(before: FileState, after: FileState) -> bool:
    """Return whether copies of both files are those of one moment.

    Args:
        before: The header of the main file as it was before the journal was copied, and the header of that copy.
        after: Both as they were after the main file was copied.
    """
    return before.header == after.header and before.journal in (b"", after.journal)


def copy_files(source: CopySource, copy: Path, abandoned: Callable[[], bool]) -> None:
    """Copy the main file and the journal of an index as they are at one moment.

    Args:
        source: The index.
        copy: The path of the copy of the main file, which does not exist yet. The copy of the journal is beside it.
        abandoned: Returns whether nobody wants the copy any more.

    Raises:
        ClientError: The file is no database, was removed or replaced, has a journal that belongs to another file, or
            was written too often.
        CancelledError: `abandoned` has returned true.
        OSError: A file cannot be read or written.
    """
    for pause in source.pauses:
        if not _attempt(source, copy, abandoned):
            return
        time.sleep(pause)
    with source.lock:
        problem = _attempt(source, copy, abandoned)
    if problem:
        raise ClientError(problem)


def _attempt(source: CopySource, copy: Path, abandoned: Callable[[], bool]) -> str:
    """Copy both files once. Returns what is wrong with the copies, in words for the caller; `""` if nothing is."""
    header = source.read(0, HEADER_SIZE)
    if len(header) < HEADER_SIZE or not header.startswith(_MAGIC):
        message = f"{source.path} is not a nextk index"
        raise ClientError(message)
    with _open(path_beside(copy), os.O_CREAT | os.O_TRUNC) as journal:
        before = FileState(header, _copy_journal(path_beside(source.path), journal, abandoned))
        of_one_moment = _copy_main(source, copy, before, abandoned)
        source.require_in_place()
        if not of_one_moment:
            return (
                f"{source.path} is written so often that no copy of it was whole: try again when less is written, or "
                "call Index.backup in the process that has it open"
            )
        if not belongs(header, path_beside(copy)):
            return (
                f"the journal {path_beside(source.path)} belongs to another file than the one that is at {source.path} "
                "now, and was left by a process that was killed. Open the index once, which sets the journal aside, "
                "then back it up"
            )
    return ""


def _copy_journal(journal: Path, copy: BinaryIO, abandoned: Callable[[], bool]) -> bytes:
    """Copy a journal if there is a page in it, and return its header; `b""` if there is none.

    Pages that are appended from now on are left out, so that the copy ends however fast the journal grows.
    """
    try:
        opened = journal.open("rb", buffering=0)
    except FileNotFoundError:
        return b""
    with opened:
        size = os.fstat(opened.fileno()).st_size
        header = chunk = read_header(opened)
        while chunk:
            _go_on(abandoned)
            copy.write(chunk)
            chunk = opened.read(min(_CHUNK, max(size - opened.tell(), 0)))
    copy.flush()
    return header


def _copy_main(source: CopySource, copy: Path, before: FileState, abandoned: Callable[[], bool]) -> bool:
    """Copy the main file, and return whether this copy and that of the journal are those of one moment.

    What an earlier attempt has copied is compared and written only where it differs, so that further attempts take as
    long as reading does. They end as soon as they have failed: the best moment to begin anew is after a checkpoint.
    """
    size = source.size()  # what it grows by from now on is in the journal that was copied, or the copy is void
    succeeds = True
    with _open(copy, os.O_CREAT) as written:
        first = written.seek(0, os.SEEK_END) < size
        for offset in range(0, size, _CHUNK):
            chunk = source.read(offset, min(_CHUNK, size - offset))
            _go_on(abandoned)
            _write(written, offset, chunk)
            now = FileState(source.read(0, HEADER_SIZE), header_of(path_beside(source.path)))
            succeeds = succeeds and one_moment(before, now)
            if not (succeeds or first):
                return False
        written.truncate(size)
    return succeeds


def _write(copy: BinaryIO, offset: int, chunk: bytes) -> None:
    copy.seek(offset)
    if copy.read(len(chunk)) != chunk:
        copy.seek(offset)
        copy.write(chunk)


def _open(path: Path, flags: int) -> BinaryIO:
    """Open a file to write and to read it. One that is made is its owner's alone, whoever may read the index."""
    return open(path, "r+b", opener=lambda name, mode: os.open(name, mode | flags, 0o600))


def _go_on(abandoned: Callable[[], bool]) -> None:
    if abandoned():
        raise CancelledError
