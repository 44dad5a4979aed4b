"""Index files with damage in them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path


def change(path: Path, statement: str, values: Sequence[object] = ()) -> None:
    """Change a closed file by a statement of SQL, behind the back of the engine."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file, counted from its beginning."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
