"""Policies that count: rows, permitted rows, sources."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nextk.arguments import require_count
from nextk.errors import ClientError
from nextk.until.policy import BatchCheck, Candidate, Policy, PolicyState


@dataclass(frozen=True)
class MaxResults(Policy):
    """Until there are `n` rows.

    Raises:
        ClientError: `n` is not a whole number of at least 1.
    """

    drops: ClassVar[bool] = False
    n: int

    def __post_init__(self) -> None:
        require_count(self.n, "n")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Count rows."""
        return _RowCount(self)


class _RowCount(PolicyState):
    def __init__(self, policy: "MaxResults | Accepted") -> None:
        super().__init__(policy)
        self.first_pull = policy.n

    def enough(self) -> bool:
        return bool(self.kept >= self.policy.n)


@dataclass(frozen=True)
class Accepted(Policy):
    """Until there are `n` rows that a check of yours permits: permissions, a validity test, a grader.

    It fails closed. A row that is not permitted is shown to no later policy (its score is, to those of scores alone)
    and is not handed out. A check that raises ends the call with its exception, and nothing of it is handed out; so
    does an answer that is not one bool for each row. Verdicts hold for one call: a row that waits for the next one is
    checked again then.

    Args:
        n: How many.
        check: Takes a list of what the retriever returns (`Document`s, nodes) and returns a list of bools, one for
            each; blocking, or a coroutine function where the search is asynchronous.

    Raises:
        ClientError: `n` is not a whole number of at least 1, or `check` cannot be called.
    """

    n: int
    check: Callable[[list[Any]], Sequence[bool] | Awaitable[Sequence[bool]]]

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        if not callable(self.check):
            message = f"check={self.check!r} cannot be called: give a function from list to list[bool]"
            raise ClientError(message)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Ask the check."""
        return _CheckState(self)


class _CheckState(_RowCount, BatchCheck):
    def __init__(self, policy: Accepted) -> None:
        super().__init__(policy)
        self.check = policy.check


def read_verdicts(answer: object, count: int) -> list[bool]:
    """What a check said of `count` rows.

    Raises:
        ClientError: It is not one bool for each.
    """
    try:
        verdicts = list(answer)  # type: ignore[call-overload]
    except TypeError:
        verdicts = None
    if verdicts is None or isinstance(answer, str | bytes | dict | set | frozenset):
        message = f"the check returned {type(answer).__name__}: it has to return a list of bools, one for each row"
        raise ClientError(message)
    if len(verdicts) != count:
        message = f"the check returned {len(verdicts)} verdicts on {count} rows: it has to return one bool for each row"
        raise ClientError(message)
    others = [type(one).__name__ for one in verdicts if not _is_bool(one)]
    if others:  # its type alone: a check that returns its rows must not have them shown in an error
        message = f"the check returned {others[0]} as a verdict: only True permits a row, and only False denies it"
        raise ClientError(message)
    return [bool(one) for one in verdicts]


def _is_bool(value: object) -> bool:
    if isinstance(value, bool):
        return True
    numpys = getattr(getattr(value, "dtype", None), "kind", None) == "b"
    return numpys and getattr(value, "shape", None) == ()


@dataclass(frozen=True)
class DistinctBy(Policy):
    """Until there are rows of `n` different keys: sources, parents, authors.

    As a search's own policy (`open(until=...)`) it remembers the keys from call to call. A row without the key is
    dropped.

    Args:
        key: A key of the metadata, or a function of what the retriever returns that gives a string, a number or a bool;
            `None` for no key. A cursor knows a function by where it stands in your code: once that has moved, a resumed
            search begins with no key remembered.
        n: How many keys.
        per_key: How many rows of one key are kept; the best ones.

    Raises:
        ClientError: A number is not a whole one of at least 1, or `key` is neither a string nor a function.
    """

    key: str | Callable[[Any], Any]
    n: int
    per_key: int = 1

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        require_count(self.per_key, "per_key")
        if not isinstance(self.key, str) and not callable(self.key):
            message = f"key={self.key!r} is neither a key of the metadata nor a function"
            raise ClientError(message)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Count keys."""
        return _DistinctState(self, memory)

    @property
    def memory_name(self) -> str:
        """With the key, since keys of another kind would mean nothing."""
        if isinstance(self.key, str):
            return f"{self.name} {self.key}"
        name = getattr(self.key, "__qualname__", type(self.key).__qualname__)
        line = getattr(getattr(self.key, "__code__", None), "co_firstlineno", "")  # several lambdas have one name
        return f"{self.name} {getattr(self.key, '__module__', '')}.{name}:{line}"

    def key_of(self, candidate: Candidate) -> str | None:
        """The key of a row, as JSON: so 1 and "1" differ, and memory is plain data.

        Raises:
            ClientError: It is not a string, a number or a bool.
        """
        key = candidate.metadata.get(self.key) if isinstance(self.key, str) else self.key(candidate.item)
        if key is None:
            return None
        if not isinstance(key, str | int | float):
            message = f"the key of row {candidate.id!r} is {key!r}: it has to be a string, a number or a bool"
            raise ClientError(message)
        return json.dumps(key)


class _DistinctState(PolicyState):
    def __init__(self, policy: DistinctBy, memory: dict[str, Any]) -> None:
        super().__init__(policy)
        self.first_pull = policy.n
        self._memory = memory
        self._new: set[str] = set()
        self._key: str | None = None  # of the row under judgement

    def keeps(self, candidate: Candidate) -> bool:
        self._key = self.policy.key_of(candidate)
        return self._key is not None and self._memory.get(self._key, 0) < self.policy.per_key

    def add(self, candidate: Candidate) -> None:  # noqa: ARG002
        assert self._key is not None
        if self._key not in self._memory:
            self._new.add(self._key)
        self._memory[self._key] = self._memory.get(self._key, 0) + 1

    def enough(self) -> bool:
        return bool(len(self._new) >= self.policy.n)
