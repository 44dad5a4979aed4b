"""Folders for the copies of served indexes: one for each copy, and nothing is ever removed that no backup has made.

They are in a folder of their own among the indexes. A server that is killed may leave one there; it is removed with the
next backup, and only if no process holds its lock, which ends with the process that has made it.
"""

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["COPIES", "CopyFolder"]

COPIES = ".nextk-backups"
"""The name of the folder, among the indexes, in which copies are made."""

_COPY = "copy"
_PREFIX = "nextk-backup-"
# The copy, the name under which it is made, and the files that SQLite and nextk keep beside that.
_OWN_FILE = re.compile(r"copy|nextk-backup-[0-9a-f]{8}\.partial(-\w+)?")


class CopyFolder:
    """A folder for one copy, with a lock for as long as it is there. Making it removes those of killed servers.

    Args:
        indexes: The folder of the indexes. `None`, or one that cannot be written, stands for that of the system's
            temporary files, where nothing of other servers is removed.

    Attributes:
        copy: The path of the copy, which is not there yet.

    Raises:
        OSError: There is no room for a folder.
    """

    def __init__(self, indexes: Path | None) -> None:
        self._lock: int | None = None
        try:
            self._path = _make(None) if indexes is None else self._make_in(indexes / COPIES)
        except OSError:  # the folder of the indexes can only be read
            self._path = _make(None)
        self.copy = self._path / _COPY

    def remove(self) -> None:
        """Remove the folder, with the files that a backup makes. Where anything else is in it, that stays."""
        _remove(self._path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_in(self, place: Path) -> Path:
        place.mkdir(mode=0o700, exist_ok=True)
        lock = _locked(place, wait=True)  # or another server could take the new folder for one that nobody has
        try:
            if lock is not None:
                _remove_abandoned(place)
            path = _make(place)
            self._lock = _locked(path)
        finally:
            if lock is not None:
                os.close(lock)
        return path


def _make(parent: Path | None) -> Path:
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _remove_abandoned(place: Path) -> None:
    """Remove the folders that no process holds any more."""
    for path in place.glob(f"{_PREFIX}*"):
        lock = _locked(path)
        if lock is not None:
            _remove(path)
            os.close(lock)


def _locked(path: Path, *, wait: bool = False) -> int | None:
    """Lock a folder; return the descriptor that holds the lock, or `None` if that is impossible."""
    if sys.platform == "win32":  # which locks no folders
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks
        os.close(descriptor)
        return None
    return descriptor


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        for file in path.iterdir():
            if _OWN_FILE.fullmatch(file.name):
                file.unlink()
        path.rmdir()  # refuses if anything is left
