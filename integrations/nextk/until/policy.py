"""The contract of stopping policies, for those that come with nextk and for your own.

A policy is two classes. The `Policy` holds the parameters and never changes, so that it can be shared, compared and
used by any number of searches at once. For every call on a search it makes a new `PolicyState`, which counts. The
search shows the matches to the state one after another, best first. Ten lines make a policy of your own:

```python
class Fresh(Policy):
    '''Keeps the matches of at least `year`, and stops when there are `n` of them.'''

    def __init__(self, n: int, year: int) -> None:
        self.n, self.year = n, year

    def new_state(self, memory):
        return FreshState(self)


class FreshState(PolicyState):
    def keeps(self, candidate):
        return candidate.metadata.get("year", 0) >= self.policy.year

    def enough(self):
        return self.kept == self.policy.n
```

For each match the search calls the methods of the state in this order; a state overrides the ones that it needs:

1. `keeps(candidate)` says whether the match may be handed out. If any policy says no, the match is dropped.
2. `fits(candidate)` says whether the call has room for the match. If any policy says no, the match is set aside, and a
   later call on the search is offered it again.
3. `add(candidate)` counts the match. It is called only for matches that this call returns; `kept` has been raised by
   then.
4. `enough()` says whether the policy wants to stop. It is called after every match, also after one that was dropped.

`fits` and `enough` are called only on the states of the policy that ends the call. `fetch_next(n)` has none, and in
`fetch_until(policy)` it is the given policy; the search's own policy (`open(until=...)`) still keeps and counts.

What a state may rely on, and what is expected of it:

- **Each match once.** A state sees a match once a call, in the order of the search. It does not see the matches that
  another policy has dropped before, and never a match that an `Accepted` check has denied. There are two exceptions.
  Policies with `scores_only` see the score of every match. A `BatchCheck` is asked about several matches at once,
  before any of them is shown to the other states.
- **Not yet decided.** While `keeps` and `fits` run, another policy may still drop the match. So count kept
  matches in `add`.
- **All or nothing.** An exception that a policy raises reaches the caller unchanged. The call has then decided
  nothing: its matches wait, and the next call shows them to new states.
- **Bounds come first.** The bounds of a search (`max_results`, `max_pulls`, `deadline`) hold whatever a policy says.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nextk.arguments import written
from nextk.errors import ClientError
from nextk.until.identity import describe


class Candidate:
    """A match that is shown to policies, which decide whether a call returns it.

    Policies with `scores_only` see `score`, `best_score` and `offered_before`; for them the other attributes are empty.

    Attributes:
        id: The id of the record.
        score: The score of the match; higher is nearer.
        best_score: The score of the first match of this search.
        metadata: The metadata of the record, as stored; empty if it has none.
        item: The match as the retriever returns it: a LangChain `Document` or a LlamaIndex `NodeWithScore`. Matches in
            which the retriever finds no text are dropped before any policy sees their item.
        offered_before: Whether an earlier call on the search has set the match aside.
        text_of: A function that returns the text of the item, for `text`. Default `str`.
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
        """The text that the match would add to a prompt."""
        return self._text_of(self.item)

    def __repr__(self) -> str:
        return f"Candidate({self.id!r}, {self.score!r})"


