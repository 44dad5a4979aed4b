"""Statements over many rows, of which SQLite fails at some if the file is damaged."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nextk.engine.damage import READ_FAILURES
from nextk.engine.failures import is_damage
from nextk.engine.interruption import raise_keyboard_interrupt

T = TypeVar("T")

_FUNCTION_FAILED = "user-defined function raised exception"
_MAX_VARIABLES = 500  # well below what any SQLite allows in one statement


def over_rows(
    connection: sqlite3.Connection,
    statement: str,
    values: Sequence[object],
    rows: Sequence[int],
    on_failure: Callable[[int], None],
    column: str = "records.row",
) -> Iterator[tuple[Any, ...]]:
    """Run a statement over rows, and yield what it selects.

    Args:
        connection: The connection to the file.
        statement: The statement, up to a condition to which a further one is added.
        values: The values of the placeholders in it.
        rows: The rows.
        on_failure: A function that is called with each row that SQLite finds damaged; the row is left out.
        column: The column of the rows.
    """
    for chunk in chunks(rows):
        selected = f"{statement} AND {column} IN ({placeholders(chunk)})", (*values, *chunk)
        try:
            yield from connection.execute(*selected).fetchall()
        except READ_FAILURES as error:
            if not is_damage(error):
                raise
            if str(error) == _FUNCTION_FAILED and _succeeds(connection, *selected):
                raise_keyboard_interrupt(error)  # a function that meets damage would have failed again
            if len(chunk) == 1:
                on_failure(chunk[0])
                continue
            half = len(chunk) // 2
            for part in (chunk[:half], chunk[half:]):
                yield from over_rows(connection, statement, values, part, on_failure, column)


def _succeeds(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> bool:
    try:
        connection.execute(statement, values).fetchall()
    except READ_FAILURES:
        return False
    return True


def placeholders(values: Sequence[object]) -> str:
    """Return a placeholder for each value."""
    return ", ".join("?" * len(values))


def chunks(values: Sequence[T], size: int = _MAX_VARIABLES) -> Iterator[Sequence[T]]:
    """Yield the values in parts of at most `size`, by default as many as one statement can take."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
