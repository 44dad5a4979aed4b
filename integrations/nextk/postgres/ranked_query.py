"""A search for the nearest rows of a table, and the statements that it is made of. No I/O happens here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from psycopg import sql

from nextk.arguments import written
from nextk.errors import ClientError
from nextk.postgres.fragments import Fragment

__all__ = ["RankedQuery", "VectorOperator", "table_name", "uses_vector_index"]


class VectorOperator(StrEnum):
    """The operators of pgvector by which rows are ranked: a smaller result is nearer."""

    COSINE = "<=>"
    """The cosine distance."""
    EUCLIDEAN = "<->"
    """The Euclidean distance."""
    INNER_PRODUCT = "<#>"
    """The negative inner product."""
    TAXICAB = "<+>"
    """The taxicab distance."""


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """A search for the nearest rows of a table.

    Rows without a vector are no result of it. Two rows with one key count as one: the first to come.

    Attributes:
        table: The table, or a view; see `table_name`.
        key: The column whose values tell the rows apart.
        embedding: The column of the type `vector` or `halfvec`.
        operator: The operator that ranks.
        vector: The vector to compare with.
        columns: Further columns whose values come with each row.
        where: The condition that a row has to meet; `None` for all rows.
        half: The number of dimensions if the index is one of `embedding::halfvec`, as for more than 2,000 dimensions;
            `None` for an index of the column itself. The distances are exact in either case.

    Raises:
        ClientError: The vector is no list of finite numbers, or one of zeros, which has no cosine.
    """

    table: tuple[str, ...]
    key: str
    embedding: str
    operator: VectorOperator
    vector: Sequence[float]
    columns: tuple[str, ...] = ()
    where: Fragment | None = None
    half: int | None = None
    literal: str = field(init=False)
    """The vector as pgvector reads it."""

    def __post_init__(self) -> None:
        numbers = _numbers(self.vector)
        if self.operator is VectorOperator.COSINE and not any(numbers):
            message = (
                f"vector={written(self.vector)} is one of zeros, which has no cosine: no row is nearer than others"
            )
            raise ClientError(message)
        object.__setattr__(self, "literal", f"[{','.join(map(repr, numbers))}]")

    def by_index(self, without: Sequence[str] = ()) -> Fragment:
        """Return the statement that an index can carry out, in its order.

        Args:
            without: The keys of rows that are left out.
        """
        if self.half is None:
            return self._ranked(without, sql.SQL("{}").format(self._distance()))
        rounded = sql.SQL("({}::halfvec({half})) {} {}::halfvec({half})").format(
            _identifier(self.embedding), sql.SQL(self.operator.value), sql.Placeholder(), half=sql.Literal(self.half)
        )
        return self._ranked(without, rounded)

    def by_sorting(self, without: Sequence[str] = ()) -> Fragment:
        """Return the statement that gathers all rows and sorts them exactly, and that no index of vectors is used for.

        Args:
            without: The keys of rows that are left out.
        """
        # A sum is no expression that an index knows the order of. Rows of equal distances are sorted by their keys.
        return self._ranked(without, sql.SQL("({}) + 0, 1").format(self._distance()))

    def _distance(self) -> sql.Composed:
        return sql.SQL("{} {} {}").format(_identifier(self.embedding), sql.SQL(self.operator.value), sql.Placeholder())

    def _ranked(self, without: Sequence[str], order: sql.Composed) -> Fragment:
        columns = [_identifier(name) for name in self.columns]
        where = self._condition(without)
        text = sql.SQL("SELECT {key}, {columns} FROM {table} WHERE {where} ORDER BY {order}").format(
            key=self._key(),
            columns=sql.SQL(", ").join([self._distance(), *columns]),
            table=_identifier(*self.table),
            where=where.sql,
            order=order,
        )
        return Fragment(text, (self.literal, *where.values, self.literal))

    def _condition(self, without: Sequence[str]) -> Fragment:
        conditions: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(_identifier(self.embedding))]
        values: tuple[Any, ...] = ()
        if without:
            conditions.append(sql.SQL("{} <> ALL(%s::text[])").format(self._key()))
            values += (list(without),)
        if self.where is not None:
            conditions.append(sql.SQL("({})").format(self.where.sql))
            values += self.where.values
        return Fragment(sql.SQL(" AND ").join(conditions), values)

    @property
    def quoted_table(self) -> str:
        """The quoted name of the table, for messages, and as a value of the type `regclass`."""
        return sql.Identifier(*self.table).as_string(None)

    def _key(self) -> sql.Composed:
        return sql.SQL("{}::text").format(_identifier(self.key))


def table_name(given: str | Sequence[Any]) -> tuple[str, ...]:
    """Return the parts of the name of a table, its schema first if there is one.

    Args:
        given: The name, as one text, or a schema and a name: `("public", "articles")`. A text with a dot is one name.

    Raises:
        ClientError: It is neither.
    """
    parts = (given,) if isinstance(given, str) else tuple(given)
    if not parts or any(not isinstance(part, str) or not part or "\0" in part for part in parts):
        message = f'table={written(given)} is neither a name nor a schema and a name, as ("public", "articles")'
        raise ClientError(message)
    return parts


def uses_vector_index(plan: Any) -> bool:
    """Return whether a plan takes the order of the rows from an index, which may lack some at its end.

    Args:
        plan: The plan, as `EXPLAIN (FORMAT JSON)` describes it.
    """
    if isinstance(plan, list):
        return any(map(uses_vector_index, plan))
    if not isinstance(plan, dict):
        return False
    if "Index" in str(plan.get("Node Type", "")) and "Order By" in plan:
        return True
    return uses_vector_index(plan.get("Plan")) or uses_vector_index(plan.get("Plans"))


def _identifier(*parts: str) -> sql.Identifier:
    """Return a quoted name. psycopg reads percent signs, wherever they stand in a statement that has values."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def _numbers(vector: Sequence[float]) -> list[float]:
    try:
        numbers = [] if isinstance(vector, str | bytes) else [float(number) for number in vector]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        message = f"vector={written(vector)} is no list of finite numbers"
        raise ClientError(message)
    return numbers
