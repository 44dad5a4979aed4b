"""Sparse search on PostgreSQL: the sparse vectors of an index by dimension, in blocks, and the scores of a query.

    postings_<number>     (namespace, dimension, block) -> the entries of the rows in that block that have the dimension

A block spans 2,048 consecutive rows. An entry takes 6 bytes, its row within the block and its value, so that new ones
are appended without reading those that are there. A fifth of each page is left free, so that most blocks grow within
their page. The number of records with a dimension is the length of its blocks, therefore statistics are right in every
snapshot, and nothing else has to be counted.

Whoever writes holds the lock of the namespace, and the entries of different namespaces lie in different rows of the
table. So writers neither lose the entries of others nor wait for each other in a circle.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from nextk.engine.sparse import inverse_frequencies
from nextk.engine.values import SparseArrays
from nextk.postgres.fragments import Fragment
from nextk.postgres.sparse_blocks import BLOCK_ROWS, DimensionEntries, added_up, blocks_of, without_rows

__all__ = ["clear", "create", "remove", "remove_ids", "scores", "size", "write"]

_ROWS_AT_ONCE = 5_000  # of records that are removed
_FEW = 1_000  # matches that are filtered one by one, rather than all records of the namespace

_BIGINT_ARRAY = psycopg.adapters.types["int8"].array_oid
_ARRAY_HEADER = 20  # bytes of an array of one dimension before its first element
_ELEMENT = np.dtype([("size", ">i4"), ("row", ">i8")])


class _RowLoader(Loader):
    """Reads an array of rows, none of which is NULL, without making a Python number of each."""

    format = Format.BINARY

    def load(self, data: Buffer) -> NDArray[np.int64]:
        return np.frombuffer(data, _ELEMENT, offset=_ARRAY_HEADER)["row"].astype(np.int64)


def create(connection: "psycopg.Connection[Any]", schema: str, number: int) -> None:
    """Make the table of an index.

    Args:
        connection: A connection, in a transaction.
        schema: The database schema.
        number: The number of the index.
    """
    statement = """
        CREATE TABLE {} (
            namespace bigint NOT NULL,
            dimension int NOT NULL,
            block bigint NOT NULL,
            entries bytea STORAGE MAIN NOT NULL,
            PRIMARY KEY (namespace, dimension, block))
            WITH (fillfactor = 80)
        """
    connection.execute(sql.SQL(statement).format(_postings(schema, number)))


def size(connection: "psycopg.Connection[Any]", schema: str, number: int) -> int:
    """Return the bytes that the table of an index takes, with its indexes."""
    name = _postings(schema, number).as_string()
    found = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (name,)).fetchone()
    assert found is not None
    return int(found[0])


def write(
    connection: "psycopg.Connection[Any]",
    schema: str,
    number: int,
    namespace: int,
    rows: Sequence[int],
    vectors: Sequence[SparseArrays],
) -> None:
    """Add the sparse vectors of rows that have none.

    Args:
        connection: A connection, in a transaction that holds the lock of the namespace.
        schema: The database schema.
        number: The number of the index.
        namespace: The key of the namespace.
        rows: The rows, which are distinct.
        vectors: The vector of each row.
    """
    keys, entries = blocks_of(np.array(rows, np.int64), vectors)
    if not len(keys):
        return
    statement = """
        INSERT INTO {} AS present (namespace, dimension, block, entries)
        SELECT %s, * FROM unnest(%b::int[], %b::bigint[], %b::bytea[])
        ON CONFLICT (namespace, dimension, block) DO UPDATE SET entries = present.entries || excluded.entries
        """
    values = (namespace, keys[:, 0].tolist(), keys[:, 1].tolist(), entries)
    connection.execute(sql.SQL(statement).format(_postings(schema, number)), values)


def remove(
    connection: "psycopg.Connection[Any]", schema: str, number: int, namespace: int, rows: Sequence[int]
) -> None:
    """Remove the sparse vectors of records, which must still be there as they were written.

    Args:
        connection: A connection, in a transaction that holds the lock of the namespace.
        schema: The database schema.
        number: The number of the index.
        namespace: The key of the namespace.
        rows: The rows of the records. Those that do not exist are left out.
    """
    _remove_where(connection, schema, number, namespace, Fragment(sql.SQL("row = ANY(%s)"), (list(rows),)))


def remove_ids(
    connection: "psycopg.Connection[Any]", schema: str, number: int, namespace: int, ids: Sequence[str]
) -> None:
    """Remove the sparse vectors of records that will be replaced, as `remove` does.

    Args:
        connection: A connection, in a transaction that holds the lock of the namespace.
        schema: The database schema.
        number: The number of the index.
        namespace: The key of the namespace.
        ids: The ids of the records. Those that do not exist are left out.
    """
    _remove_where(connection, schema, number, namespace, Fragment(sql.SQL("id = ANY(%s)"), (list(ids),)))


def clear(connection: "psycopg.Connection[Any]", schema: str, number: int, namespace: int) -> None:
    """Remove all sparse vectors of a namespace.

    Args:
        connection: A connection, in a transaction that holds the lock of the namespace.
        schema: The database schema.
        number: The number of the index.
        namespace: The key of the namespace.
    """
    statement = sql.SQL("DELETE FROM {} WHERE namespace = %s").format(_postings(schema, number))
    connection.execute(statement, (namespace,))


def scores(
    connection: "psycopg.Connection[Any]",
    schema: str,
    number: int,
    namespace: int,
    query: SparseArrays,
    *,
    weighted: bool,
    passing: Fragment | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score every record of a namespace that shares a dimension with a query.

    Args:
        connection: A connection, in a transaction that sees one state of the tables.
        schema: The database schema.
        number: The number of the index.
        namespace: The key of the namespace.
        query: The dimensions and values of the query; the contributions of a repeated dimension are added up.
        weighted: Whether the query is weighted by inverse document frequency in the namespace.
        passing: A condition over the table of the records, which is called `records`; `None` for all of them.

    Returns:
        The rows of the matches, int64 (m,), ascending; and their scores, float32 (m,). They are those of
        `nextk.engine.sparse`: weighted, multiplied and added in float32, in the order of the query.
    """
    found = _read(connection, schema, number, namespace, query.indices)
    weights = query.values
    if weighted:
        containing = np.array([len(found[dimension].rows) for dimension in query.indices.tolist()], np.float64)
        with np.errstate(over="ignore"):
            weights = weights * inverse_frequencies(_count(connection, schema, namespace), containing)
    rows, totals = added_up([found[dimension] for dimension in query.indices.tolist()], weights)
    if passing is not None and len(rows):
        kept = np.isin(rows, _passing(connection, schema, number, namespace, rows, passing), assume_unique=True)
        rows, totals = rows[kept], totals[kept]
    return rows, totals


