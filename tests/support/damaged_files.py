"""Index files with damage in them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path


def change(path: Path, statement: str, values: Sequence[object] = ()) -> None:
    """Change a closed file by a statement of SQL, behind the back of the engine."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def change_table_alone(path: Path, statement: str) -> None:
    """Change the records of a closed file by a statement of SQL of which the indexes of the table take no note."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        whole = connection.execute("SELECT rowid, type, name, tbl_name, rootpage, sql FROM sqlite_schema").fetchall()
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'records'")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE (namespace, id)', 'CHECK (TRUE)')")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema")
        connection.executemany(
            "INSERT INTO sqlite_schema (rowid, type, name, tbl_name, rootpage, sql) VALUES (?, ?, ?, ?, ?, ?)", whole
        )


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file, counted from its beginning."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
