"""The meaning of LlamaIndex's filters: they are read once, then evaluated record by record.

The rules are those of `build_metadata_filter_fn` in llama_index.core 0.14.25, written anew: that function accepts no
groups inside groups, raises because of single records, and before 0.14.23 took a missing key to be equal to everything.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from nextk.errors import ClientError

MAX_NESTING = 64

Verdict: TypeAlias = bool | None
"""Whether a filter holds for a record; `None` if it is undecided because LlamaIndex would raise."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One `MetadataFilter`.

    Attributes:
        key: The key of the metadata.
        operator: LlamaIndex's operator.
        value: The value with which the stored one is compared.
    """

    key: str
    operator: FilterOperator
    value: Any

    def holds(self, metadata: Mapping[str, Any]) -> Verdict:
        """Return whether the condition holds for the metadata of a record."""
        stored = metadata.get(self.key)
        if self.operator is FilterOperator.IS_EMPTY:
            return stored is None or stored in ("", [])
        if stored is None:
            return self.operator in (FilterOperator.NE, FilterOperator.NIN)
        try:
            return _OPERATORS[self.operator](stored, self.value)
        except TypeError:
            return None


@dataclass(frozen=True, slots=True)
class ConditionGroup:
    """One `MetadataFilters`, a group of filters. Without parts it always holds.

    Attributes:
        condition: AND, OR or NOT.
        parts: The conditions and groups that are joined.
    """

    condition: FilterCondition
    parts: "tuple[Condition | ConditionGroup, ...]"

    def holds(self, metadata: Mapping[str, Any]) -> Verdict:
        """Return whether the group holds for the metadata of a record; `None` if that depends on an undecided part."""
        if not self.parts:
            return True
        verdicts = {part.holds(metadata) for part in self.parts}
        decisive = self.condition is not FilterCondition.AND
        if decisive in verdicts:
            return self.condition is FilterCondition.OR
        return None if None in verdicts else self.condition is not FilterCondition.OR


def read(filters: MetadataFilters) -> ConditionGroup:
    """Check filters and convert them into conditions and groups.

    Raises:
        ClientError: If LlamaIndex would raise at every record that holds the key of a filter, if its model would refuse
            a filter, or if groups are nested too deep.
    """
    return _group(filters, 1)


def _group(filters: Any, level: int) -> ConditionGroup:
    if level > MAX_NESTING:
        message = f"MetadataFilters are nested more than {MAX_NESTING} deep"
        raise ClientError(message)
    if not isinstance(filters, MetadataFilters) or not isinstance(filters.filters, list):
        message = f"filters must be MetadataFilters with a list of filters, not {type(filters).__name__}"
        raise ClientError(message)
    condition = _member(FilterCondition, filters.condition or FilterCondition.AND, "condition")
    parts = (
        _condition(part) if isinstance(part, MetadataFilter) else _group(part, level + 1) for part in filters.filters
    )
    return ConditionGroup(condition, tuple(parts))


def _condition(given: MetadataFilter) -> Condition:
    name = f"MetadataFilter(key={given.key!r}, operator={given.operator!r})"
    if not isinstance(given.key, str):
        message = f"{name}: the key must be a string"
        raise ClientError(message)
    condition = Condition(given.key, _member(FilterOperator, given.operator, name), _copied(given.value, name))
    missing = _missing(condition)
    if missing:
        message = f"{name} needs {missing} as its value, not {type(condition.value).__name__}"
        message += "; what lacks the key is found by FilterOperator.IS_EMPTY" if condition.value is None else ""
        raise ClientError(message)
    return condition


def _missing(condition: Condition) -> str | None:
    """Return what value an operator needs, if it can only raise with the one that it has; else `None`."""
    match condition.operator:
        case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE if condition.value is None:
            return "a number, a string or a list"
        case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE if not isinstance(condition.value, str):
            return "a string"
        case FilterOperator.IN | FilterOperator.NIN | FilterOperator.ANY | FilterOperator.ALL:
            return None if isinstance(condition.value, str | list) else "a list"
        case _:
            return None


def _copied(value: Any, name: str) -> Any:
    """Return a copy of a value, whose type has to be one that LlamaIndex's model accepts, or a boolean."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and any(all(isinstance(part, kind) for part in value) for kind in (str, int | float)):
        return list(value)
    message = f"{name}: the value must be a string, a number, a list of strings, a list of numbers, or None"
    raise ClientError(message)


def _member(kind: Any, value: Any, name: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        message = f"{name}: {value!r} is none of {', '.join(repr(member.value) for member in kind)}"
        raise ClientError(message) from None


def _is_in(stored: Any, value: Any) -> bool:
    return stored in value


def _in_text(stored: Any, value: str) -> Verdict:
    return value in stored if isinstance(stored, str) else None


def _in_text_of_any_case(stored: Any, value: str) -> Verdict:
    return value.lower() in stored.lower() if isinstance(stored, str) else None


_OPERATORS: Mapping[FilterOperator, Callable[[Any, Any], Verdict]] = {
    FilterOperator.EQ: operator.eq,
    FilterOperator.NE: operator.ne,
    FilterOperator.GT: operator.gt,
    FilterOperator.GTE: operator.ge,
    FilterOperator.LT: operator.lt,
    FilterOperator.LTE: operator.le,
    FilterOperator.IN: _is_in,
    FilterOperator.NIN: lambda stored, value: stored not in value,
    FilterOperator.CONTAINS: operator.contains,
    FilterOperator.TEXT_MATCH: _in_text,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _in_text_of_any_case,
    FilterOperator.ALL: lambda stored, value: all(part in stored for part in value),
    FilterOperator.ANY: lambda stored, value: any(part in stored for part in value),
}