def _postings(schema: str, number: int) -> sql.Identifier:
    return sql.Identifier(schema, f"postings_{number}")


def _records(schema: str, number: int) -> sql.Identifier:
    return sql.Identifier(schema, f"records_{number}")


def _remove_where(
    connection: "psycopg.Connection[Any]", schema: str, number: int, namespace: int, condition: Fragment
) -> None:
    select = sql.SQL("SELECT row, sparse_indices FROM {} WHERE namespace = %s AND {} ORDER BY row").format(
        _records(schema, number), condition.sql
    )
    found = connection.execute(select, (namespace, *condition.values), binary=True).fetchall()
    for start in range(0, len(found), _ROWS_AT_ONCE):
        part = found[start : start + _ROWS_AT_ONCE]
        keys = {(dimension, row // BLOCK_ROWS) for row, dimensions in part for dimension in dimensions}
        if keys:
            rows = np.array([row for row, _ in part], np.int64)
            _remove_from(connection, _postings(schema, number), namespace, rows, sorted(keys))


def _remove_from(
    connection: "psycopg.Connection[Any]",
    postings: sql.Identifier,
    namespace: int,
    rows: NDArray[np.int64],
    keys: Sequence[tuple[int, int]],
) -> None:
    """Remove the entries of rows from blocks, and the blocks that are empty then."""
    select = """
        SELECT dimension, block, entries
        FROM {} JOIN unnest(%b::int[], %b::bigint[]) AS keys (dimension, block) USING (dimension, block)
        WHERE namespace = %s
        """
    left: list[tuple[int, int, bytes]] = []
    given = (*map(list, zip(*keys, strict=True)), namespace)
    for dimension, block, content in connection.execute(sql.SQL(select).format(postings), given, binary=True):
        left.append((dimension, block, without_rows(block, content, rows)))
    _replace(connection, postings, namespace, [block for block in left if block[2]])
    empty = [(dimension, block) for dimension, block, entries in left if not entries]
    if empty:
        delete = """
            DELETE FROM {} AS present USING unnest(%b::int[], %b::bigint[]) AS keys (dimension, block)
            WHERE namespace = %s AND present.dimension = keys.dimension AND present.block = keys.block
            """
        connection.execute(sql.SQL(delete).format(postings), (*map(list, zip(*empty, strict=True)), namespace))


def _replace(
    connection: "psycopg.Connection[Any]",
    postings: sql.Identifier,
    namespace: int,
    blocks: Sequence[tuple[int, int, bytes]],
) -> None:
    if not blocks:
        return
    update = """
        UPDATE {} AS present SET entries = given.entries
        FROM unnest(%b::int[], %b::bigint[], %b::bytea[]) AS given (dimension, block, entries)
        WHERE namespace = %s AND present.dimension = given.dimension AND present.block = given.block
        """
    connection.execute(sql.SQL(update).format(postings), (*map(list, zip(*blocks, strict=True)), namespace))


def _read(
    connection: "psycopg.Connection[Any]", schema: str, number: int, namespace: int, dimensions: NDArray[np.int32]
) -> dict[int, DimensionEntries]:
    """Return the entries of some dimensions, each of which is in the result."""
    distinct = sorted(set(dimensions.tolist()))
    statement = sql.SQL(
        "SELECT dimension, block, entries FROM {} WHERE namespace = %s AND dimension = ANY(%b::int[])"
    ).format(_postings(schema, number))
    parts: dict[int, tuple[list[int], list[bytes]]] = {dimension: ([], []) for dimension in distinct}
    for dimension, block, content in connection.execute(statement, (namespace, distinct), binary=True):
        blocks, contents = parts[dimension]
        blocks.append(block)
        contents.append(content)
    return {dimension: DimensionEntries.of(*part) for dimension, part in parts.items()}


def _count(connection: "psycopg.Connection[Any]", schema: str, namespace: int) -> int:
    """Return the number of records of a namespace, each of which has a sparse vector."""
    statement = sql.SQL("SELECT records FROM {} WHERE key = %s").format(sql.Identifier(schema, "namespaces"))
    found = connection.execute(statement, (namespace,)).fetchone()
    return 0 if found is None else int(found[0])


def _passing(
    connection: "psycopg.Connection[Any]",
    schema: str,
    number: int,
    namespace: int,
    matching: NDArray[np.int64],
    passing: Fragment,
) -> NDArray[np.int64]:
    """Return the rows that pass a condition, among them all matching ones that do; in any order."""
    few = len(matching) <= _FEW
    statement = sql.SQL("SELECT array_agg(row) FROM {} AS records WHERE namespace = %s AND {} AND {}").format(
        _records(schema, number), passing.sql, sql.SQL("row = ANY(%b::bigint[])" if few else "TRUE")
    )
    with connection.cursor(binary=True) as cursor:
        cursor.adapters.register_loader(_BIGINT_ARRAY, _RowLoader)
        values = (namespace, *passing.values, *([matching.tolist()] if few else []))
        found = cursor.execute(statement, values).fetchone()
    return np.empty(0, np.int64) if found is None or found[0] is None else found[0]
