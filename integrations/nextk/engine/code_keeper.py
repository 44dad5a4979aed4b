"""Keep the codes of the namespaces of an engine in its file, and read them again.

Nothing depends on it: codes that cannot be stored, or read, are made anew. So a failure of the file is logged and does
not reach anybody.
"""

import logging
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager

import numpy as np

from nextk.engine.cache import EngineCache
from nextk.engine.columns import Columns
from nextk.engine.failures import FAILURES
from nextk.engine.pool.kept_codes import Codebook, CodedRows
from nextk.engine.storage import Storage
from nextk.errors import RefusedError

log = logging.getLogger("nextk.engine")

_ROOM = 64 * 2**20  # bytes of the disk that are left to the records


class CodeKeeper:
    """Stores codes and reads them, part by part, so that the lock of the engine is free in between.

    Args:
        storage: The storage of the index.
        cache: The cache, which knows the namespace that columns belong to.
        lock: The lock of the engine.
    """

    def __init__(self, storage: Storage, cache: EngineCache, lock: AbstractContextManager[object]) -> None:
        self._storage = storage
        self._cache = cache
        self._lock = lock

    def read(self, columns: Columns) -> tuple[Codebook, CodedRows] | None:
        """Return the codes that are stored for a namespace, as far as they are not damaged; `None` if there are none.

        Args:
            columns: The columns of the namespace.
        """
        try:
            return self._read(columns)
        except (*FAILURES, RefusedError, MemoryError) as error:
            log.info("the codes in the file cannot be read, and are made anew: %s", error)
            return None

    def _read(self, columns: Columns) -> tuple[Codebook, CodedRows] | None:
        with self._lock:
            key = self._cache.current().key_of(columns)
            codebook = None if key is None else self._storage.codes.codebook(key)
        if key is None or codebook is None:
            return None
        parts: list[CodedRows] = []
        while (part := self._part(key, len(parts), codebook)) is not None:
            if parts and part.codes.shape[1] != parts[0].codes.shape[1]:
                break
            parts.append(part)
        if not parts:
            return codebook, CodedRows(np.empty(0, np.int64), np.empty(0, np.uint32), np.empty((0, 0), np.uint8))
        return codebook, CodedRows(*map(np.concatenate, zip(*parts, strict=True)))

    def _part(self, key: int, number: int, codebook: Codebook) -> CodedRows | None:
        with self._lock:
            return self._storage.codes.part(key, number, codebook)

    def write(self, columns: Columns, codebook: Codebook, parts: Iterable[CodedRows], size: int) -> None:
        """Store the codes of a namespace in the place of those that are stored, unless it is deleted meanwhile.

        Args:
            columns: The columns of the namespace.
            codebook: The codebook.
            parts: The rows and their codes.
            size: About how many bytes they have in all.
        """
        try:
            if not self._storage.read_only and self._has_room(size):
                self._write(columns, codebook, parts)
        except (*FAILURES, RefusedError, MemoryError) as error:
            log.info("codes are not kept in the file: %s", error)

    def _write(self, columns: Columns, codebook: Codebook, parts: Iterable[CodedRows]) -> None:
        table, storage = self._storage.codes, self._storage
        with self._lock:
            key = self._cache.current().key_of(columns)
            if key is None:
                return
            with storage.transaction():
                table.replace(key, codebook)
        for number, part in enumerate(parts):
            with self._lock:
                if self._cache.current().key_of(columns) != key:
                    return
                with storage.transaction():
                    table.add(key, number, part, codebook)

    def _has_room(self, size: int) -> bool:
        """Return whether the disk has room for so many bytes, twice because of the journal, and for records besides."""
        path = self._storage.path
        return path is not None and shutil.disk_usage(path.parent).free > 2 * size + _ROOM
