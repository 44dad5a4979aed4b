"""The tables in which codes are kept beside the records that they are of.

They are made when codes are stored for the first time. They hold nothing that cannot be made from the records again, so
they are no part of the format: a nextk that does not know them leaves them alone, and its writes do no harm, because
every code is compared with the vector that it is used for. A backup copies them, and a rescue leaves them out.

Codes are stored part by part. Each part has a checksum that covers the codebook as well, so it counts for itself, and
whatever a crash leaves can be used.
"""

import sqlite3
import struct
from collections.abc import Iterable
from zlib import crc32

import numpy as np

from nextk.engine import checksums
from nextk.engine.pool.kept_codes import Codebook, CodedRows

__all__ = ["CodeTable"]

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS codebooks (
        namespace INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        trained INTEGER NOT NULL,
        written INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        centroids BLOB NOT NULL,
        checksum INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS codes (
        namespace INTEGER NOT NULL,
        part INTEGER NOT NULL,
        rows BLOB NOT NULL,
        checksums BLOB NOT NULL,
        codes BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (namespace, part)
    )
    """,
)
_ROW, _CHECKSUM = np.dtype("<i8"), np.dtype("<u4")


class CodeTable:
    """The stored codes of an index. Whoever writes to it has a transaction open.

    Args:
        connection: The connection to the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def codebook(self, key: int) -> Codebook | None:
        """Return the codebook of a namespace, or `None` if none is stored, or if it is damaged.

        Args:
            key: The key of the namespace.
        """
        statement = "SELECT kind, trained, written, rows, centroids, checksum FROM codebooks WHERE namespace = ?"
        found = self._connection.execute(statement, (key,)).fetchone() if self._exists() else None
        if found is None or list(map(type, found)) != [str, int, int, int, bytes, int] or len(found[4]) % 4:
            return None
        kind, trained, written, rows, centroids, checksum = found
        codebook = Codebook(kind, np.frombuffer(centroids, "<f4").astype(np.float32), trained, written, rows)
        return codebook if checksum == _checksum(codebook) and min(found[1:4]) >= 0 else None

    def part(self, key: int, number: int, codebook: Codebook) -> CodedRows | None:
        """Return a part of the codes of a namespace, or `None` if there is none of this number, or if it is damaged.

        Args:
            key: The key of the namespace.
            number: The number of the part, from 0 on.
            codebook: The codebook of the codes.
        """
        statement = "SELECT rows, checksums, codes, checksum FROM codes WHERE namespace = ? AND part = ?"
        found = self._connection.execute(statement, (key, number)).fetchone() if self._exists() else None
        if found is None or list(map(type, found)) != [bytes, bytes, bytes, int]:
            return None
        rows, checksums_, codes, checksum = found
        count = len(rows) // _ROW.itemsize
        if checksum != _checksum_of_part(codebook, found[:3]) or not count or len(codes) % count:
            return None
        if (len(rows), len(checksums_)) != (count * _ROW.itemsize, count * _CHECKSUM.itemsize):
            return None
        return CodedRows(
            np.frombuffer(rows, _ROW).astype(np.int64),
            np.frombuffer(checksums_, _CHECKSUM).astype(np.uint32),
            np.frombuffer(codes, np.uint8).reshape(count, -1),
        )

    def replace(self, key: int, codebook: Codebook) -> None:
        """Store the codebook of a namespace, and drop all codes that it had.

        Args:
            key: The key of the namespace.
            codebook: The codebook.
        """
        for statement in _TABLES:
            self._connection.execute(statement)
        self.forget(key)
        values = (codebook.kind, codebook.trained, codebook.written, codebook.rows)
        centroids = codebook.centroids.astype("<f4").tobytes()
        self._connection.execute(
            "INSERT INTO codebooks VALUES (?, ?, ?, ?, ?, ?, ?)", (key, *values, centroids, _checksum(codebook))
        )

    def add(self, key: int, number: int, part: CodedRows, codebook: Codebook) -> None:
        """Store a part of the codes of a namespace.

        Args:
            key: The key of the namespace.
            number: The number of the part; the first one is 0.
            part: The rows and their codes.
            codebook: The codebook that is stored.
        """
        blobs = part.rows.astype(_ROW).tobytes(), part.checksums.astype(_CHECKSUM).tobytes(), part.codes.tobytes()
        values = (key, number, *blobs, _checksum_of_part(codebook, blobs))
        self._connection.execute("INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?)", values)

    def forget(self, key: int) -> None:
        """Drop the codes of a namespace, if it has any."""
        if self._exists():
            self._connection.execute("DELETE FROM codes WHERE namespace = ?", (key,))
            self._connection.execute("DELETE FROM codebooks WHERE namespace = ?", (key,))

    def _exists(self) -> bool:
        statement = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'codebooks'"
        return self._connection.execute(statement).fetchone() is not None


def _checksum(codebook: Codebook) -> int:
    head = checksums.of_values(codebook.kind, codebook.trained, codebook.written, codebook.rows)
    return crc32(codebook.centroids.astype("<f4").tobytes(), head)


def _checksum_of_part(codebook: Codebook, blobs: Iterable[bytes]) -> int:
    checksum = _checksum(codebook)
    for blob in blobs:
        checksum = crc32(blob, crc32(struct.pack("<q", len(blob)), checksum))
    return checksum