class Policy(ABC):
    """Decides when a search has found enough, and which matches it keeps.

    A policy holds parameters and does not change: everything that a call counts is in its `PolicyState`. Subclasses
    implement `new_state`. `a | b` and `a & b` combine policies.

    Attributes:
        scores_only: Whether the policy looks at scores and at nothing else. It then sees the score of every match, also
            of matches that a check denies, but no id, metadata or text. Searches with fused scores refuse it, because
            fused scores are made of ranks and do not measure nearness. Default: `False`.
        drops: Whether the policy may drop matches. A policy that may is pinned in cursors: a search is not resumed
            without it. If none of the policies at work may, a search that has to do with a single page asks for no more
            matches than it may hand out. Default: `True`.
    """

    scores_only: ClassVar[bool] = False
    drops: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name of the policy in reports, as the reason of a stop and the cause of a drop.

        It is the name of the class in small letters with underscores: `MinScore` is `"min_score"`.
        """
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def identity(self) -> str:
        """The text by which a resumed search recognises the policy; a cursor holds a fingerprint of it.

        It is made of the class and of its parameters. A function among them counts by its module, its qualified name
        and the plain values that it is bound to: its defaults, its closure, the arguments of a `functools.partial`, and
        the texts that its object holds. A lambda counts by its code too. Lists, dicts and other objects that a function
        may change count by their type alone. Override it if a parameter has no part in what the policy decides.

        Where the policy `drops` matches, a cursor can only be resumed with a policy of the same identity; every policy
        finds its memory by it.
        """
        return describe(self)

    @abstractmethod
    def new_state(self, memory: dict[str, Any]) -> "PolicyState":
        """Make the state for one call on a search.

        Args:
            memory: What states of earlier calls on this search have stored, if the policy is the search's own
                (`open(until=...)`); otherwise an empty dict. A state may store values in it during the call. It is
                written into cursors, so it holds JSON only. If the call fails, what it has stored is forgotten.

        Returns:
            A new state, with every count at zero.
        """

    def leaves(self) -> "list[Policy]":
        """Return the policies that this one combines, from left to right; `[self]` if it combines none.

        Only leaves have states. In `a | (b & c)` they are `[a, b, c]`.
        """
        return [self]

    def stop_reason(self, leaf_reasons: Iterator[str | None]) -> str | None:
        """Return why the search has to stop, or `None` if it goes on.

        Args:
            leaf_reasons: One value for each of `leaves`, in their order: the name of the leaf if its state has enough,
                and `None` if it has not. A policy takes as many values from the iterator as it has leaves, and leaves
                the rest to the policies behind it.
        """
        return next(leaf_reasons)

    def __or__(self, other: "Policy") -> "Policy":
        """Return a policy that stops when at least one of the two has enough. It keeps a match only if both keep it.

        Raises:
            ClientError: `other` is not a policy.
        """
        return _Either(self, _require_operand(other))

    def __and__(self, other: "Policy") -> "Policy":
        """Return a policy that stops when both have enough. It keeps a match only if both keep it.

        Raises:
            ClientError: `other` is not a policy.
        """
        return _Both(self, _require_operand(other))


class PolicyState:
    """The counts of a policy during one call on a search.

    The default methods keep every match and never stop. A subclass that defines `__init__` has to call
    `super().__init__(policy)`.

    Args:
        policy: The policy that made this state.

    Attributes:
        policy: The policy that made this state.
        kept: The number of matches that this call has kept so far, counted by the search.
        lookahead: The number of scores that `preview` needs before the first match is decided. Default: 0, which means
            that `preview` is not called.
        first_pull: The number of matches that the first pull of the call should bring. Default: 0, which means that the
            state does not know.
    """

    lookahead: int = 0
    first_pull: int = 0

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.kept = 0

    def preview(self, scores: Sequence[float]) -> None:
        """Look at the scores of the coming matches; called once, before the first match is decided.

        Args:
            scores: The scores of the next `lookahead` matches, best first; fewer if the search has no more matches.
        """

    def keeps(self, candidate: Candidate) -> bool:  # noqa: ARG002
        """Return whether the match may be handed out. If not, it is dropped for this call and all later ones.

        Args:
            candidate: The match.
        """
        return True

    def fits(self, candidate: Candidate) -> bool:  # noqa: ARG002
        """Return whether this call has room for the match. If not, it is set aside and offered to later calls.

        Args:
            candidate: The match, which every policy keeps so far.
        """
        return True

    def add(self, candidate: Candidate) -> None:
        """Count a match that the call keeps; `kept` already includes it.

        Args:
            candidate: The match.
        """

    def enough(self) -> bool:
        """Return whether the policy wants the search to stop; called after every match."""
        return False


class BatchCheck(PolicyState):
    """A state that decides about many matches in one call of a function, which may be a coroutine function.

    The search calls `check` instead of `keeps`, before any of the matches is shown to a state that is not
    `scores_only`. A match that the function does not permit is dropped.
    """

    check: Callable[[list[Any]], Any]
    """The function. It takes a list of items, as the retriever returns them, and returns one bool for each, or an
    awaitable of that where the search is asynchronous."""


class BatchObserver(PolicyState):
    """A state that calls a function on many kept matches at once and learns from its answer, for example a reranker.

    It drops nothing: it sees only matches that all policies have kept. After each match, and whenever no match is left
    to decide, the search takes `next_batch()`. If the batch is not empty, the search calls `observe` with its items,
    awaits the result where necessary, and passes it to `learn`. Subclasses set `observe` and implement `learn`.

    Args:
        policy: The policy that made this state.

    Attributes:
        unobserved: The matches that were kept and not yet observed, in the order of the search. `learn` should empty
            it, since the default `next_batch` returns all of it.
    """

    observe: Callable[[list[Any]], Any]
    """The function. It takes a list of items, as the retriever returns them, and returns an answer of any type, or an
    awaitable of that where the search is asynchronous."""

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        self.unobserved: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Add a match that the call keeps to `unobserved`."""
        self.unobserved.append(candidate)

    def next_batch(self, *, flush: bool) -> list[Candidate]:
        """Return the matches to observe now; an empty list if the state waits for more matches.

        By default the matches of a whole page are observed together.

        Args:
            flush: Whether an incomplete batch should be observed, too, because no match is left to decide before the
                next pull, or because the call ends.
        """
        return self.unobserved if flush else []

    def learn(self, candidates: list[Candidate], answer: Any) -> None:
        """Take note of an answer; called before `enough`.

        Args:
            candidates: The batch that was observed.
            answer: What `observe` has returned for the items of the batch, already awaited.
        """


