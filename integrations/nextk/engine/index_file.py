"""The open file of an index: its connection, its journal, and whether it is still the file that was opened.

SQLite notices none of this by itself. It would write on into a file that was removed, or over a copy that was put in
its place, and it leaves what was written in a journal beside the file until that is large.
"""

import contextlib
import errno
import logging
import os
import sqlite3
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from nextk.engine import journal
from nextk.engine.publish import sync
from nextk.errors import RefusedError

if sys.platform == "linux":
    import fcntl

log = logging.getLogger("nextk.engine")

RESERVE = 512 * 1024
"""Bytes of disk space that are kept for the journal, so that records can be deleted when the disk is full."""

_CAN_RESERVE = hasattr(os, "posix_fallocate") and hasattr(os, "statvfs")

_LARGE_JOURNAL = 16 * 1024 * 1024  # bytes from which on a write brings it to rest without waiting for a quiet moment

locks = threading.RLock()
"""Held while a file is locked or let go. A process that closes any descriptor of a file loses all its POSIX locks on
the file, so nobody may lock one between the end of a connection and the end of the descriptor beside it."""

_held: dict[tuple[int, int], int] = {}  # the descriptors of the files that are open for writing, by device and number

_LOCKED_BYTE = 0x40000200  # the first one behind those that SQLite locks


def is_held_here(path: Path) -> bool:
    """Return whether this process has a file open for writing, under whatever name.

    Nobody else in the process may then open and close the file, which would drop the lock of SQLite.
    """
    stat = path.stat()
    return (stat.st_dev, stat.st_ino) in _held


