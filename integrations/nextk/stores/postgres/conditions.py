"""Filters of a search as conditions of SQL. Private, without I/O."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from nextk.arguments import written
from nextk.engine.filter.syntax import parse
from nextk.errors import ClientError
from nextk.postgres.filter_sql import filter_fragment
from nextk.postgres.fragments import Fragment

_PAIR = 2


def condition_of(given: Any, metadata: str | None, columns: Sequence[str] = ()) -> Fragment:
    """Return the condition that a filter stands for.

    No text becomes SQL unless the program has made `psycopg.sql.SQL` of it, so that a filter of a model or of a user
    cannot reach beyond its values.

    Args:
        given: A text in the filter language of an index; a dict of metadata that a row has to have; or a pair of SQL of
            psycopg, with `%s` for each value, and its values.
        metadata: The column of the metadata; `None` for none.
        columns: Further columns, each of which is metadata under its name.

    Raises:
        ClientError: It is none of them, or one of metadata where there is none.
        RefusedError: It is a text that is malformed.
    """
    if isinstance(given, str | Mapping):
        column = _metadata_of(metadata, columns)
        if column is None:
            message = (
                f"filter={written(given)} is one of metadata, and this source has no column of metadata: name it by "
                "metadata=, or give a condition, as (SQL('lang = %s'), ['de'])"
            )
            raise ClientError(message)
        return _on_metadata(given, column)
    pair = isinstance(given, tuple | list) and len(given) == _PAIR
    if pair and isinstance(given[0], sql.Composable) and _is_list(given[1]):
        return Fragment(sql.SQL("({})").format(given[0]), tuple(given[1]))
    message = (
        f"filter={written(given)} is neither a text in the language of an index, as \"lang = 'de'\", nor a dict of "
        "metadata, as {'lang': 'de'}, nor SQL of psycopg with its values, as (SQL('lang = %s'), ['de'])"
    )
    raise ClientError(message)


def _metadata_of(metadata: str | None, columns: Sequence[str]) -> sql.Composable | None:
    """Return the expression of the metadata that a row comes with; `None` if it comes with none."""
    own = None if metadata is None else sql.SQL("{}::jsonb").format(sql.Identifier(metadata.replace("%", "%%")))
    if not columns:
        return own
    names = [name.replace("%", "%%") for name in columns]  # psycopg reads percent signs within names, too
    pairs = [part for name in names for part in (sql.Literal(name), sql.Identifier(name))]
    built = sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))
    return built if own is None else sql.SQL("(coalesce({}, '{{}}') || {})").format(own, built)


def _on_metadata(given: str | Mapping[Any, Any], column: sql.Composable) -> Fragment:
    if isinstance(given, Mapping):
        return Fragment(sql.SQL("{} @> %s").format(column), (Jsonb(dict(given)),))
    tree = parse(given)
    return Fragment(sql.SQL("true")) if tree is None else filter_fragment(tree, column)


def _is_list(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str | bytes)