_MAX_DEPTH = 100


class _Combination(Policy):
    """A policy made of others. It has no state: a search makes the states of its leaves."""

    depth: int

    def __init__(self, *parts: Policy) -> None:
        # Parts of the same kind are joined as equals, so that only a change between | and & makes a combination deeper.
        same = [part.parts if type(part) is type(self) else (part,) for part in parts]
        self.parts: tuple[Policy, ...] = tuple(part for group in same for part in group)
        self.depth = 1 + max(part.depth if isinstance(part, _Combination) else 0 for part in self.parts)
        if self.depth > _MAX_DEPTH:
            message = f"| and & take turns more than {_MAX_DEPTH} levels deep: join fewer policies"
            raise ClientError(message)

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
        message = "a combination has no state of its own: make those of its leaves"
        raise TypeError(message)

    def leaves(self) -> list[Policy]:
        return [leaf for part in self.parts for leaf in part.leaves()]


class _Either(_Combination):
    """Stops when one of its parts stops."""

    _sign = " | "

    def stop_reason(self, leaf_reasons: Iterator[str | None]) -> str | None:
        """Return the reason of the first part that has one, or `None`."""
        reasons = [part.stop_reason(leaf_reasons) for part in self.parts]  # all parts: each takes its leaves' values
        return next((reason for reason in reasons if reason is not None), None)


class _Both(_Combination):
    """Stops when all of its parts stop."""

    _sign = " & "

    def stop_reason(self, leaf_reasons: Iterator[str | None]) -> str | None:
        """Return the reasons of all parts, joined; `None` if a part has none."""
        reasons = [reason for part in self.parts if (reason := part.stop_reason(leaf_reasons)) is not None]
        return self._sign.join(reasons) if len(reasons) == len(self.parts) else None


def _require_operand(given: object) -> Policy:
    if not isinstance(given, Policy):
        message = f"{written(given)} is not a policy: join policies of nextk.until with | and &"
        raise ClientError(message)
    return given


def require_policy(given: object, name: str) -> Policy:
    """Return an argument that is a policy.

    Args:
        given: The value of the argument.
        name: The name of the argument, for the error.

    Raises:
        ClientError: The value is not a policy; the message names the argument.
    """
    if not isinstance(given, Policy):
        message = f"{name}={written(given)} is not a policy: give one of nextk.until, such as MaxResults(10)"
        raise ClientError(message)
    return given
