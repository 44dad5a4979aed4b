"""Keep the codes of the namespaces of an engine in its file, and read them again.

Nothing depends on it: codes that cannot be stored, or read, are made anew. So a failure of the file is logged and does
not reach anybody.
"""

import logging
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from weakref import ref

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

    It does not hold the storage: an index that is dropped while its codes are made is closed at once.

    Args:
        storage: The storage of the index.
        cache: The cache, which knows the namespace that columns belong to.
        lock: The lock of the engine.
    """

    def __init__(self, storage: Storage, cache: EngineCache, lock: AbstractContextManager[object]) -> None:
        self._storage = ref(storage)
        self._cache = ref(cache)
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
            storage, key = self._storage(), self._key_of(columns)
            codebook = None if storage is None or key is None else storage.codes.codebook(key)
            del storage
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
            storage = self._storage()
            return None if storage is None else storage.codes.part(key, number, codebook)

    def _key_of(self, columns: Columns) -> int | None:
        """Return the key of the namespace that columns belong to; `None` if there is none any more."""
        cache = self._cache()
        return None if cache is None else cache.current().key_of(columns)

    def write(self, columns: Columns, codebook: Codebook, parts: Iterable[CodedRows], size: int) -> None:
        """Store the codes of a namespace in the place of those that are stored, unless it is deleted meanwhile.

        Args:
            columns: The columns of the namespace.
            codebook: The codebook.
            parts: The rows and their codes.
            size: About how many bytes they have in all.
        """
        try:
            if self._has_room(size):
                self._write(columns, codebook, parts)
        except (*FAILURES, RefusedError, MemoryError) as error:
            log.info("codes are not kept in the file: %s", error)

    def _write(self, columns: Columns, codebook: Codebook, parts: Iterable[CodedRows]) -> None:
        with self._lock:
            storage, key = self._storage(), self._key_of(columns)
            if storage is None or key is None:
                return
            with storage.transaction():
                storage.codes.replace(key, codebook)
            del storage
        for number, part in enumerate(parts):
            with self._lock:
                storage = self._storage()
                if storage is None or self._key_of(columns) != key:
                    return
                with storage.transaction():
                    storage.codes.add(key, number, part, codebook)
                del storage

    def _has_room(self, size: int) -> bool:
        """Return whether the file can take so many bytes, twice because of the journal, and records besides."""
        storage = self._storage()
        if storage is None or storage.path is None or storage.read_only:
            return False
        return shutil.disk_usage(storage.path.parent).free > 2 * size + _ROOM
