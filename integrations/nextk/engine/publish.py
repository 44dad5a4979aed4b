"""Give a finished file its name, so that nobody ever finds half a file under it."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path


def sync(descriptor: int) -> None:
    """Return when what was written to a file is on its disk."""
    os.fsync(descriptor)
    if sys.platform == "darwin":  # where fsync leaves it in the drive's cache
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


FILES_BESIDE = ("-wal", "-shm", "-journal", "-reserve")
"""The endings of the names of files that SQLite and nextk keep beside the file of an index."""


@contextlib.contextmanager
def partial_file(path: Path, purpose: str) -> Iterator[Path]:
    """Return a context manager for a file that is being made; it removes the file and those beside it at the end.

    Args:
        path: The path that the file takes when it is whole.
        purpose: A word for the name of the file, by which people know where it comes from.
    """
    partial = path.parent / f"nextk-{purpose}-{secrets.token_hex(4)}.partial"
    try:
        yield partial
    finally:
        for ending in ("", *FILES_BESIDE):
            with contextlib.suppress(OSError):  # where nothing could be made there is nothing to remove
                partial.with_name(partial.name + ending).unlink(missing_ok=True)


def publish(new: Path, path: Path, *, overwrite: bool = False) -> None:
    """Give a finished file its name, in one step and so that it survives a power cut.

    Args:
        new: The file, in the same folder as `path`. It may still have this name as well afterwards.
        path: The name.
        overwrite: Whether a file of this name is replaced. Default `False`.

    Raises:
        FileExistsError: There is something of this name, and it may not be replaced. On a file system without links,
            something that appears at the very same moment is replaced nevertheless.
    """
    if overwrite:
        new.replace(path)
    else:
        _give_free_name(new, path)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            sync(folder)
        finally:
            os.close(folder)


def _give_free_name(new: Path, path: Path) -> None:
    try:
        os.link(new, path)  # does not overwrite, as a rename would
    except FileExistsError:
        raise
    except OSError as error:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from error
        new.rename(path)
