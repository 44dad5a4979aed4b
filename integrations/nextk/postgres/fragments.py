"""Pieces of SQL with the values of their placeholders, so that no text of a user ever becomes SQL."""

from collections.abc import Iterable
from typing import Any, LiteralString, NamedTuple

from psycopg import sql

__all__ = ["Fragment", "joined"]


class Fragment(NamedTuple):
    """A piece of a statement.

    Attributes:
        sql: The text, in which `%s` stands for each value. Names are in it as `psycopg.sql.Identifier`.
        values: The values, in the order of their placeholders.
    """

    sql: sql.Composable
    values: tuple[Any, ...] = ()


def joined(separator: LiteralString, fragments: Iterable[Fragment]) -> Fragment:
    """Return one piece out of several, in their order.

    Args:
        separator: The SQL between two of them, with the blanks that it needs.
        fragments: The pieces.
    """
    pieces = tuple(fragments)
    text = sql.SQL(separator).join(piece.sql for piece in pieces)
    return Fragment(text, tuple(value for piece in pieces for value in piece.values))
