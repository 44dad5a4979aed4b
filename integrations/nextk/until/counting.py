"""Policies that count matches, permitted matches, or different keys such as sources."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nextk.arguments import require_count, written
from nextk.errors import ClientError
from nextk.until.policy import BatchCheck, Candidate, Policy, PolicyState


@dataclass(frozen=True)
class MaxResults(Policy):
    """Keeps every match, and stops when there are `n` of them.

    Args:
        n: The number of matches, at least 1.

    Raises:
        ClientError: `n` is not a whole number of at least 1.
    """

    drops: ClassVar[bool] = False
    n: int

    def __post_init__(self) -> None:
        require_count(self.n, "n")

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make a state that counts the matches of one call."""
        return _MatchCount(self)


class _MatchCount(PolicyState):
    def __init__(self, policy: "MaxResults | Accepted") -> None:
        super().__init__(policy)
        self.first_pull = policy.n

    def enough(self) -> bool:
        return bool(self.kept >= self.policy.n)


@dataclass(frozen=True)
class Accepted(Policy):
    """Keeps the matches that your check permits, and stops when there are `n` of them.

    The check may ask for permissions, test whether a document is valid, or have a model grade it. It fails closed: a
    match that it does not permit is never handed out, and no other policy sees it, except that policies with
    `scores_only` see its score. If the check raises, the call ends with that exception and hands out nothing. If it
    does not return one bool for each match, the call ends with a `ClientError` and hands out nothing. An answer is
    valid for one call: a match that waits for the next call is checked again.

    As a search's own policy (`open(until=...)`) it is pinned in cursors: a search is only resumed with the same check,
    which counts by what `Policy.identity` says.

    Args:
        n: The number of permitted matches, at least 1.
        check: A function that takes a list of what the retriever returns (`Document`s or nodes) and returns a list of
            bools, one for each. It may be a coroutine function where the search is asynchronous.

    Raises:
        ClientError: `n` is not a whole number of at least 1, or `check` cannot be called, or is annotated to return a
            single bool.
    """

    n: int
    check: Callable[[list[Any]], Sequence[bool] | Awaitable[Sequence[bool]]]

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        if not callable(self.check):
            message = f"check={written(self.check)} cannot be called: give a function from list to list[bool]"
            raise ClientError(message)
        if _return_annotation(self.check) in (bool, "bool"):
            message = f"check={written(self.check)} returns one bool: {_ONE_BOOL_EACH}"
            raise ClientError(message)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make a state that asks the check during one call."""
        return _CheckState(self)


class _CheckState(_MatchCount, BatchCheck):
    def __init__(self, policy: Accepted) -> None:
        super().__init__(policy)
        self.check = policy.check


_ONE_BOOL_EACH = (
    "the check gets a list of documents (or nodes) and returns one bool for each, "
    "as in lambda documents: [is_permitted(document) for document in documents]"
)


def _return_annotation(check: Callable[..., Any]) -> object:
    return getattr(check, "__annotations__", {}).get("return")


def refuse_check_of_one(error: AttributeError | TypeError, items: list[Any]) -> None:
    """Explain the failure of a check that took the list of matches for a single match.

    Args:
        error: The exception that the check raised.
        items: The very list that the check was given.

    Raises:
        ClientError: The check failed on that list, which it asked for what only a match has. The error is its cause.
    """
    if error.obj is items if isinstance(error, AttributeError) else _failed_beside(error, items):
        message = f"the check failed on the list that it was given ({error}): {_ONE_BOOL_EACH}"
        raise ClientError(message) from error


def _failed_beside(error: TypeError, items: list[Any]) -> bool:
    """Return whether the list was among the variables of the function that failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and any(value is items for value in trace.tb_frame.f_locals.values())


def read_verdicts(answer: object, count: int) -> list[bool]:
    """Read the answer of a check.

    Args:
        answer: What the check has returned.
        count: The number of matches that it was asked about.

    Returns:
        One bool for each match.

    Raises:
        ClientError: The answer is not one bool for each match. The message shows no match.
    """
    try:
        verdicts = list(answer)  # type: ignore[call-overload]
    except TypeError:
        verdicts = None
    if verdicts is None or isinstance(answer, str | bytes | dict | set | frozenset):
        message = f"the check returned {type(answer).__name__}, and has to return a list of bools: {_ONE_BOOL_EACH}"
        raise ClientError(message)
    if len(verdicts) != count:
        message = f"the check returned {len(verdicts)} verdicts on {count} rows: it has to return one bool for each row"
        raise ClientError(message)
    others = [type(one).__name__ for one in verdicts if not _is_bool(one)]
    if others:  # its type alone: a check that returns its matches must not have them shown in an error
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
    """Keeps the best matches of each key, and stops when there are `n` different keys.

    Keys are, for instance, sources, parents or authors. Matches without the key are dropped. As a search's own policy
    (`open(until=...)`) it remembers the keys from call to call; as the policy of one call it does not.

    Args:
        key: The name of a metadata field, or a function that takes what the retriever returns and gives a string, a
            number or a bool, or `None` for no key.
        n: The number of different keys, at least 1.
        per_key: The number of matches kept of one key, the best ones. Default: 1.

    Raises:
        ClientError: `n` or `per_key` is not a whole number of at least 1, or `key` is neither a string nor a function.
    """

    key: str | Callable[[Any], Any]
    n: int
    per_key: int = 1

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        require_count(self.per_key, "per_key")
        if not isinstance(self.key, str) and not callable(self.key):
            message = f"key={written(self.key)} is neither a key of the metadata nor a function"
            raise ClientError(message)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that counts the keys of one call, after those in `memory`."""
        return _DistinctState(self, memory)

    def key_of(self, candidate: Candidate) -> str | None:
        """Return the key of a match as JSON text, in which 1 and "1" differ; `None` if it has none.

        Args:
            candidate: The match.

        Raises:
            ClientError: The key is not a string, a number or a bool.
        """
        key = candidate.metadata.get(self.key) if isinstance(self.key, str) else self.key(candidate.item)
        if key is None:
            return None
        try:
            return json.dumps(key if isinstance(key, str | int | float) else {key})
        except (TypeError, ValueError):  # also for a whole number of more digits than Python writes
            message = f"the key of row {candidate.id!r} is {written(key)}: it has to be a string, a number or a bool"
            raise ClientError(message) from None


class _DistinctState(PolicyState):
    def __init__(self, policy: DistinctBy, memory: dict[str, Any]) -> None:
        super().__init__(policy)
        self.first_pull = policy.n
        self._memory = memory
        self._new: set[str] = set()
        self._key: str | None = None  # of the match that is being decided

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
