"""The decisions of one call about its matches: which of them the policies keep, and when they have enough. Private.

A call decides all or nothing: the matches wait in a list until whoever made the call takes note of the decisions. So an
exception in the middle, a check that fails or a cancelled task costs no match.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, Generic, TypeVar

from nextk.until.counting import read_verdicts, refuse_check_of_one
from nextk.until.effects import CallCheck
from nextk.until.policy import Candidate
from nextk.until.policy_set import PolicySet

M = TypeVar("M")
T = TypeVar("T")

NO_TEXT = "no_text"
"""The cause of a drop if no text is found in a match."""
MAX_BATCH = 200
"""The largest number of matches to which the batches of a check grow, each twice the last."""


class Decisions(ABC, Generic[M, T]):
    """The decisions of one call. Subclasses say what a match is and what becomes of one that is kept.

    Args:
        waiting: The matches that wait, best first. Others may be appended between two calls of `examine`.
        policies: The policies that decide.
        batch: The number of matches that a check is asked about together at first.

    Attributes:
        kept: The results.
        dropped: The number of matches that were dropped, by cause.
        set_aside: The matches for which the call has no room.
        position: The index of the first match that is not decided.
        stop_reason: The name of the policy that has enough; `None` if none has.
        policies: The policies that decide.
    """

    def __init__(self, waiting: Sequence[M], policies: PolicySet, batch: int) -> None:
        self.kept: list[T] = []
        self.dropped: dict[str, int] = {}
        self.set_aside: list[M] = []
        self.position = 0
        self.stop_reason: str | None = None
        self.policies = policies
        self._waiting = waiting
        self._batch = batch
        self._previewed = not policies.lookahead
        self._candidates: dict[int, Candidate] = {}  # of the matches that were read ahead, by position
        self._denied: dict[int, str] = {}  # the check that denied a match, by position
        self._checked = 0  # the position up to which matches were checked

    @property
    def done(self) -> bool:
        """Whether no further match is needed."""
        return self.stop_reason is not None

    def needs_lookahead(self) -> bool:
        """Return whether a policy has to see more scores before the first match is decided."""
        return not self._previewed and len(self._waiting) < self.policies.lookahead

    def examine(self) -> Generator[CallCheck, Any, None]:
        """Decide the waiting matches, one after another, until there are enough results or no match is left."""
        if not self._previewed:
            self._previewed = True
            self.policies.look_ahead([self._score(match) for match in self._waiting[: self.policies.lookahead]])
        while self.position < len(self._waiting) and not self.done:
            if self.policies.checks and self.position == self._checked:
                yield from self._check()
            self._decide()
            if self.policies.observers:
                yield from self._observe(flush=self.position == len(self._waiting))
            self._check_stop()
        if self.policies.observers:
            yield from self._observe(flush=True)
            if (reason := self.policies.stop_reason()) is not None:  # the call was ended otherwise, but there is enough
                self._stop_by(reason)

    @abstractmethod
    def _score(self, match: M) -> float:
        """Return the score of a match, which policies may see before the first match is decided."""

    @abstractmethod
    def _read(self, position: int) -> Candidate:
        """Return the match at a position as the policies see it; its item is `None` if it has no text."""

    @abstractmethod
    def _keep(self, position: int, candidate: Candidate) -> None:
        """Add the match at a position to the results."""

    def _stop_by(self, reason: str | None) -> None:
        """Take note of the policy that has enough, or of none."""
        self.stop_reason = reason

    def _check_stop(self) -> None:
        self._stop_by(self.policies.stop_reason())

    def _count_drop(self, cause: str) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + 1

    def _candidate(self, position: int) -> Candidate:
        if position not in self._candidates:
            self._candidates[position] = self._read(position)
        return self._candidates[position]

    def _decide(self) -> None:
        candidate = self._candidate(self.position)
        denied = NO_TEXT if candidate.item is None else self._denied.get(self.position)
        if (cause := self.policies.drop_cause(candidate, denied)) is not None:
            self._count_drop(cause)
        elif not self.policies.fits(candidate):
            self.set_aside.append(self._waiting[self.position])
        else:
            self.policies.add(candidate)
            self._keep(self.position, candidate)
        self._candidates.pop(self.position, None)
        self.position += 1

    def _observe(self, *, flush: bool) -> Generator[CallCheck, Any, None]:
        """Call the function of each observer with the results that were kept."""
        for state in self.policies.observers:
            if candidates := list(state.next_batch(flush=flush)):
                state.learn(candidates, (yield CallCheck(state.observe, [candidate.item for candidate in candidates])))

    def _check(self) -> Generator[CallCheck, Any, None]:
        """Call the checks with the next matches together; each sees those that the checks before it permitted."""
        self._checked = min(len(self._waiting), self.position + self._batch)
        self._batch = max(self._batch, min(2 * self._batch, MAX_BATCH))
        ahead = range(self.position, self._checked)
        positions = [position for position in ahead if self._candidate(position).item is not None]
        for leaf, state in self.policies.checks:
            if not positions:
                break
            items = [self._candidate(position).item for position in positions]
            given = list(items)  # a list of its own, which the check may change
            try:
                answer = yield CallCheck(state.check, given)
            except (AttributeError, TypeError) as error:
                refuse_check_of_one(error, given)
                raise
            verdicts = read_verdicts(answer, len(items))
            self._denied |= {
                position: leaf.name for position, verdict in zip(positions, verdicts, strict=True) if not verdict
            }
            positions = [position for position, verdict in zip(positions, verdicts, strict=True) if verdict]
