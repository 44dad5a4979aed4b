"""Backups of served indexes: a copy of an index as it is at one moment, sent to whoever has the full token.

The copy is made in a file before the first byte is sent, so that it is whole and its digest is known, and nothing of it
is held in memory. While it is made and sent, the index is searched and written as ever.
"""

import asyncio
import base64
import functools
import hashlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Executor
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from nextk.engine.abandonment import is_abandoned
from nextk.engine.failures import FAILURES, refusal
from nextk.engine.protocol import Engine
from nextk.errors import ClientError, RefusedError
from nextk.server.copy_folders import CopyFolder
from nextk.server.turns import ClientLeft, Turns

log = logging.getLogger("nextk.server")

__all__ = ["BackupReply", "Backups"]

_AT_A_TIME = 2  # copies that are made; each is bound to the speed of the disk
_PIECE = 2**18  # bytes that are read and sent at once


class Backups:
    """Makes the backups of one server, one at a time for each index.

    Args:
        folder: The folder of the indexes, in which copies are made in `COPIES`; `None` for that of the system's
            temporary files.
        executor: Makes that which makes the copies, of their number at a time and a name.
    """

    def __init__(self, folder: Path | None, executor: Callable[[int, str], Executor]) -> None:
        self._folder = folder
        self._turns = Turns(_AT_A_TIME, "nextk-backup", executor)
        self._under_way: set[str] = set()

    def end(self) -> None:
        """Give up the copies that are being made, and refuse further ones: the server is being stopped."""
        self._turns.end()

    def close(self) -> None:
        """End the threads. A later backup starts new ones."""
        self._turns.close()

    async def reply(self, name: str, engine: Engine, has_left: Callable[[], Awaitable[bool]]) -> "BackupReply":
        """Copy an index, and return the reply that sends the copy.

        Args:
            name: The name of the index.
            engine: The index.
            has_left: Waits for the client to leave; see `Turns.run`.

        Raises:
            RefusedError: A backup of this index is under way already (status 503), or it cannot be copied.
            ClientLeft: The client has left.
        """
        if name in self._under_way:
            message = f"A backup of the index {name} is under way already: try again when it has ended"
            raise RefusedError(message, 503)
        self._under_way.add(name)
        copy = _Copy(name, self._folder, functools.partial(self._under_way.discard, name))
        try:
            await self._turns.run(name, functools.partial(copy.make, engine), has_left)
        except BaseException:
            await copy.remove()
            raise
        return BackupReply(name, copy)


class BackupReply:
    """The ASGI application that sends a copy, and removes it however that ends.

    Attributes:
        status: The HTTP status.
        reason: The word for a refusal, of which this is none.
    """

    status = 200
    reason = ""

    def __init__(self, name: str, copy: "_Copy") -> None:
        self._name = name
        self._copy = copy

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the copy, as long as the client is there."""
        left = asyncio.ensure_future(_left(receive))
        sent = 0
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": self._headers()})
            while not left.done():
                piece = await run_in_threadpool(self._copy.file.read, _PIECE)
                await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
                sent += len(piece)
                if not piece:
                    break
        finally:
            left.cancel()
            await self._copy.remove()
            log.info("index=%s backup sent=%d of=%d", self._name, sent, self._copy.size)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        digest = base64.b64encode(self._copy.digest).decode()
        headers = {
            "content-type": "application/vnd.sqlite3",
            "content-length": str(self._copy.size),
            "content-digest": f"sha-256=:{digest}:",
            "content-disposition": f"attachment; filename*=UTF-8''{quote(self._name, '')}.nextk",
            "cache-control": "no-store",
        }
        return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Copy:
    """A copy of an index in a folder of its own, until it is removed.

    Args:
        name: The name of the index.
        folder: The folder of the indexes; `None` for that of the system's temporary files.
        on_removal: Called once, when nobody makes, sends or needs the copy any more, before it is removed.

    Attributes:
        file: The copy, open for reading.
        size: The number of its bytes.
        digest: Their SHA-256.
    """

    file: BinaryIO
    digest: bytes

    def __init__(self, name: str, folder: Path | None, on_removal: Callable[[], None]) -> None:
        self.size = 0
        self._name = name
        self._indexes = folder
        self._folder: CopyFolder | None = None
        self._on_removal = on_removal
        self._lock = threading.Lock()  # between the thread that makes the copy and whoever gives it up meanwhile
        self._is_in_work = False
        self._is_wanted = True

    def make(self, engine: Engine) -> None:
        """Copy the index. Whoever waits for that may leave; if it fails or is not wanted any more, nothing is left.

        Raises:
            RefusedError: The index cannot be copied.
            ClientLeft: Nobody waits for the copy any more.
        """
        with self._lock:
            self._is_in_work = self._is_wanted
        if not self._is_in_work:
            raise ClientLeft
        try:
            self._copy(engine)
        except CancelledError:
            raise ClientLeft from None
        except FAILURES as error:
            raise refusal(error, self._name) from error
        except ClientError as error:
            raise self._in_words(error) from error
        finally:
            with self._lock:
                self._is_in_work = False
                is_wanted = self._is_wanted
            if not is_wanted:
                self._on_removal()
                self._remove()

    async def remove(self) -> None:
        """Remove the copy. If it is being made, the thread that makes it removes it as soon as it notices."""
        with self._lock:
            is_new, self._is_wanted = self._is_wanted, False
            if self._is_in_work or not is_new:
                return
        self._on_removal()
        try:
            await run_in_threadpool(self._remove)  # a file system takes a while to free gigabytes
        except asyncio.CancelledError:
            self._remove()  # because no thread may have begun with it
            raise

    def _copy(self, engine: Engine) -> None:
        self._folder = CopyFolder(self._indexes)
        engine.backup(self._folder.copy, overwrite=False, abandoned=is_abandoned)
        self.file = self._folder.copy.open("rb")
        if os.name == "posix":  # so that not even a killed server leaves it behind
            self._folder.copy.unlink()
        self._measure()

    def _remove(self) -> None:
        with self._lock:
            folder, self._folder = self._folder, None
        if folder is not None:
            if hasattr(self, "file"):
                self.file.close()
            folder.remove()

    def _measure(self) -> None:
        """Take the size and the digest."""
        digest = hashlib.sha256()
        while piece := self.file.read(_PIECE):
            if is_abandoned():
                raise CancelledError
            digest.update(piece)
            self.size += len(piece)
        self.digest = digest.digest()
        self.file.seek(0)

    def _in_words(self, error: ClientError) -> RefusedError:
        """Return the refusal for a copy that failed. It names no files, which are the operator's to know."""
        if isinstance(error.__cause__, FAILURES):
            return refusal(error.__cause__, self._name)
        log.error("index=%s backup failed: %s", self._name, error)
        return RefusedError(f"The index {self._name} cannot be backed up: the log of the server says why", 500)