def hold(descriptor: int) -> bool:
    """Lock a file beside SQLite's own lock, for as long as a descriptor is open. Returns whether nobody else has it.

    SQLite's lock is lost as soon as anybody in this process opens the file and closes it, as to copy it. This one
    belongs to the descriptor. Where the system has no such locks, SQLite's has to do.
    """
    if sys.platform != "linux":
        return True
    lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)  # a struct flock of 64 bits
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _let_go_in_child() -> None:
    """In a forked child: the lock would live as long as the copies of the descriptors."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()
    locks.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=locks.acquire, after_in_parent=locks.release, after_in_child=_let_go_in_child)


class IndexFile:
    """The file of an index that this process has open, or an index in memory.

    Nothing here but `close` may be called from two threads at once: the engine serialises its calls.

    Args:
        connection: The connection, which holds the lock of the file, or has it open for reading.
        path: The file; `None` for an index in memory.
        descriptor: A descriptor of the file, which this object closes; -1 for an index in memory.
        read_only: Whether the file is open for reading only.

    Attributes:
        connection: The connection.
        path: The file; `None` for an index in memory.
        read_only: Whether writes are refused.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, descriptor: int = -1, *, read_only: bool = False
    ) -> None:
        self.connection = connection
        self.path = path
        self.read_only = read_only
        self._descriptor = descriptor
        self._closed = False
        self._version = 0  # the number with the mark that the next transaction writes
        self._versions: set[int] = set()  # those that the header of the file may have
        self._at_rest = False
        self._short_of_space = False
        if path is not None:
            self._journal = journal.path_beside(path)
            self._reserve = path.with_name(f"{path.name}-reserve")
            stat = os.fstat(descriptor)
            self._identity = stat.st_dev, stat.st_ino
            [(self._version,)] = connection.execute("PRAGMA user_version").fetchall()  # the journal may have another
            self._versions = {self._version, int.from_bytes(self.header()[journal.USER_VERSION], "big")}
            self._at_rest = not journal.has_writes(self._journal)
            if not read_only:
                _held[self._identity] = descriptor

    @property
    def format(self) -> int:
        """The format of the tables."""
        return journal.format_of(self._version)

    @property
    def descriptor(self) -> int:
        """The descriptor of the file, by which others may read while the file is open; -1 for an index in memory."""
        return self._descriptor

    def header(self) -> bytes:
        """Return the header of the file, as it is on disk without its journal."""
        return read_at(self._descriptor, journal.HEADER_SIZE, 0)

    def require_unchanged(self) -> None:
        """Raise `RefusedError` if the path leads to another file by now, or the file has other contents.

        Raises:
            sqlite3.ProgrammingError: The file is closed, so that its descriptor may be that of another file by now.
        """
        if self._closed:
            message = "the file is closed"
            raise sqlite3.ProgrammingError(message)
        if change := self._change():
            message = (
                f"the file of this index, {self.path}, has been {change} since it was opened here. Nothing is read "
                "from it or written to it any more: close everything that has the index open, and open it again"
            )
            raise RefusedError(message, 409)

    def _change(self) -> str:
        """Return what was done to the file by others; `""` for nothing."""
        if self.path is None:
            return ""
        try:
            stat = self.path.stat()
        except OSError:
            return "removed"
        if (stat.st_dev, stat.st_ino) != self._identity:
            return "replaced"
        version = int.from_bytes(self.header()[journal.USER_VERSION], "big")
        return "" if version in self._versions else "overwritten"

    # Writing

    @contextlib.contextmanager
    def transaction(self, *, frees_space: bool = False) -> Iterator[None]:
        """Return a context manager for one transaction: all writes in it are durable when it ends, or none happens.

        A transaction that an interrupt has left open is rolled back first.

        Args:
            frees_space: Whether the transaction only deletes. It may use the reserve if the disk is full.

        Raises:
            RefusedError: The file is open for reading only, or is not the one that was opened.
        """
        self.connection.rollback()
        self._begin(frees_space=frees_space)
        try:
            yield
            self.commit()
        finally:
            self.connection.rollback()  # does nothing after a commit

    def require_writable(self) -> None:
        """Raise `RefusedError` if the file is open for reading only."""
        if self.read_only:
            message = f"{self.path} cannot be written to, so the index is open for reading only"
            raise RefusedError(message, 403)

    def _begin(self, *, frees_space: bool) -> None:
        self.require_writable()
        self.require_unchanged()
        if frees_space:
            self._release_reserve()
        if self._at_rest:
            self._renew_mark()
        self.connection.execute("BEGIN IMMEDIATE")
        if self.path is not None:
            self.connection.execute(f"PRAGMA user_version = {self._version}")

    def convert(self, format: int, convert_tables: Callable[[sqlite3.Connection], None]) -> None:
        """Convert the tables to another format. They and the number of the format are changed together, or not at all.

        Args:
            format: The new format.
            convert_tables: A function that changes the tables, within the transaction that is open.
        """
        with self.transaction():
            convert_tables(self.connection)
            version = journal.with_format(self._version, format)
            self._versions |= {version}
            self.connection.execute(f"PRAGMA user_version = {version}")
        self._version = version

    def commit(self) -> None:
        """Commit the transaction.

        Raises:
            RefusedError: The file is not the one that was opened any more.
        """
        self.require_unchanged()
        self.connection.commit()

    def _renew_mark(self) -> None:
        """Give the file on disk a new mark, so that no journal that is written from now on fits an earlier copy of it.

        This is written past SQLite, which has no way to change the file before its journal. It may be: the journal is
        empty, the lock is held, and the number is none that SQLite reads for itself.
        """
        version = journal.marked(self.format, unlike=self._version)
        self._versions |= {version}
        write_at(self._descriptor, version.to_bytes(4, "big"), journal.USER_VERSION.start)
        self._version, self._versions = version, {version}
        self._at_rest = False
        if not self._short_of_space and not self._reserve.exists():
            self._keep_reserve()

    def after_commit(self) -> None:
        """Bring the journal to rest if it is large, or if the disk is full and whatever it holds counts."""
        if self.path is None:
            return
        large = False
        with contextlib.suppress(OSError):  # what is committed must not be refused any more
            large = self._journal.stat().st_size > _LARGE_JOURNAL
        if self._short_of_space or large:
            self.rest()
        if self._short_of_space:
            self._keep_reserve()

    def rest(self) -> bool:
        """Bring everything that is in the journal into the file, so that the file alone is the whole index.

        Returns:
            Whether the journal is at rest. If it is not, because the disk is full or the file has changed, nothing is
            lost: the journal still holds what it held.
        """
        if self.path is None or self.read_only or self._at_rest or self._closed:
            return True
        try:
            self.require_unchanged()
            self._checkpoint()
        except (RefusedError, sqlite3.Error, OSError) as error:
            log.debug("the journal of %s is not at rest: %s", self.path, error)
            return False
        return self._at_rest

    def _checkpoint(self) -> None:
        """Fold the journal into the file, with a new mark, by which a copy that is being made notices it."""
        # The format is read, because a conversion may have been interrupted just after it was committed.
        [(stored,)] = self.connection.execute("PRAGMA user_version").fetchall()
        version = journal.marked(journal.format_of(stored), unlike=self._version)
        self._versions |= {version}
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            with self.connection:
                self.connection.execute(f"PRAGMA user_version = {version}")
        except sqlite3.OperationalError as error:  # a full journal on a full disk can be folded in nevertheless
            self.connection.rollback()
            log.debug("no new mark for %s: %s", self.path, error)
            version = self._version
        self._version = version
        [(busy, _, _)] = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if not busy:
            self._versions = {version}
            self._at_rest = True

    def _keep_reserve(self) -> None:
        """Take some disk space in advance, unless there is none, or the system has no way to do so."""
        if not _CAN_RESERVE:
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
            self._short_of_space = False
        except OSError as error:
            log.debug("there is no reserve for %s: %s", self.path, error)
            self._drop_reserve()

    def _release_reserve(self) -> None:
        """Give the reserve to the journal if the disk has no other space for it."""
        if self.path is not None and _CAN_RESERVE:
            disk = os.statvfs(self.path)
            if disk.f_bavail * disk.f_frsize < RESERVE:
                self._short_of_space = True
                self._drop_reserve()

    def _drop_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    # The end

    def close(self) -> None:
        """Bring the journal to rest and close the file. Further calls do nothing."""
        if self._closed:
            return
        try:
            if not self.rest():
                self._abandon_journal()
            if self.path is not None and not self.read_only and not self._change():
                self._drop_reserve()
        finally:
            self._release()

    def _release(self) -> None:
        with locks:
            if self._closed:
                return
            self._closed = True
            self.connection.close()
            if self.path is not None:
                os.close(self._descriptor)
                if not self.read_only:
                    _held.pop(self._identity, None)

    def _abandon_journal(self) -> None:
        """Keep SQLite from writing a journal into contents that others have put into the file."""
        if self._change() != "overwritten" or not journal.has_writes(self._journal):
            return  # SQLite itself leaves a file alone that was removed or replaced
        if aside := journal.empty(self._journal):
            log.warning("%s was overwritten while it was open; what was not yet in it is kept in %s", self.path, aside)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read bytes of a file at an offset."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Write bytes of a file at an offset, and return when they are durable."""
    if hasattr(os, "pwrite"):
        os.pwrite(descriptor, content, offset)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)
        os.write(descriptor, content)
    sync(descriptor)
