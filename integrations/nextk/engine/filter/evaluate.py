"""Evaluate the tree of a filter over the values of its fields in memory.

The result is that of the SQL condition; see `nextk.engine.filter.sql`.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from nextk.engine.filter import glob
from nextk.engine.filter.columns import Field, FieldValues
from nextk.engine.filter.sql import read_literal
from nextk.engine.filter.tree import And, Compare, Contains, Glob, HasField, In, Node, Or

__all__ = ["evaluate", "fields_of"]


def fields_of(node: Node | None) -> set[Field]:
    """Return the fields whose values `evaluate` needs; none for the tree of a blank filter, which is `None`."""
    return set() if node is None else set(_fields(node))


def evaluate(
    node: Node, values: Mapping[Field, FieldValues], among: NDArray[np.bool_], check: Callable[[], None]
) -> NDArray[np.bool_]:
    """Return which slots pass a filter.

    Args:
        node: The tree of the filter.
        values: The values of the fields that `fields_of` returns.
        among: The slots that are asked for; bool (slots,). No other one passes.
        check: Called every now and then. Whatever it raises ends this.

    Returns:
        Whether each slot is one of these and passes; bool (slots,).
    """
    match node:
        case And(nodes):
            for part in sorted(nodes, key=_is_dear):
                if not among.any():
                    break
                among = evaluate(part, values, among, check)
            return among
        case Or(nodes):
            passing = np.zeros(len(among), np.bool_)
            for part in sorted(nodes, key=_is_dear):
                passing |= evaluate(part, values, among & ~passing, check)
            return passing
        case Glob(path, pattern, negated):
            texts = values[Field(path)]
            found = texts.matching(glob.matcher(pattern), among, check)
            return among & texts.strings() & ~found if negated else found
        case _:
            check()
            return among & _test(node, values)


def _fields(node: Node) -> Iterator[Field]:
    match node:
        case And(nodes) | Or(nodes):
            for part in nodes:
                yield from _fields(part)
        case Contains(path, _, negated):
            yield Field(path, elements=True)
            if negated:
                yield Field(path)
        case _:
            yield Field(node.path)


def _is_dear(node: Node) -> bool:
    """Return whether a node is evaluated after its neighbours, because it costs more the more slots are left."""
    return isinstance(node, Glob | And | Or)


def _test(node: Compare | In | Contains | HasField, values: Mapping[Field, FieldValues]) -> NDArray[np.bool_]:
    """Return which slots pass a single test, whose time is that of a few passes over the arrays."""
    match node:
        case HasField(path, negated):
            field = values[Field(path)]
            return ~field.present() if negated else field.present()
        case Compare(path, "=" | "!=" as operator, value):
            field = values[Field(path)]
            equal = field.equal([read_literal(value)])
            return equal if operator == "=" else field.not_null() & ~equal
        case Compare(path, operator, value):
            number = read_literal(value)
            assert not isinstance(number, str)
            return values[Field(path)].ordered(operator, number)
        case In(path, literals, negated):
            field = values[Field(path)]
            equal = field.equal([read_literal(value) for value in literals])
            return field.not_null() & ~equal if negated else equal
        case Contains(path, value, negated):
            found = values[Field(path, elements=True)].equal([read_literal(value)])
            return values[Field(path)].arrays() & ~found if negated else found
