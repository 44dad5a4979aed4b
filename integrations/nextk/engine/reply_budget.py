"""The bytes that a reply may have, which are counted while its records are read, so that it is refused in time.

A record counts with its longest spelling in JSON, so that no reply is larger than its budget. A call without a budget,
as every call in process is, may return any number of bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TypeVar

import orjson

from nextk.engine.values import Match
from nextk.errors import RefusedError

__all__ = ["READ_AT_ONCE", "ReplyRefused", "read_at_once", "spend", "within_budget"]

T = TypeVar("T")

READ_AT_ONCE = 64
"""The records that are read before they are counted. Each is read whole, and may have more than a megabyte."""

_RECORD = 160  # bytes of the names of all fields of a record, their punctuation, and a score
_FLOAT = len("-0.0000063184107,")  # no float32 takes more: those below 1e-6 are written with an exponent
_INT32 = len("-2147483648,")


class ReplyRefused(RefusedError):
    """The reply would be larger than its budget. Nothing of it was sent, and a request for less may get it."""


class _Budget:
    """Counts the bytes that one reply may still take."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size


_budget: ContextVar[_Budget | None] = ContextVar("reply_budget", default=None)


def within_budget(size: int, call: Callable[[], T]) -> T:
    """Make a call whose reply may have at most so many bytes.

    Args:
        size: The number of bytes.
        call: The call. All records that are read for it count, over all queries of a batch.

    Raises:
        ReplyRefused: The records would take more bytes. The status is 422.
    """
    token = _budget.set(_Budget(size))
    try:
        return call()
    finally:
        _budget.reset(token)


def read_at_once(count: int) -> int:
    """Return how many of some records of a reply may be read before they are counted.

    Args:
        count: The number of records that the reply still needs.
    """
    return count if _budget.get() is None else min(count, READ_AT_ONCE)


def spend(matches: Iterable[Match], times: int = 1) -> None:
    """Count records of the reply that is being made.

    Args:
        matches: The records, each with all fields that the reply has of it.
        times: How often the reply has each. Default 1.

    Raises:
        ReplyRefused: The budget is exceeded.
    """
    budget = _budget.get()
    if budget is None:
        return
    sizes = [(match.id, _size(match)) for match in matches]
    budget.left -= times * sum(size for _, size in sizes)
    if budget.left < 0:
        raise ReplyRefused(_advice(budget.size, sizes), 422)


def _advice(budget: int, sizes: Sequence[tuple[str, int]]) -> str:
    """Return what to do, by the ids and sizes of the records that were counted last."""
    for id_, size in sizes:
        if size > budget:
            name = orjson.dumps(id_).decode()
            return (
                f"The record {name} alone takes more than the {budget} bytes of a reply: request it without vectors, "
                "metadata or data. To get past it in a resumable query, start the query again without them"
            )
    return (
        f"The reply would be larger than {budget} bytes: request fewer records at a time, or leave out vectors, "
        "metadata or data"
    )


def _size(match: Match) -> int:
    """Return the largest number of bytes that a record takes in JSON."""
    size = _RECORD + len(orjson.dumps(match.id))
    if match.vector is not None:
        size += _FLOAT * len(match.vector)
    if match.sparse_vector is not None:
        size += (_INT32 + _FLOAT) * len(match.sparse_vector.indices)
    if match.metadata is not None:
        size += len(match.metadata) if match.metadata.isascii() else len(match.metadata.encode())
    if match.data is not None:
        size += len(orjson.dumps(match.data))
    return size
