"""What a policy is: the written contract, for those that come with nextk and for your own.

A policy is a frozen description: it can be shared, compared, and used by any number of searches at once. For every call
on a search it makes a `PolicyState`, which is shown one row after another, best first. Ten lines make one of your own:

```python
class Fresh(Policy):
    '''Until `n` rows that are not older than a year.'''

    def __init__(self, n: int, year: int) -> None:
        self.n, self.year = n, year

    def new_state(self, memory):
        return FreshState(self)


class FreshState(PolicyState):
    def keeps(self, candidate):
        return candidate.metadata["year"] >= self.policy.year

    def enough(self):
        return self.kept == self.policy.n
```

What a judge may rely on, and what it owes:

1. It sees each row once a call, in the order of the search. A row that another policy has dropped is not shown to it,
   above all none that an `Accepted` has denied. Only policies of `scores_only` see every row, and a check is asked
   about several rows at once, before any of them is judged.
2. `keeps` says whether the row may be handed out; then, if every policy keeps it, `fits` whether there is room for it
   in this call; then `add` counts it. In `keeps` and `fits` a row is only on its way, and may still be dropped.
3. An exception is the caller's, as it is. The call has then decided nothing: its rows wait, and the next call judges
   them anew, with a new judge.
4. The bounds of a search (`max_results`, `max_pulls`, `deadline`) hold whatever a policy says.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nextk.errors import ClientError


class Candidate:
    """A row under judgement.

    Attributes:
        id: Of the record.
        score: Higher is nearer.
        best_score: The score of the first row of this search.
        metadata: As stored.
        item: What the retriever makes of the row: a LangChain `Document`, a LlamaIndex `NodeWithScore`; `None` where
            that finds no text in it.
        offered_before: Whether it was set aside by an earlier call.
    """

    __slots__ = ("_text_of", "best_score", "id", "item", "metadata", "offered_before", "score")

    def __init__(
        self,
        id: str,
        score: float,
        item: Any = None,
        *,
        best_score: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        text_of: Callable[[Any], str] = str,
        offered_before: bool = False,
    ) -> None:
        self.id = id
        self.score = score
        self.best_score = score if best_score is None else best_score
        self.metadata: Mapping[str, Any] = {} if metadata is None else metadata
        self.item = item
        self.offered_before = offered_before
        self._text_of = text_of

    @property
    def text(self) -> str:
        """The text that the row would add to a prompt."""
        return self._text_of(self.item)

    def __repr__(self) -> str:
        return f"Candidate({self.id!r}, {self.score!r})"


class Policy(ABC):
    """Until what a search goes on, and which rows it keeps. Frozen: what a call counts is in its `PolicyState`.

    Attributes:
        scores_only: Whether it looks at nothing but scores. Then it is shown every row, before any check, and it is
            refused on fused scores, which are made of ranks and say nothing about nearness. It is shown the score and
            nothing else.
        drops: Whether it may drop rows.
    """

    scores_only: ClassVar[bool] = False
    drops: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What reports call it, as the reason of a stop and as the cause of a drop: `MinScore` is `"min_score"`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def memory_name(self) -> str:
        """Whose memory it is: a search that is resumed with policies of other names begins with empty ones."""
        return self.name

    @abstractmethod
    def new_state(self, memory: dict[str, Any]) -> "PolicyState":
        """Begin a call.

        Args:
            memory: What the judge of an earlier call wrote here, where the policy is the search's own; else empty. It
                goes into cursors, so JSON only. What a failed call writes is forgotten.
        """

    def leaves(self) -> "list[Policy]":
        """The policies that this one is made of: itself, unless it is several."""
        return [self]

    def stop_reason(self, leaf_reasons: Iterator[str | None]) -> str | None:
        """Why to stop, from what each of `leaves` says, in their order; `None` to go on."""
        return next(leaf_reasons)

    def __or__(self, other: "Policy") -> "Policy":
        """Stop when either says so."""
        return _Either(self, _policy(other))

    def __and__(self, other: "Policy") -> "Policy":
        """Stop when both say so."""
        return _Both(self, _policy(other))


class PolicyState:
    """A policy at work, during one call.

    Attributes:
        policy: Whose judge it is.
        kept: How many rows this call has kept so far.
        lookahead: How many rows `preview` wants to see before the first one is judged.
        first_pull: How many rows the first pull should bring; 0 for no idea.
    """

    lookahead: int = 0
    first_pull: int = 0

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.kept = 0

    def preview(self, scores: Sequence[float]) -> None:
        """See the scores of the rows to come, `lookahead` of them or as many as there are."""

    def keeps(self, candidate: Candidate) -> bool:  # noqa: ARG002
        """Whether the row may be handed out; else it is dropped, for this call and later ones."""
        return True

    def fits(self, candidate: Candidate) -> bool:  # noqa: ARG002
        """Whether there is room for the row in this call; else it is set aside, and later calls are offered it."""
        return True

    def add(self, candidate: Candidate) -> None:
        """Count a row that was kept."""

    def enough(self) -> bool:
        """Whether to stop; asked after every row."""
        return False


class BatchCheck(PolicyState):
    """A judge that is asked about many rows at once, and that may have to be awaited."""

    check: Callable[[list[Any]], Any]
    """Takes items; returns a bool for each, or an awaitable of that."""


class BatchObserver(PolicyState):
    """A judge that asks about many rows at once, after they were kept, and that may have to be awaited.

    It permits nothing, and it sees nothing that another policy has dropped or set aside.

    Attributes:
        unobserved: The rows that were kept and that it has not asked about.
    """

    observe: Callable[[list[Any]], Any]
    """Takes items; returns an answer, or an awaitable of it."""

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        self.unobserved: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Count a row that was kept."""
        self.unobserved.append(candidate)

    def next_batch(self, *, flush: bool) -> list[Candidate]:
        """The rows to ask about now; none, to go on without asking.

        Args:
            flush: Whether no row is left to judge, until more are pulled or for good.
        """
        return self.unobserved if flush else []

    def learn(self, candidates: list[Candidate], answer: Any) -> None:
        """Take note of an answer, before `enough` is asked."""


