"""The checksums in the file of an index, by which damage to it is noticed.

A checksum is a CRC-32: it detects each flipped bit and each damaged stretch of up to 32 bits, lets any other damage
pass once in four billion times, is part of Python, and takes a quarter of the time of a cryptographic hash. It says
nothing about intent: whoever can write to the file can make checksums, too.

The numbers and the lengths of all values stand before the values themselves, so that no byte can move from one value to
its neighbour without being noticed.
"""

import struct
from zlib import crc32

UNKNOWN = -1
"""No record has this checksum. The conversion of an older format gives it to records that are damaged already."""

_RECORD = struct.Struct("<9q")
_ABSENT = -1  # the length of what is absent


def decode(text: bytes) -> str:
    """Decode a text of the file. It never fails: bytes that are no UTF-8 are escaped as lone surrogates."""
    return text.decode("utf-8", "surrogateescape")


def of_record(  # every delivered record passes here: written out, this takes half of the time of a loop
    row: int,
    key: int,
    number: int,
    id: bytes | bytearray,
    vector: bytes | None,
    indices: bytes | None,
    values: bytes | None,
    data: bytes | bytearray | None,
    metadata: bytes | bytearray | None,
) -> int:
    """Return the checksum of a record.

    Args:
        row: The row of the record.
        key: The key of its namespace. The name is left out, so that a namespace can be renamed at once.
        number: Its number in the namespace.
        id: Its id; this and the other texts as UTF-8.
        vector: Its dense vector, as it is stored; `None` if it has none, here and below.
        indices: The indices of its sparse vector.
        values: The values of its sparse vector.
        data: Its text.
        metadata: Its metadata as JSON text.
    """
    head = _RECORD.pack(
        row,
        key,
        number,
        len(id),
        _ABSENT if vector is None else len(vector),
        _ABSENT if indices is None else len(indices),
        _ABSENT if values is None else len(values),
        _ABSENT if data is None else len(data),
        _ABSENT if metadata is None else len(metadata),
    )
    return crc32(b"".join((head, id, vector or b"", indices or b"", values or b"", data or b"", metadata or b"")))


def of_values(*values: str | int) -> int:
    """Return the checksum of the values of a namespace, or of the properties of the index."""
    parts = [str(value).encode("utf-8", "surrogateescape") for value in values]
    return crc32(b"".join((struct.pack(f"<{len(parts)}q", *map(len, parts)), *parts)))