class _Combination(Policy):
    def __init__(self, *parts: Policy) -> None:
        self.parts = parts

    @property
    def name(self) -> str:
        return self._sign.join(part.name for part in self.parts)

    _sign: ClassVar[str]

    def __repr__(self) -> str:
        return f"({self._sign.join(map(repr, self.parts))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Combination) and type(other) is type(self) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash((type(self), self.parts))

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        message = "a combination has no judge of its own: ask its leaves"
        raise TypeError(message)

    def leaves(self) -> list[Policy]:
        return [leaf for part in self.parts for leaf in part.leaves()]


class _Either(_Combination):
    """Stops when one of its parts does."""

    _sign = " | "

    def stop_reason(self, leaf_reasons: Iterator[str | None]) -> str | None:
        """The first reason that there is."""
        said = [
            part.stop_reason(leaf_reasons) for part in self.parts
        ]  # all of them: each takes its share of the reasons
        return next((reason for reason in said if reason is not None), None)


class _Both(_Combination):
    """Stops when each of its parts does."""

    _sign = " & "

    def stop_reason(self, leaf_reasons: Iterator[str | None]) -> str | None:
        """Every reason, or none."""
        said = [reason for part in self.parts if (reason := part.stop_reason(leaf_reasons)) is not None]
        return self._sign.join(said) if len(said) == len(self.parts) else None


def _policy(given: object) -> Policy:
    if not isinstance(given, Policy):
        message = f"{given!r} is not a policy: join policies of nextk.until with | and &"
        raise ClientError(message)
    return given


def require_policy(given: object, name: str) -> Policy:
    """Refuse what is not a policy.

    Raises:
        ClientError: It is something else; the message names the argument.
    """
    if not isinstance(given, Policy):
        message = f"{name}={given!r} is not a policy: give one of nextk.until, such as MaxResults(10)"
        raise ClientError(message)
    return given
